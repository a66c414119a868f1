"""Schedules and terms that the challenge's entries brought: values by hand, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

import tiny
from expunge.core.batch import Images
from expunge.core.schedules import Cosine, Linear, Listed, Slowed, Stairs
from expunge.core.term import Term, leaves
from expunge.core.view import Known, View
from expunge.engine.training import Train
from expunge.errors import BadSentence, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.losses.answers import CE, MSE
from expunge.methods.losses.classes import BalancedCE, WeightedCE
from expunge.methods.losses.noise import Jittered
from expunge.methods.losses.other_answers import gaussian
from expunge.methods.losses.teachers import EntropyMatch, Mistakes
from expunge.methods.selectors.judged import RandomTensors
from expunge.methods.selectors.places import Convs
from expunge.methods.steps.edits import Teach
from expunge.unlearn import unlearn

OURS = [[1.0, 2.0, -1.0], [0.0, 0.5, 3.0], [0.3, 0.1, 0.2]]
THEIRS = [[0.5, 0.5, 1.0], [-1.0, 0.3, 0.0], [4.0, 0.0, 0.0]]
RIGHT = [1, 0, 0]


def logp(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, dtype=float)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def see(**rest: Any) -> View:
    logits = {"forget": torch.tensor(OURS, dtype=torch.float64)}
    teachers = {"original": {"forget": torch.tensor(THEIRS, dtype=torch.float64)}}
    return tiny.view(logits, {"forget": torch.tensor(RIGHT)}, teachers, **rest)


def counted(term: Term, *counts: int) -> View:
    return see(known=Known({}, {repr(term): {"counts": torch.tensor(counts)}}))


SCHEDULES = [
    (Listed((3.0, 1.0)), {0.0: 3.0, 0.49: 3.0, 0.5: 1.0, 1.0: 1.0}),
    (Listed((1.0, 2.0, 3.0, 4.0, 5.0)), {i / 5: i + 1.0 for i in range(5)}),
    (Stairs(Cosine(2.0), 2), {0.0: 2.0, 0.3: 2.0, 0.5: 1.0, 0.9: 1.0, 1.0: 1.0}),
    (Stairs(Cosine(1.0), 3), {0.0: 1.0, 0.34: 0.75, 0.7: 0.25}),
    (Stairs(Linear(1.0), 4), {0.2: 1.0, 0.25: 0.75, 0.99: 0.25}),
]


@pytest.mark.parametrize(("schedule", "points"), SCHEDULES, ids=str)
def test_schedules_at_points_worked_out_by_hand(schedule: Any, points: dict[float, float]) -> None:
    for progress, wanted in points.items():
        assert schedule(progress) == pytest.approx(wanted, abs=1e-12)
        assert schedule.scaled(-3.0)(progress) == pytest.approx(-3 * wanted, abs=1e-12)
    assert parse(repr(schedule)) == schedule


# in floating point 1 / 49 * 49 is below 1
@pytest.mark.parametrize("count", [3, 5, 49])
def test_stretches_begin_where_epochs_do(count: int) -> None:
    listed = Listed(tuple(map(float, range(count))))
    steps = 13
    for epoch in range(count):
        for number in range(steps):
            # as descend counts: minibatches of the whole step, and as Repeat does: turns
            assert listed((epoch * steps + number) / (count * steps)) == epoch
            assert listed((epoch + number / steps) / count) == epoch


def test_schedules_refuse() -> None:
    for make in (lambda: Listed(()), lambda: Stairs(Cosine(1.0), 0)):
        with pytest.raises(BadSentence):
            make()


ENTROPY = -(np.exp(logp(OURS)) * logp(OURS)).sum(-1)
ITS_ENTROPY = -(np.exp(logp(THEIRS)) * logp(THEIRS)).sum(-1)
LOSSES = -logp(OURS)[range(3), RIGHT]


def weighted(weights: list[float]) -> float:
    each = np.asarray(weights)[RIGHT]
    return float((each * LOSSES).sum() / each.sum())


def test_weighted_ce_is_the_weighted_mean() -> None:
    term = WeightedCE("forget", (1.0, 0.05))
    assert float(term(see())) == pytest.approx(weighted([1.0, 0.05, 0.05]), rel=1e-12)
    assert float(WeightedCE("forget", (2.0,))(see())) == pytest.approx(LOSSES.mean(), rel=1e-12)


def test_weighted_ce_takes_its_last_weight_for_all_further_classes() -> None:
    many, few = WeightedCE("forget", (3.0, 1.0, 1.0, 9.0)), WeightedCE("forget", (3.0, 1.0))
    assert float(many(see())) == pytest.approx(float(few(see())), rel=1e-12)


@pytest.mark.parametrize("power", [-1.0, -0.1, 0.5])
def test_balanced_ce_weighs_by_counts(power: float) -> None:
    term = BalancedCE("forget", power)
    wanted = weighted([50.0**power, 2.0**power, 1.0])
    assert float(term(counted(term, 50, 2, 0))) == pytest.approx(wanted, rel=1e-12)
    # a class beyond the largest target has no example, and the model has it all the same
    assert float(term(counted(term, 50, 2))) == pytest.approx(wanted, rel=1e-12)


def test_balanced_ce_counts_the_whole_set() -> None:
    term, run = BalancedCE("retain"), tiny.run()
    counts = run.facts(term)["counts"]
    targets = tiny.pictures().targets[12:]
    assert counts.tolist() == [int((targets == c).sum()) for c in range(10)]
    assert run.counts.examples == {}


def test_entropy_match_is_the_squared_difference() -> None:
    wanted = ((ENTROPY - ITS_ENTROPY) ** 2).mean()
    assert float(EntropyMatch("forget")(see())) == pytest.approx(wanted, rel=1e-12)


def test_mistakes_are_learnt_where_the_teacher_errs() -> None:
    # the teacher says 2, 1 and 0; right are 1, 0 and 0: it errs on the first two
    said = -(logp(OURS)[0, 2] + logp(OURS)[1, 1]) / 2
    assert float(Mistakes("forget", "original")(see())) == pytest.approx(said, rel=1e-12)
    # it is sure of the first by 0.452, of the second by 0.497
    sure = np.exp(logp(THEIRS)).max(-1)
    term = Mistakes("forget", "original", confidence=float(sure[:2].mean()))
    assert float(term(see())) == pytest.approx(-logp(OURS)[1, 1], rel=1e-12)


def test_a_teacher_without_mistakes_teaches_nothing() -> None:
    logits = torch.tensor(OURS, requires_grad=True)
    answers = {"original": {"forget": torch.eye(3)[RIGHT] * 9}}
    view = tiny.view({"forget": logits}, {"forget": torch.tensor(RIGHT)}, answers)
    loss = Mistakes("forget", "original")(view)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros(3, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: WeightedCE("retain", ()),
        lambda: WeightedCE("retain", (1.0, 0.0)),
        lambda: Mistakes("forget", confidence=1.0),
        lambda: Mistakes("forget", teacher="nobody"),
        lambda: EntropyMatch("forget", teacher="nobody"),
        lambda: Jittered(CE("retain"), 0.0),
        lambda: RandomTensors(0),
        lambda: Slowed(Convs(), -0.1),
        lambda: Teach(()),
    ],
)
def test_words_refuse(make: Any) -> None:
    with pytest.raises(BadSentence):
        make()


def jittered_inputs(index: list[int], seed: int | Tensor = 3, progress: float = 0.5) -> Tensor:
    """What the model is shown in the place of a minibatch of zeros."""
    seen: list[Tensor] = []

    def model(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return inputs.flatten(1)[:, :4]

    zeros = torch.zeros(len(index), 1, 8, 8)
    batch = Images(zeros, torch.zeros(len(index), dtype=torch.int64), torch.tensor(index))
    term = Jittered(CE("retain"), 0.5) + Jittered(MSE("retain"), 0.5)
    view = View(model, {"retain": batch}, {"original": model}, {}, progress, seed)
    term(view)
    assert len(seen) == 2  # model and teacher, once each, for two terms of the same noise
    assert torch.equal(seen[0], seen[1])
    return seen[0]


def test_jitter_follows_the_example_the_seed_and_the_progress() -> None:
    first = jittered_inputs([4, 7, 9])
    assert torch.equal(first[[2, 0]], jittered_inputs([9, 4]))
    for other in (jittered_inputs([5, 8, 10]), jittered_inputs([4, 7, 9], seed=4)):
        assert not torch.isclose(first, other).any()
    assert not torch.isclose(first, jittered_inputs([4, 7, 9], progress=0.6)).any()
    assert torch.equal(first, jittered_inputs([4, 7, 9], seed=torch.tensor(3)))


def test_jitter_is_gaussian_and_independent() -> None:
    noise = gaussian(torch.arange(50), torch.zeros(50, 3, 16, 16, dtype=torch.float64), 11, 5)
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    rows = noise.reshape(50, -1)
    apart = np.corrcoef(rows.numpy())[np.triu_indices(50, 1)]
    assert np.abs(apart).max() < 5 / math.sqrt(rows.shape[1])
    beside = np.corrcoef(noise[..., :-1].flatten(), noise[..., 1:].flatten())[0, 1]
    assert abs(beside) < 4 / math.sqrt(noise.numel())


def test_two_strengths_of_jitter_do_not_share() -> None:
    seen: list[Tensor] = []
    inputs = torch.zeros(2, 1, 2, 2)
    batch = Images(inputs, torch.zeros(2, dtype=torch.int64), torch.arange(2))

    def model(shown: Tensor) -> Tensor:
        seen.append(shown)
        return shown.flatten(1)

    term = Jittered(CE("retain"), 0.1) + Jittered(CE("retain"), 0.2) + CE("retain")
    term(View(model, {"retain": batch}, {}, {}, 0.0, 0))
    assert len(seen) == 3
    assert torch.allclose(seen[1], 2 * seen[0])
    assert torch.equal(seen[2], inputs)


def test_jitter_of_tokens_is_refused() -> None:
    batch = Images(torch.ones(2, 3, dtype=torch.int64), torch.zeros(2).long(), torch.arange(2))
    view = View(lambda inputs: inputs, {"retain": batch}, {}, {}, 0.0, 0)
    with pytest.raises(Unsupported, match="tokens"):
        Jittered(CE("retain"))(view)


def test_a_jittered_term_keeps_its_facts() -> None:
    term = Jittered(BalancedCE("retain") + CE("forget"), 0.1)
    assert list(leaves(term)) == [BalancedCE("retain"), CE("forget")]
    done = unlearn(tiny.made(), Train(term, batch=24), tiny.problem())
    assert done.receipt.examples == {"retain": 48, "forget": 24}
