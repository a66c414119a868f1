"""The fifth prize as submitted: some members by transposed kernels, the others by pseudo-labels."""

from __future__ import annotations

import copy

import torch

import tiny
from brief import brief
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Looped, Vmapped, unlearn_runs
from expunge.engine.training import Mixture, Reset
from expunge.methods.losses.answers import CE
from expunge.methods.losses.teachers import Mistakes
from expunge.methods.published.challenge import ct, ct_ensemble
from expunge.methods.steps.edits import Teach


def test_the_ensemble_sends_246_of_512_to_the_transposed_kernels() -> None:
    (mixture,) = ct_ensemble.steps
    assert isinstance(mixture, Mixture)
    assert mixture.shares == (246, 266)
    assert mixture.ways[0] == ct.steps
    ways = [mixture.way(seed) for seed in range(512)]
    assert (ways.count(0), ways.count(1)) == (246, 266)


def test_the_ensemble_s_other_way_learns_a_fresh_model_s_mistakes() -> None:
    teach, train = ct_ensemble.steps[0].ways[1]
    assert isinstance(teach, Teach)
    assert teach.steps[0] == Reset()
    assert teach.steps[1].objective == CE("retain")  # that never saw the forget set
    assert train.objective == CE("retain") + Mistakes("forget", "taught")
    run = tiny.run()
    teach(run)
    assert tiny.same(run.model, run.original)
    assert run.counts.examples == {"retain": 3 * 48}


def test_the_ensemble_is_stacked_by_way_as_alone() -> None:
    method, seeds, ends = brief(ct_ensemble), (0, 1, 2, 3, 4, 6), []
    original = frozen(tiny.made())
    for engine in (Vmapped(), Looped()):
        runs = [
            Run(copy.deepcopy(original).requires_grad_(True), original, tiny.problem(), seed)
            for seed in seeds
        ]
        *_, done = unlearn_runs(runs, method, engine)
        assert {one.receipt.engine for one in done} == {engine.label(3)}
        assert {one.receipt.method for one in done} == {method.sentence}
        ends.append(done)
    for stacked, alone in zip(*ends, strict=True):
        pairs = zip(stacked.model.parameters(), alone.model.parameters(), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        assert stacked.receipt.examples == alone.receipt.examples
