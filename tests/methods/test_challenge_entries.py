"""The challenge's entries do what their authors did, step by step, not what ports make of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import Tensor, nn

import tiny
from expunge.core.method import Method, Step, words_of
from expunge.core.schedules import SGD, Cosine
from expunge.engine.run import Run
from expunge.engine.training import Reset, Train, unrolled
from expunge.methods.losses.answers import CE, KL, MSE, Repel, Uniform
from expunge.methods.losses.noise import Jittered
from expunge.methods.published import PUBLISHED
from expunge.methods.published.challenge import CHALLENGE, ct, kde, msg, prmq, rni
from expunge.methods.selectors.places import Norms
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Noise
from expunge.unlearn import unlearn

State = dict[str, Tensor]
PRIZES = {
    "fcs": "first",
    "msg": "second",
    "cfw": "third",
    "prmq": "fourth",
    "ct": "fifth",
    "ct_ensemble": "fifth",
    "kde": "sixth",
    "rni": "seventh",
    "forget_cycles": "eighth",
}


def deep() -> nn.Sequential:
    """Five convolutions, one of them pointwise, and two linear layers: 14 tensors without norms."""
    layers: list[nn.Module] = []
    for before, after, size in ((1, 6, 3), (6, 8, 3), (8, 8, 1), (8, 8, 3), (8, 6, 3)):
        layers += [nn.Conv2d(before, after, size, padding=size // 2), nn.BatchNorm2d(after)]
    pooled = [nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, *pooled, nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 10))


def run_of(seed: int = 0) -> Run:
    original = tiny.made(deep)
    with torch.no_grad():  # normalisation that is not as a fresh one's, so that a reset shows
        for weight in original.parameters():
            if weight.ndim == 1:
                weight.add_(torch.linspace(0.1, 0.3, len(weight)))
    return tiny.run(original, tiny.problem(architecture=deep), seed)


def walk(method: Method, run: Run) -> Iterator[tuple[str, Step, State, State]]:
    """The steps one by one: place, step, and the state before and after."""
    for place, turn, step in unrolled(method.steps, seed=run.seed):
        before = tiny.state(run.model)
        run.place, run.turn = place, turn
        step(run)
        yield place, step, before, tiny.state(run.model)


def changed(before: State, after: State) -> set[str]:
    """The weights and statistics that a step touched; counters of minibatches aside."""
    return {n for n in before if "tracked" not in n and not torch.equal(before[n], after[n])}


def kernels(run: Run) -> dict[str, Tensor]:
    return {n: w.detach() for n, w in run.original.named_parameters() if w.ndim == 4}


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every minibatch, in order."""
    seen: list[float] = []
    original = torch.optim.SGD.step

    def noting(self: Any, *args: Any, **rest: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **rest)

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    return seen


def by_epoch(rates: list[float], epochs: int) -> list[float]:
    """One rate an epoch; the rates within an epoch are all the same."""
    length = len(rates) // epochs
    assert len(rates) == length * epochs
    cut = [rates[first : first + length] for first in range(0, len(rates), length)]
    assert all(len(set(epoch)) == 1 for epoch in cut)
    return [epoch[0] for epoch in cut]


def short(method: Method) -> Method:
    """The same with minibatches of 8: six an epoch on the 48 retained examples."""
    return replace(method, steps=tuple(map(_small, method.steps)))


def _small(step: Any) -> Any:
    if isinstance(step, Train):
        return replace(step, batch=8)
    if hasattr(step, "steps"):
        return replace(step, steps=tuple(map(_small, step.steps)))
    return step


def test_all_entries_are_published_with_their_prizes() -> None:
    assert [method.name for method in CHALLENGE] == list(PRIZES)
    for method in CHALLENGE:
        assert PUBLISHED[method.name] is method
        assert method.source.startswith(
            f"{PRIZES[method.name]} prize of the NeurIPS 2023 challenge"
        )


@pytest.mark.parametrize("name", PRIZES)
def test_only_the_sets_of_the_authors_are_read(name: str) -> None:
    sets = {"fcs": {"forget", "retain"}, "msg": {"forget", "retain"}, "kde": {"retain", "val"}}
    sets["ct_ensemble"] = {"forget", "retain"}
    assert set(PUBLISHED[name].sets) == sets.get(name, {"retain"})


