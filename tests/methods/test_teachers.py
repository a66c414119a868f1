"""Methods that teach other answers: values by hand, and the faults of other people's code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import tiny
from brief import brief
from expunge.core.batch import Images, Subset, Tensors
from expunge.core.problem import Problem
from expunge.core.schedules import Steps
from expunge.core.term import Pooled, Term, leaves
from expunge.core.view import Known, View
from expunge.engine.loop import SingleModel, known_to
from expunge.engine.run import Run, run_steps
from expunge.engine.training import Repeat, Train, unrolled
from expunge.errors import BadSentence, Unsupported
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE, Tempered
from expunge.methods.losses.classes import AnyClass, OneClass, Relabel
from expunge.methods.losses.teachers import Gumbel, Reference, Without
from expunge.methods.published import PUBLISHED
from expunge.methods.sentences import as_method
from expunge.methods.steps import watched
from expunge.methods.steps.watched import Lotus, Rewind, Until
from expunge.unlearn import unlearn

FORGET = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0], [0.3, 0.1, 0.2]])
VAL = np.array([[0.5, 0.5, 1.0], [-1.0, 0.3, 0.0], [2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
TEACHER = np.array([[0.5, 0.5, 1.0], [-1.0, 0.3, 0.0], [4.0, 1.0, 2.0]])


def softmax(rows: Any) -> np.ndarray:
    shares = np.exp(np.asarray(rows, dtype=float))
    return shares / shares.sum(-1, keepdims=True)


def see(targets: tuple[int, ...] = (1, 0, 0), **rest: Any) -> View:
    logits = {"forget": torch.tensor(FORGET), "val": torch.tensor(VAL)}
    told = {"forget": torch.tensor(targets), "val": torch.tensor([0, 1, 1, 2])}
    teachers = {"original": {"forget": torch.tensor(TEACHER), "val": torch.tensor(VAL)}}
    return tiny.view(logits, told, teachers, **rest)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def without_by_hand() -> float:
    total = 0.0
    for row, teacher, true in zip(FORGET, TEACHER, (1, 0, 0), strict=True):
        left = np.exp(teacher)
        left[true] = 0.0
        total += kl(left / left.sum(), softmax(row))
    return total / 3


def reference_by_hand() -> float:
    """A third of the forget examples is of class 1, two thirds of class 0, none of class 2."""
    seen = softmax(VAL)
    mean = 2 / 3 * seen[0] + 1 / 3 * (seen[1] + seen[2]) / 2
    return sum(kl(mean, softmax(row)) for row in FORGET) / 3


GOLDEN: list[tuple[Term, float]] = [
    (Without("forget"), without_by_hand()),
    (Reference("forget", "val"), reference_by_hand()),
    (OneClass("forget"), -float(np.log(softmax(FORGET))[:, 2].mean())),
    (OneClass("forget", 0), -float(np.log(softmax(FORGET))[:, 0].mean())),
    (
        Tempered("forget"),
        -float(np.log(softmax(FORGET / 2))[[0, 1, 2], [1, 0, 0]].mean()),
    ),
]


@pytest.mark.parametrize(("term", "value"), GOLDEN, ids=lambda x: str(x))
def test_golden_values(term: Term, value: float) -> None:
    assert float(term(see())) == pytest.approx(value, rel=1e-6)


def test_without_has_finite_slopes_though_a_class_is_ruled_out() -> None:
    logits = torch.tensor(FORGET, requires_grad=True)
    batch = Images(logits, torch.tensor([1, 0, 0]), torch.arange(3))
    view = View(lambda x: x, {"forget": batch}, {"original": lambda x: x.detach()}, {}, 0.0, 0)
    Without("forget")(view).backward()
    assert torch.isfinite(logits.grad).all()
    # it lowers the true class and raises each other one
    assert (logits.grad.gather(1, batch.targets[:, None]) > 0).all()


def test_reference_without_a_common_class_teaches_nothing() -> None:
    view = tiny.view(
        {"forget": torch.tensor(FORGET), "val": torch.tensor(VAL)},
        {"forget": torch.tensor([1, 1, 1]), "val": torch.tensor([0, 0, 2, 2])},
        {"original": {"val": torch.tensor(VAL)}},
    )
    assert float(Reference("forget", "val")(view)) == 0.0


def drawn(term: Term, teacher: Tensor, n: int, progress: float = 0.0, seed: int = 0) -> Tensor:
    """The answers [n, k] that a cross-entropy is taken with, read off its slope."""
    logits = torch.zeros(n, teacher.shape[-1], dtype=torch.float64, requires_grad=True)
    batches = {"s": Images(logits, torch.zeros(n).long(), torch.arange(n))}
    told = {"original": lambda x: teacher.double().expand(n, -1)}
    term(View(lambda x: x, batches, told, {}, progress, seed)).backward()
    return 1 / teacher.shape[-1] - n * logits.grad


def test_gumbel_at_temperature_zero_draws_as_often_as_the_teacher_believes() -> None:
    teacher = torch.tensor([1.0, 0.0, -1.0, 2.0])
    counts = drawn(Gumbel("s", 0.0), teacher, 8000).sum(0).numpy()
    assert chisquare(counts, 8000 * softmax(teacher)).pvalue > 1e-3


def test_gumbel_softens_with_its_temperature() -> None:
    teacher = torch.tensor([1.0, 0.0, -1.0])
    sharp, soft = (drawn(Gumbel("s", t), teacher, 500) for t in (0.01, 1e6))
    assert (sharp.max(1).values > 0.9).double().mean() > 0.9
    torch.testing.assert_close(soft, torch.full_like(soft, 1 / 3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("term", [Gumbel("s", 0.0), AnyClass("s")], ids=str)
def test_draws_are_new_at_each_minibatch_and_for_each_member(term: Term) -> None:
    flat = torch.zeros(10)
    first = drawn(term, flat, 400)
    assert torch.equal(first, drawn(term, flat, 400))
    for other in (drawn(term, flat, 400, progress=0.01), drawn(term, flat, 400, seed=1)):
        assert 0.02 < (first.argmax(1) == other.argmax(1)).double().mean() < 0.25


def test_any_class_is_drawn_evenly_and_may_be_the_true_one() -> None:
    counts = drawn(AnyClass("s"), torch.zeros(5), 5000).sum(0).numpy()
    assert counts[0] > 0  # the true class of all
    assert chisquare(counts).pvalue > 1e-3


def test_amnesiac_never_draws_the_true_class() -> None:
    (term, _) = leaves(PUBLISHED["amnesiac"].steps[0].objective)
    assert isinstance(term, Relabel)
    for seed in range(5):
        answers = drawn(Relabel("s"), torch.zeros(4), 500, seed=seed)
        assert (answers[:, 0].abs() < 1e-9).all()


def test_pooled_weighs_every_example_alike() -> None:
    logits = {"forget": torch.tensor(FORGET), "val": torch.tensor(VAL)}
    told = {"forget": torch.tensor([1, 0, 0]), "val": torch.tensor([0, 1, 1, 2])}
    view = tiny.view(logits, told, known=Known({"forget": 3, "val": 4}))
    both = tiny.view(
        {"pool": torch.cat(list(logits.values()))}, {"pool": torch.cat(list(told.values()))}
    )
    pooled = Pooled(CE("forget"), CE("val"))
    assert float(pooled(view)) == pytest.approx(float(CE("pool")(both)), rel=1e-9)
    ours, theirs = float(CE("forget")(view)), float(CE("val")(view))
    half = Pooled(CE("forget"), CE("val"), share=0.5)
    assert float(half(view)) == pytest.approx(0.6 * ours + 0.4 * theirs, rel=1e-9)


def test_pooled_is_told_the_sizes_of_whole_sets() -> None:
    run = tiny.run()
    assert known_to(Pooled(CE("forget"), CE("retain")), run).sizes == {"forget": 12, "retain": 48}


@pytest.mark.parametrize("wrong", ["share=0.0", "share=1.5"])
def test_pooled_refuses_a_share_that_is_none(wrong: str) -> None:
    from expunge.experiments.experiment import parse

    with pytest.raises(BadSentence, match="share"):
        parse(f"Train(Pooled(CE('forget'), CE('retain'), {wrong}))")
    with pytest.raises(BadSentence, match="reads one set"):
        parse("Train(Pooled(CE('forget') + CE('retain'), CE('retain')))")


def test_terms_on_images_refuse_tokens() -> None:
    tokens = tiny.view({"s": torch.zeros(2, 4, 3)}, {"s": torch.zeros(2, 4).long()})
    with pytest.raises(Unsupported, match="one answer an example"):
        AnyClass("s")(tokens)


def test_steps_of_a_learning_rate() -> None:
    steps = Steps(0.0005, (2 / 7, 5 / 7, 6 / 7))
    told = [steps(epoch / 7) for epoch in range(7)]
    assert told == pytest.approx([5e-4, 5e-4, 5e-5, 5e-5, 5e-5, 5e-6, 5e-7])
    assert (steps.scaled(2.0))(0.5) == pytest.approx(1e-4)
    with pytest.raises(BadSentence, match="between 0 and 1"):
        Steps(0.1, (5.0,))


# Faults of other people's code.


@pytest.mark.parametrize("name", ["scrub", "scrub_small", "scrub_r", "bad_teacher", "delete"])
def test_the_student_changes_and_the_teacher_does_not(name: str) -> None:
    run = tiny.run()
    before = tiny.state(run.original)
    list(run_steps(brief(PUBLISHED[name]).steps, SingleModel(run)))
    assert all(torch.equal(before[n], t) for n, t in run.original.state_dict().items())
    moved = [not torch.equal(before[n], w) for n, w in run.model.named_parameters()]
    assert all(moved)


def test_scrub_maximises_first_and_minimises_last() -> None:
    for name in ("scrub", "scrub_small", "scrub_r"):
        (one,) = PUBLISHED[name].steps
        inner = one.steps[0].steps if name == "scrub_r" else one.steps
        plan = [step for _, _, step in unrolled(inner)]
        assert [s.objective.sets for s in plan[:2]] == [("forget",), ("retain",)]
        assert plan[-1].objective.sets == ("retain",)
        assert sum(s.objective.sets == ("forget",) for s in plan) == (2 if name == "scrub" else 3)


def test_the_bad_teacher_is_of_the_problem_s_own_architecture() -> None:
    def narrow() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    task = tiny.problem(architecture=narrow)
    seeds = [tiny.run(tiny.made(narrow), task, seed) for seed in (0, 1)]
    teachers = [run.teacher("random") for run in seeds]
    for teacher in teachers:
        assert [type(m) for m in teacher] == [torch.nn.Flatten, torch.nn.Linear]
        assert not tiny.same(teacher, seeds[0].original)
    assert not tiny.same(*teachers)
    assert unlearn(seeds[0].original, brief(PUBLISHED["bad_teacher"]), task).receipt.touched > 0.5


def test_salun_leaves_masked_weights_alone_over_ten_epochs() -> None:
    run = tiny.run()
    salun = PUBLISHED["salun"]
    ((repeat,),) = (step.steps for step in salun.steps)
    assert repeat.times == 10
    assert all(s.optimiser.momentum == 0.9 and s.optimiser.weight_decay > 0 for s in repeat.steps)
    mask, before = run.mask(repeat.steps[0].where), tiny.state(run.model)
    list(run_steps(salun.steps, SingleModel(run)))
    for name, weight in run.model.named_parameters():
        outside = ~mask[name]
        assert torch.equal(weight[outside], before[name][outside])
        assert not torch.equal(weight[mask[name]], before[name][mask[name]])
    share = sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())
    assert share == pytest.approx(0.5, abs=0.01)


def test_random_labels_come_in_a_pass_of_their_own() -> None:
    done = unlearn(tiny.made(), PUBLISHED["random_label_sequential"], tiny.problem())
    assert [place for place, _, _ in done.receipt.curve] == [
        "/0/shared/0/0",
        "/0/shared/0/1",
    ] * 10
    assert done.receipt.examples == {"forget": 120, "retain": 480}


def test_neggrad_plus_weighs_as_its_authors_do() -> None:
    (train,) = PUBLISHED["neggrad_plus"].steps
    assert train.objective == 0.95 * CE("retain") - 0.05 * CE("forget")


# Steps that look at the accuracy between turns.

TURN = (Train(-CE("forget"), lr=0.05, batch=6), Train(CE("retain"), lr=0.05, batch=24))


def scripted(monkeypatch: pytest.MonkeyPatch, told: list[float]) -> None:
    """Let the steps measure what the test says, in order."""
    answers = iter(told)
    monkeypatch.setattr(watched, "accuracy", lambda *asked: next(answers))


@pytest.mark.parametrize(
    ("measured", "kept"),
    [([0.9, 0.6, 0.3, 0.55], 2), ([0.9, 0.6, 0.3, 0.1], 3), ([0.5, 0.5, 0.5, 0.5], 1)],
)
def test_rewind_takes_the_turn_nearest_to_unseen_examples(
    monkeypatch: pytest.MonkeyPatch, measured: list[float], kept: int
) -> None:
    scripted(monkeypatch, measured)
    run, twin = tiny.run(), tiny.run()
    step = Rewind((Repeat(TURN, 3),))
    list(run_steps((step,), SingleModel(run)))
    for plan in step._turns("/0", (0, 1))[:kept]:
        for twin.place, twin.turn, inner in plan:
            inner(twin)
    assert tiny.same(run.model, twin.model)


def test_rewind_measures_unseen_examples_of_the_forgotten_classes_alone() -> None:
    task = tiny.classwise()
    count = int(torch.isin(tiny.unseen().targets, torch.tensor([3, 5])).sum())
    assert 0 < count < 40
    done = unlearn(tiny.made(), Rewind(TURN), task)
    assert done.receipt.examples["val"] == count
    assert forecast(as_method(Rewind(TURN)), task).examples == done.receipt.examples


def unfitting() -> Problem:
    """Nothing unseen is of a class that is forgotten."""
    rows = (tiny.unseen().targets != 3).nonzero().flatten()
    gone = (tiny.pictures().targets == 3).nonzero().flatten()
    return Problem.split(tiny.pictures(), gone, val=Subset(tiny.unseen(), rows))


@pytest.mark.parametrize("word", [Rewind(TURN), Reference("forget", "val")], ids=["step", "term"])
def test_without_unseen_examples_of_the_classes_they_are_unfit(word: Any) -> None:
    assert "no example of 'val'" in word.unfit(unfitting())
    assert word.unfit(tiny.problem()) == ""


def test_until_takes_its_turns_as_repeat_does() -> None:
    never = unlearn(tiny.made(), Until(TURN, 2, margin=-1.0), tiny.problem())
    repeated = unlearn(tiny.made(), Repeat(TURN, 2), tiny.problem())
    assert tiny.same(never.model, repeated.model)


@pytest.mark.parametrize(
    ("measured", "turns"), [([0.5, 0.8, 0.49], 2), ([0.5, 0.49], 1), ([0.5, 0.5, 0.5, 0.5], 3)]
)
def test_until_stops_below_the_mark(
    monkeypatch: pytest.MonkeyPatch, measured: list[float], turns: int
) -> None:
    scripted(monkeypatch, measured)
    step = Until(TURN, 3, against="val", margin=0.0)
    done = unlearn(tiny.made(), step, tiny.problem())
    assert done.receipt.examples["retain"] == 48 * turns


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Run, Any]]:
    done: list[tuple[Run, Any]] = []
    monkeypatch.setattr(watched, "take_turn", lambda run, steps, *at: done.append((at, steps[0])))
    return done


def test_lotus_heats_with_the_gap_and_stops_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted(monkeypatch, [0.8, 1.0, 0.85, 0.8, 0.79])
    done = spied(monkeypatch)
    run = tiny.run()
    run.place = "/0"
    Lotus()(run)
    soft = [next(leaves(train.objective)).temperature for _, train in done]
    assert soft == pytest.approx([math.exp(1.6), math.exp(0.4), 1.0])
    assert [at for at, _ in done] == [("/0", (0, 10)), ("/0", (1, 10)), ("/0", (2, 10))]
    hard = [list(leaves(train.objective))[1].temperature for _, train in done]
    assert hard == [0.0, 0.0, 0.0]
    assert {train.epochs for _, train in done} == {0.3}


def test_lotus_aims_at_zero_where_whole_classes_go(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0, 0.25, -0.01])
    done = spied(monkeypatch)
    Lotus(alpha=32.0, against="")(tiny.run())
    soft = [next(leaves(train.objective)).temperature for _, train in done]
    assert soft == pytest.approx([math.exp(32.0), math.exp(8.0)])


def test_accuracy_is_of_the_model_in_evaluation_mode() -> None:
    run = tiny.run()
    data = run.data("val")
    model = run.model.train()
    before = tiny.state(model)
    told = watched.accuracy(run, model, "val")
    answers = model.eval()(data.batch(torch.arange(40)).inputs).argmax(1)
    assert told == pytest.approx(float((answers == tiny.unseen().targets).double().mean()))
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert run.counts.examples == {"val": 40}
    part = Tensors(data.inputs[:10], data.targets[:10])
    watched.accuracy(run, model, "val", part)
    assert run.counts.examples == {"val": 50}
