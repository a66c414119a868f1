"""Terms: values computed with NumPy, slopes by finite differences, and the laws of sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import tiny
from expunge.core.schedules import Cosine, Linear
from expunge.core.term import Sum, Term
from expunge.engine.training import Train
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE, KL, L1, MSE, Entropy, Repel, Uniform
from expunge.methods.losses.classes import Relabel
from expunge.methods.losses.other_answers import hashed
from expunge.unlearn import unlearn

FORGET = [[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]]
RETAIN = [[0.2, -0.3, 0.1], [2.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
TEACHER = [[0.5, 0.5, 1.0], [-1.0, 0.3, 0.0]]
RIGHT = [1, 0]


def logp(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, dtype=float)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def see(**rest: Any) -> Any:
    logits = {"forget": torch.tensor(FORGET, dtype=torch.float64)}
    logits["retain"] = torch.tensor(RETAIN, dtype=torch.float64)
    targets = {"forget": torch.tensor(RIGHT), "retain": torch.tensor([0, 1, 2])}
    teachers = {"original": {"forget": torch.tensor(TEACHER, dtype=torch.float64)}}
    teachers["random"] = {"forget": torch.tensor(TEACHER, dtype=torch.float64) * 2}
    return tiny.view(logits, targets, teachers, **rest)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def repel_by_loops(temperature: float) -> float:
    """Each answer to be forgotten against each retained one."""
    total = 0.0
    for ours in FORGET:
        scores = [sum(a * b for a, b in zip(ours, t, strict=True)) / temperature for t in RETAIN]
        for score in scores:
            total -= score - math.log(sum(math.exp(s) for s in scores))
    return total / (len(FORGET) * len(RETAIN))


SOFT = np.asarray(TEACHER) / 3.0, np.asarray(FORGET) / 3.0
GOLDEN: list[tuple[Term, float]] = [
    (CE("forget"), -(logp(FORGET)[0, 1] + logp(FORGET)[1, 0]) / 2),
    (KL("forget"), kl(logp(TEACHER), logp(FORGET))),
    (KL("forget", teacher="random"), kl(logp(np.asarray(TEACHER) * 2), logp(FORGET))),
    (KL("forget", temperature=3.0), 9 * kl(logp(SOFT[0]), logp(SOFT[1]))),
    (Uniform("forget"), kl(np.full((2, 3), -math.log(3)), logp(FORGET))),
    (Repel("forget", "retain"), repel_by_loops(1.15)),
    (Repel("forget", "retain", temperature=0.5), repel_by_loops(0.5)),
    (Entropy("forget"), -float((np.exp(logp(FORGET)) * logp(FORGET)).sum(1).mean())),
    (MSE("forget"), float(((np.asarray(FORGET) - np.asarray(TEACHER)) ** 2).mean())),
    (
        MSE("forget", teacher="random"),
        float(((np.asarray(FORGET) - 2 * np.asarray(TEACHER)) ** 2).mean()),
    ),
]


@pytest.mark.parametrize(("term", "value"), GOLDEN, ids=lambda x: str(x))
def test_golden_values(term: Term, value: float) -> None:
    assert float(term(see())) == pytest.approx(value, rel=1e-6)


def test_golden_numbers_by_hand() -> None:
    flat = tiny.view({"s": torch.zeros(4, 10)})
    assert float(CE("s")(flat)) == pytest.approx(math.log(10))
    assert float(Uniform("s")(flat)) == pytest.approx(0.0, abs=1e-6)
    assert float(Entropy("s")(flat)) == pytest.approx(math.log(10))
    assert float(Repel("s", "s")(flat)) == pytest.approx(math.log(4))
    half = torch.tensor([[math.log(0.75), math.log(0.25)]])
    even = torch.zeros(1, 2)
    told = tiny.view({"s": half}, teachers={"original": {"s": even}})
    # KL(even || model), not the other way round (which is 0.1308)
    assert float(KL("s")(told)) == pytest.approx(0.1438, abs=1e-4)


def test_l1_is_the_sum_of_sizes() -> None:
    weights = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([[-0.5]])}
    assert float(L1()(tiny.view({}, weights=weights))) == 3.5
    assert float(L1()(tiny.view({}))) == 0.0


TERMS = [term for term, _ in GOLDEN] + [
    Relabel("forget"),
    CE("retain") - 0.3 * KL("forget") + Linear(0.5) * Uniform("forget"),
]


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_slopes_by_finite_differences(term: Term) -> None:
    def loss(forget: Tensor, retain: Tensor) -> Tensor:
        targets = {"forget": torch.tensor(RIGHT), "retain": torch.tensor([0, 1, 2])}
        teachers = {"original": {"forget": torch.tensor(TEACHER).double()}}
        teachers["random"] = {"forget": torch.tensor(TEACHER).double() * 2}
        told = {"forget": forget, "retain": retain}
        return term(tiny.view(told, targets, teachers, progress=0.4))

    forget = torch.tensor(FORGET, dtype=torch.float64, requires_grad=True)
    retain = torch.tensor(RETAIN, dtype=torch.float64)
    if not isinstance(term, Repel):
        retain.requires_grad_("retain" in term.sets)
    assert torch.autograd.gradcheck(loss, (forget, retain))


def test_repel_gives_no_slope_to_the_other_set() -> None:
    ours = torch.tensor(FORGET, requires_grad=True)
    theirs = torch.tensor(RETAIN, requires_grad=True)
    Repel("forget", "retain")(tiny.view({"forget": ours, "retain": theirs})).backward()
    assert ours.grad is not None
    assert theirs.grad is None


@pytest.mark.parametrize("term", [Repel("s", "s"), Relabel("s")])
def test_terms_for_one_answer_an_example_refuse_tokens(term: Term) -> None:
    with pytest.raises(Unsupported, match="tokens"):
        term(tiny.view({"s": torch.zeros(2, 5, 7)}))


@pytest.mark.parametrize("term", [CE("s"), KL("s"), Uniform("s"), Entropy("s"), MSE("s")], ids=str)
def test_tokens_are_averaged_as_so_many_examples(term: Term) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, told = (torch.randn(2, 5, 7, generator=generator) for _ in range(2))
    targets = torch.randint(0, 7, (2, 5), generator=generator)
    long = tiny.view({"s": logits}, {"s": targets}, {"original": {"s": told}})
    flat = tiny.view(
        {"s": logits.reshape(10, 7)},
        {"s": targets.flatten()},
        {"original": {"s": told.reshape(10, 7)}},
    )
    assert float(term(long)) == pytest.approx(float(term(flat)), rel=1e-5)


def wrong_classes(index: Tensor, seed: int | Tensor, right: Tensor, classes: int) -> Tensor:
    """The class that `Relabel` names for each example: there the slope is negative."""
    from expunge.core.batch import Images
    from expunge.core.view import View

    logits = torch.zeros(len(index), classes, requires_grad=True)
    batches = {"s": Images(logits, right, index)}
    Relabel("s")(View(lambda x: x, batches, {}, {}, 0.0, seed)).backward()
    assert logits.grad is not None
    assert ((logits.grad < 0).sum(1) == 1).all()
    return logits.grad.argmin(1)


def test_relabel_is_never_the_true_class_and_uniform_over_the_others() -> None:
    n = 20_000
    index, right = torch.arange(n), torch.arange(n) % 10
    for seed in (0, 5, 2**40):
        drawn = wrong_classes(index, seed, right, 10)
        assert not (drawn == right).any()
        counts = ((drawn - right) % 10).bincount(minlength=10)
        assert counts[0] == 0
        assert chisquare(counts[1:].numpy()).pvalue > 1e-3
    # as seen over seeds for one example, and over pairs of neighbours
    over_seeds = torch.stack([hashed(torch.tensor([7]), s) % 9 for s in range(5000)]).flatten()
    assert chisquare(over_seeds.bincount(minlength=9).numpy()).pvalue > 1e-3
    pairs = hashed(index, 1) % 9 * 9 + hashed(index + 1, 1) % 9
    assert chisquare(pairs.bincount(minlength=81).numpy()).pvalue > 1e-3


def test_relabel_with_two_classes_is_the_other_one() -> None:
    right = torch.tensor([0, 1, 1, 0])
    assert torch.equal(wrong_classes(torch.arange(4), 9, right, 2), 1 - right)
    with pytest.raises(Unsupported, match="one class"):
        Relabel("s")(tiny.view({"s": torch.zeros(3, 1)}))


def test_relabel_holds_under_any_order_and_differs_between_members() -> None:
    index, right = torch.arange(200), torch.arange(200) % 10
    drawn = wrong_classes(index, 3, right, 10)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(wrong_classes(index[order], 3, right[order], 10), drawn[order])
    assert 0.8 < float((wrong_classes(index, 4, right, 10) != drawn).float().mean()) < 0.97


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 1000, 2**31, 2**62 + 9, 2**63 - 1, -4])
def test_the_hash_knows_no_difference_between_numbers_and_tensors(seed: int) -> None:
    index = torch.arange(50)
    told = hashed(index, seed)
    assert torch.equal(told, hashed(index, torch.tensor(seed)))
    assert told.min() >= 0
    assert told.max() < 2**31
    assert told.unique().numel() == 50


def test_the_hash_is_the_same_on_every_machine() -> None:
    def by_hand(index: int, seed: int) -> int:
        def wrap(x: int) -> int:
            return x % 2**64

        x = wrap(index * 0x1E3779B97F4A7C15 + seed * 0x3C6EF372FE94F82B + 0x2545F4914F6CDD1D)
        x = wrap((x ^ (x >> 30)) * wrap(-0x40A7B892E31B1A47))
        x = wrap((x ^ (x >> 27)) * wrap(-0x6B2FB644ECCEEE15))
        return (x >> 33) & 0x7FFFFFFF

    for seed in (0, 3, 2**40):
        told = hashed(torch.arange(20), seed).tolist()
        assert told == [by_hand(index, seed) for index in range(20)]


def test_sums_obey_arithmetic() -> None:
    a, b, c = CE("forget"), KL("forget"), CE("retain")
    assert (a + b) + c == a + (b + c)
    assert a - b == a + -1 * b
    assert -1 * -a == a
    assert 2 * (a - 0.5 * b) == 2 * a - b
    assert 1 * a == a
    assert 0.5 * (2 * a) == a
    assert (a + b) * 3 == 3 * (a + b)
    assert hash(a - 0.1 * b) == hash(a - 0.1 * b)
    assert a + b != b + a
    told = see()
    value = 2 * float(a(told)) - 0.25 * float(b(told)) + float(c(told))
    assert float((2 * a - 0.25 * b + c)(told)) == pytest.approx(value, rel=1e-6)
    assert (a + b + c).sets == ("forget", "retain")
    assert (b + KL("retain", teacher="random") + b).teachers == ("original", "random")
    assert (a + L1()).sets == ("forget",)


def test_schedules_are_coefficients() -> None:
    told = see(progress=0.25)
    value = float(CE("forget")(told))
    assert float((Linear(4.0) * CE("forget"))(told)) == pytest.approx(3.0 * value)
    assert 2 * (Linear(1.0, 3.0) * CE("forget")) == Linear(2.0, 6.0) * CE("forget")
    assert -(Cosine(1.0) * CE("forget")) == Cosine(-1.0) * CE("forget")
    with pytest.raises(BadSentence, match="one schedule"):
        Linear(1.0) * (Cosine(1.0) * CE("forget"))


@pytest.mark.parametrize(
    "parts", [(), ((1.0, CE("a")),), ((2.0, CE("a") + CE("b")), (1.0, CE("c")))], ids=str
)
def test_sums_that_would_not_read_back_are_refused(parts: Any) -> None:
    with pytest.raises(BadSentence, match="Sum"):
        Sum(parts)


@pytest.mark.parametrize("wrong", [True, "2", None])
def test_coefficients_are_numbers_or_schedules(wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong * CE("a")
    with pytest.raises(TypeError):
        CE("a") + wrong
    with pytest.raises(TypeError):
        CE("a") - wrong
    with pytest.raises(BadSentence, match="finite"):
        float("nan") * CE("a")


def test_terms_refuse_arguments_that_make_no_sense() -> None:
    with pytest.raises(BadSentence, match="Did you mean original"):
        KL("a", teacher="orignal")
    with pytest.raises(BadSentence, match="temperature"):
        KL("a", temperature=0.0)
    with pytest.raises(BadSentence, match="temperature"):
        Repel("a", "b", temperature=-1.0)
    with pytest.raises(BadSentence, match="teacher"):
        MSE("a", teacher="")


@pytest.mark.parametrize("teacher", ["original", "random"])
def test_teachers_never_change_and_get_no_slope(teacher: str) -> None:
    from expunge.engine.loop import SingleModel
    from expunge.engine.run import run_steps

    run = tiny.run()
    fixed = run.teacher(teacher)
    before = tiny.state(fixed)
    objective = KL("retain", teacher=teacher) + MSE("retain", teacher=teacher)
    list(run_steps((Train(objective, epochs=3, batch=16),), SingleModel(run)))
    assert all(torch.equal(before[n], t) for n, t in fixed.state_dict().items())
    assert all(w.grad is None and not w.requires_grad for w in fixed.parameters())
    assert not fixed.training
    assert run.teacher(teacher) is fixed


def test_the_teacher_pulls_the_model_towards_itself() -> None:
    step = Train(MSE("retain", teacher="random"), epochs=20, lr=0.1, batch=48)
    curve = unlearn(tiny.made(), step, tiny.problem()).receipt.curve
    assert curve[-1][2] < 0.5 * curve[0][2]


def test_each_forward_pass_is_made_once() -> None:
    from expunge.core.batch import Images
    from expunge.core.view import View

    asked: list[str] = []

    def model(inputs: Tensor) -> Tensor:
        asked.append("model")
        return inputs

    def teacher(inputs: Tensor) -> Tensor:
        asked.append("teacher")
        return inputs

    batches = {n: Images(torch.ones(2, 3), torch.zeros(2).long(), torch.arange(2)) for n in "ab"}
    told = View(model, batches, {"original": teacher}, {}, 0.0, 0)
    (CE("a") + KL("a") + Entropy("a") + MSE("a") + Repel("a", "b") + CE("b"))(told)
    assert sorted(asked) == ["model", "model", "teacher"]