@pytest.mark.parametrize("name", PRIZES)
def test_all_train_by_descent_with_momentum(name: str) -> None:
    for word in words_of(PUBLISHED[name].steps):
        if isinstance(word, Train):
            assert word.optimiser.momentum == 0.9
            decay = 0.0005 if name != "fcs" else 0.01 * ("CE" in repr(word.objective))
            assert word.optimiser == SGD(weight_decay=decay)


def test_fcs_goes_from_uniform_through_eight_cycles(rates: list[float]) -> None:
    plan = unrolled(PUBLISHED["fcs"].steps)
    objectives = [step.objective for _, _, step in plan]
    cycle = [Repel("forget", "retain", 1.15), CE("retain")]
    assert objectives == [Uniform("forget"), *cycle * 8]
    run = run_of()
    lengths = []
    for _ in walk(PUBLISHED["fcs"], run):
        lengths.append(len(rates))
    assert lengths == list(range(1, 18))  # 12 and 48 examples: a minibatch each
    assert rates[0] == 0.005
    assert rates[2::2] == [0.001 * 256 / 64] * 8
    # a cosine over all forget rounds together
    wanted = [1e-6 + (3e-4 - 1e-6) * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert rates[1::2] == pytest.approx(wanted, rel=1e-9)
    assert len(run.optimisers) == 3


def likeness(run: Run, rows: Tensor) -> State:
    """Size of the difference of the mean gradients on two sets, by plain autograd."""
    slopes = []
    for name, positions in (("retain", rows), ("forget", torch.arange(12))):
        twin = copy.deepcopy(run.original).requires_grad_(True)
        batch = run.data(name).batch(positions)
        F.cross_entropy(twin(batch.inputs), batch.targets).backward()
        slopes.append({n: w.grad for n, w in twin.named_parameters()})
    return {n: (slopes[0][n] - slopes[1][n]).abs() for n in slopes[0]}


def test_msg_draws_the_most_alike_30_percent_of_each_kernel_anew() -> None:
    run = run_of()
    _, step, before, after = next(walk(msg, run))
    assert isinstance(step, Reset)
    assert changed(before, after) == set(kernels(run))
    rows = torch.randperm(48, generator=run.stream("similar"))[
        :12
    ]  # as many as are to be forgotten
    sizes = likeness(run, rows)
    for name, weight in kernels(run).items():
        fresh = before[name] != after[name]
        assert int(fresh.sum()) == round(0.3 * weight.numel())
        assert sizes[name][fresh].max() < sizes[name][~fresh].min()
        scaled = after[name][fresh] / math.sqrt(2 / weight[:, 0].numel())
        assert kstest(scaled.numpy(), "norm").pvalue > 0.001


def test_msg_draws_other_retain_examples_for_each_member() -> None:
    found = []
    for seed in range(2):
        run = run_of(seed)
        _, _, before, after = next(walk(msg, run))
        found.append(before["2.weight"] != after["2.weight"])
    assert not torch.equal(*found)


def test_msg_trains_on_retain_alone_and_kept_kernels_at_a_tenth() -> None:
    reset, train = msg.steps
    assert train.objective == CE("retain")
    ends = {}
    for name in ("slowed", "plain"):
        run = run_of()
        reset(run)
        start = tiny.state(run.model)
        whole = replace(train, batch=48, epochs=1, lr=0.1)
        (whole if name == "slowed" else replace(whole, slowed=None))(run)
        ends[name] = tiny.state(run.model)
    for name, weight in kernels(run).items():
        fresh = start[name] != weight
        decay = 0.1 * 0.0005 * start[name]
        plain, slowed = (ends[n][name] - start[name] + decay for n in ("plain", "slowed"))
        assert torch.equal(slowed[fresh], plain[fresh])
        torch.testing.assert_close(slowed[~fresh], 0.1 * plain[~fresh], atol=1e-7, rtol=1e-3)
    for name in set(start) - set(kernels(run)):
        assert torch.equal(ends["plain"][name], ends["slowed"][name])


def test_msg_warms_up_and_cools_down_an_epoch_at_a_time(rates: list[float]) -> None:
    list(walk(short(msg), run_of()))
    wanted = [0.001 * part / 3 for part in (1, 2, 3, 2, 1)]
    assert by_epoch(rates, 5) == pytest.approx(wanted, rel=1e-12)


def test_cfw_confuses_the_stem_and_calms_down(rates: list[float]) -> None:
    run, spreads = run_of(), []
    for _, step, before, after in walk(short(PUBLISHED["cfw"]), run):
        if isinstance(step, Noise):
            assert changed(before, after) <= {"0.weight"}
            spreads.append(float((after["0.weight"] - before["0.weight"]).std()))
    assert spreads == pytest.approx([0.6, 0.0, 0.0, 0.005], rel=0.25)
    # one cosine and one momentum, through the noise before the last epoch
    assert by_epoch(rates, 4) == pytest.approx([Cosine(0.0007)(k / 4) for k in range(4)], rel=1e-12)
    assert len(run.optimisers) == 1


def test_prmq_draws_all_but_the_largest_hundredth_anew() -> None:
    run = run_of(1)
    _, _, before, after = next(walk(prmq, run))
    matrices = [n for n, w in run.original.named_parameters() if w.ndim > 1]
    assert changed(before, after) == set(matrices)
    old = torch.cat([before[n].flatten() for n in matrices])
    fresh = torch.cat([(before[n] != after[n]).flatten() for n in matrices])
    assert int(fresh.sum()) == round(0.99 * len(old))
    assert old[fresh].abs().max() < old[~fresh].abs().min()
    for name in matrices:
        drawn = after[name][before[name] != after[name]] * math.sqrt(before[name][0].numel())
        assert drawn.abs().max() <= 1
        assert kstest((drawn.numpy() + 1) / 2, "uniform").pvalue > 0.001


def test_prmq_trains_for_3_2_epochs_and_ends_in_half_precision(rates: list[float]) -> None:
    run = run_of()
    *_, (_, _, before, after) = walk(short(prmq), run)
    assert rates == [0.0005] * round(3.2 * 6)
    assert changed(before, after)
    for tensor in after.values():
        assert torch.equal(tensor.half().to(tensor.dtype), tensor)


def test_ct_mirrors_every_kernel_before_the_first_step(rates: list[float]) -> None:
    run = run_of()
    steps = walk(short(ct), run)
    _, _, before, after = next(steps)
    assert rates == []
    for name in kernels(run):
        assert torch.equal(after[name], before[name].swapaxes(2, 3))
    # the pointwise kernel is its own mirror image
    assert changed(before, after) == set(kernels(run)) - {"4.weight"}
    assert len(list(steps)) == 1
    assert by_epoch(rates, 3) == pytest.approx([0.001, 0.00075, 0.00025], rel=1e-12)
    assert ct.steps[1].objective == CE("retain")


def test_the_names_are_not_those_of_other_methods() -> None:
    """Ports elsewhere call a dampening of weights CT, and masked gradient ascent MSG."""
    assert not any(isinstance(word, Dampen) for word in words_of((ct, msg)))
    for method in (ct, msg):
        trains = [word for word in words_of(method.steps) if isinstance(word, Train)]
        assert [train.objective for train in trains] == [CE("retain")]


def test_kde_resets_both_ends_and_learns_from_the_original(rates: list[float]) -> None:
    run = run_of()
    steps = walk(short(kde), run)
    _, _, before, after = next(steps)
    assert changed(before, after) == {"0.weight", "15.weight", "15.bias"}
    warmup, repair = kde.steps[1:]
    assert (warmup.objective, warmup.epochs) == (0.04 * KL("val", "original", 5.0), 3)
    assert repair.objective == CE("retain") + 0.08 * KL("retain", "original", 5.0)
    next(steps)
    assert rates == [0.0009] * 3 * 5  # 40 examples in eights
    next(steps)
    assert by_epoch(rates[15:], 3) == pytest.approx([0.001, 0.00075, 0.00025], rel=1e-12)


def test_kde_s_divergence_is_the_authors_sum() -> None:
    """Cross-entropy, soft cross-entropy, divergence, at temperature 5 without its square."""
    drawn = torch.Generator().manual_seed(0)
    logits, theirs = torch.randn(2, 7, 10, generator=drawn)
    logits = logits.clone()
    logits.requires_grad_()
    targets = torch.arange(7)
    soft, said = (theirs / 5).softmax(-1), (logits / 5).log_softmax(-1)
    wanted = F.cross_entropy(logits, targets) - (soft * said).sum(-1).mean()
    wanted = wanted + F.kl_div(said, soft, reduction="batchmean")
    (slope,) = torch.autograd.grad(wanted, logits)
    answers = {"original": {"retain": theirs}}
    view = tiny.view({"retain": logits}, {"retain": targets}, answers)
    (ours,) = torch.autograd.grad(kde.steps[2].objective(view), logits)
    torch.testing.assert_close(ours, slope)


def parameters(run: Run) -> set[str]:
    return {name for name, _ in run.original.named_parameters()}


def norms(run: Run) -> set[str]:
    return {name for name, mask in run.mask(Norms()).items() if mask.any()}


def test_rni_trains_nine_chosen_tensors_and_the_norms(rates: list[float]) -> None:
    run = run_of()
    found = [(step, changed(b, a) & parameters(run)) for _, step, b, a in walk(short(rni), run)]
    assert found[0][1] == {"15.weight", "15.bias"}
    rounds = found[1:-1]
    chosen = [touched - norms(run) for step, touched in rounds if isinstance(step, Train)]
    assert [len(names) for names in chosen] == [9] * 5
    assert len(set(map(frozenset, chosen))) == 5
    # noise comes to six of the nine, and in the first round to none
    noisy = [touched for step, touched in rounds if isinstance(step, Noise)]
    assert [len(names) for names in noisy] == [6] * 4
    assert all(some < among for some, among in zip(noisy, chosen[1:], strict=True))
    for step, touched in rounds:
        assert norms(run) <= touched if isinstance(step, Train) else not norms(run) & touched
    assert found[-1][1] == parameters(run)
    assert by_epoch(rates, 9) == [0.0002] * 8 + [0.001]
    assert len(run.optimisers) == 6  # each round begins without momentum


def test_rni_s_noise_has_its_spread_and_members_differ() -> None:
    chosen = []
    for seed in range(3):
        steps = [s for s in walk(short(rni), run_of(seed)) if isinstance(s[1], Noise)]
        spread = [s[3][n] - s[2][n] for s in steps for n in changed(s[2], s[3])]
        assert float(torch.cat([d.flatten() for d in spread]).std()) == pytest.approx(0.04, rel=0.1)
        chosen.append(tuple(tuple(sorted(changed(s[2], s[3]))) for s in steps))
    assert len(set(chosen)) == 3


def test_forget_cycles_draw_six_tensors_anew_but_not_the_ends(rates: list[float]) -> None:
    method, found = PUBLISHED["forget_cycles"], []
    run = run_of()
    for _, step, before, after in walk(short(method), run):
        if isinstance(step, Reset):
            found.append(changed(before, after) & parameters(run))
    spared = {"4.weight", "4.bias", "5.weight", "5.bias", "15.weight", "15.bias"}
    assert len(found) == 4
    assert all(1 <= len(names) <= 6 and not names & spared for names in found)
    assert len(set(map(frozenset, found))) == 4
    assert by_epoch(rates, 5) == [0.0005, 0.001, 0.001, 0.001, 0.001]


def test_forget_cycles_keep_the_answers_to_noisy_pictures() -> None:
    objectives = [s.objective for _, _, s in unrolled(PUBLISHED["forget_cycles"].steps)[1::2]]
    assert objectives == [Jittered(MSE("retain", "original"), 0.01)] * 4


@pytest.mark.parametrize("name", PRIZES)
def test_an_entry_as_published_works_on_a_small_network(name: str) -> None:
    # seed 1 goes the ensemble's second way
    done = unlearn(tiny.made(), PUBLISHED[name], tiny.problem(), seed=1)
    assert torch.isfinite(done.model(tiny.pictures().inputs)).all()
    assert done.receipt.method == PUBLISHED[name].sentence
