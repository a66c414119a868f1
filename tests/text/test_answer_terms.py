"""Terms on answers and tokens by hand: values, slopes at the start, and others' faults."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_text
import torch
from torch import Tensor

import tiny
from expunge.core.batch import UNSCORED, Tokens
from expunge.core.term import Term
from expunge.core.view import Known, View
from expunge.engine.loop import known_to
from expunge.engine.run import Run, sharing
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE, Flatten
from expunge.methods.losses.likelihood import TNPO
from expunge.methods.losses.other_answers import (
    DIVERGENCES,
    FLAT,
    RandomAnswers,
    answered,
    prompt_of,
)
from expunge.methods.losses.teachers import Generic

# Two texts of three and two tokens; the first token is a prompt, and one place is padding.
LOGITS = [
    [[0.0, 1.0, 2.0], [1.0, 0.0, -1.0], [9.0, 9.0, 9.0]],
    [[0.5, 0.5, 0.0], [7.0, 7.0, -7.0], [9.0, 9.0, 9.0]],
]
TEACHER = [
    [[1.0, 1.0, 0.0], [0.0, 2.0, 0.0], [3.0, 3.0, 3.0]],
    [[0.0, 0.0, 1.0], [4.0, 0.0, 4.0], [3.0, 3.0, 3.0]],
]
MORE = [
    [[2.0, 1.0, 0.0], [-1.0, 3.0, 0.0], [5.0, 3.0, 3.0]],
    [[0.0, 1.5, 0.5], [4.0, 9.0, 4.0], [3.0, 3.0, 3.0]],
]
IDS = [[0, 2, 1], [0, 1, 0]]
MASK = [[True, True, True], [True, True, False]]
LABELS = [[-100, 2, 1], [-100, 1, -100]]
OTHERS = [[-100, 0, 0], [-100, 2, -100]]
# (text, place) of each scored answer, its token, and its token of the other answers
SCORED = (((0, 0), 2, 0), ((0, 1), 1, 0), ((1, 0), 1, 2))


def softmax(rows: Any) -> np.ndarray:
    found = np.exp(np.asarray(rows, dtype=float))
    return found / found.sum(-1, keepdims=True)


def p(rows: Any, which: int = 1) -> np.ndarray:
    """The probabilities of the scored tokens (1), or of those of the other answers (2)."""
    return np.array([softmax(rows)[one[0]][one[which]] for one in SCORED])


def see(logits: Tensor, facts: dict[str, dict[str, Tensor]] | None = None) -> View:
    def answering(rows: Tensor) -> Any:
        return lambda **named: SimpleNamespace(logits=rows)

    ids, mask, index = torch.tensor(IDS), torch.tensor(MASK), torch.tensor([4, 2])
    other = Tokens(ids, mask, torch.tensor(OTHERS), index)
    batch = Tokens(ids, mask, torch.tensor(LABELS), index, other)
    told = {"original": TEACHER, "taught": MORE}
    teachers = {n: answering(torch.tensor(rows, dtype=torch.float64)) for n, rows in told.items()}
    return View(answering(logits), {"s": batch}, teachers, {}, 0.0, 0, Known(facts=facts or {}))


def kept(term: Term) -> dict[str, dict[str, Tensor]]:
    """What the original made of each token: example 2 has one, example 4 has two before it."""
    losses = torch.tensor(-np.log(p(TEACHER)))
    rows = {"index": torch.tensor([2, 4]), "first": torch.tensor([2, 0]), "losses": losses}
    return {repr(term): rows}


def tnpo(beta: float, power: float) -> float:
    ours, theirs = p(LOGITS), p(TEACHER)
    each = -2 / beta * np.log(1 / (1 + (ours / theirs) ** beta))
    return float((ours**power * each).mean())


def flat(divergence: str) -> float:
    ours, others = p(LOGITS), p(LOGITS, 2)
    total = 0.0
    for rows in ([0, 1], [2]):
        a, b = float(ours[rows].mean()), float(others[rows].mean())
        gain, loss = {
            "tv": (math.tanh(b) / 2, math.tanh(a) / 2),
            "kl": (b, math.exp(a - 1)),
            "pearson": (b, a * a / 4 + a),
            "js": (
                math.log(2) - math.log(1 + math.exp(-b)),
                a + math.log(1 + math.exp(-a)) - math.log(2),
            ),
        }[divergence]
        total += loss - gain
    return total / 2


def generic(strength: float) -> float:
    total = 0.0
    for place, _, _ in SCORED:
        base, more = np.array(TEACHER)[place], np.array(MORE)[place]
        wanted = softmax(base - strength * np.maximum(more - base, 0))
        total -= float((wanted * np.log(softmax(LOGITS)[place])).sum())
    return total / 3


GOLDEN: list[tuple[Term, float]] = [
    (Flatten("s"), ((2 - 1) ** 2 + (1 - 0) ** 2 + (0.5 - 1 / 3) ** 2) / 3),
    (TNPO("s"), tnpo(4.0, 0.0)),
    (TNPO("s", beta=0.5, power=1.5), tnpo(0.5, 1.5)),
    *((FLAT("s", divergence=name), flat(name)) for name in DIVERGENCES),
    (Generic("s"), generic(5.0)),
    (Generic("s", strength=0.7), generic(0.7)),
]


@pytest.mark.parametrize(("term", "wanted"), GOLDEN, ids=str)
def test_golden_values(term: Term, wanted: float) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    assert float(term(see(logits, kept(term)))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("term", [term for term, _ in GOLDEN], ids=str)
def test_prompts_and_padding_have_no_slope_and_the_first_answer_has(term: Term) -> None:
    """PDU of open-unlearning masks by labels that are not shifted: it leaves the first out."""
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    term(see(logits, kept(term))).backward()
    assert logits.grad is not None
    assert bool((logits.grad[0, 2] == 0).all())
    assert bool((logits.grad[1, 1:] == 0).all())
    assert bool((logits.grad[0, 0] != 0).any())


PLAIN = [t for t, _ in GOLDEN if getattr(t, "power", 0) == 0 and t != Flatten("s")]


@pytest.mark.parametrize("term", PLAIN, ids=str)
def test_slopes_by_finite_differences(term: Term) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: term(see(rows, kept(term))), (logits,))


def test_an_even_answer_is_flat() -> None:
    assert float(Flatten("s")(see(torch.full((2, 3, 3), 4.0)))) == 0.0


@pytest.mark.parametrize(("beta", "power"), [(4.0, 0.0), (4.0, 1.5), (0.5, 1.0)])
def test_the_slope_of_token_wise_npo_is_the_published_weight(beta: float, power: float) -> None:
    """2 p^(beta + power) / (p^beta + p0^beta) times the slope of log p, mean over tokens."""
    term = TNPO("s", beta=beta, power=power)
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    term(see(logits, kept(term))).backward()
    ours, theirs = p(LOGITS), p(TEACHER)
    weights = 2 * ours ** (beta + power) / (ours**beta + theirs**beta) / 3
    assert logits.grad is not None
    for (place, right, _), weight in zip(SCORED, weights, strict=True):
        wanted = weight * (np.eye(3)[right] - softmax(LOGITS)[place])
        assert torch.allclose(logits.grad[place], torch.tensor(wanted))


def at_start(term: Term, model: Any) -> dict[str, Tensor]:
    """Slopes of a term while the model still is the original."""
    run = Run(sharing(model).requires_grad_(True), sharing(model), tiny_text.problem(), 0)
    batch = run.data("forget").batch(torch.tensor([2, 0]))
    term(View(run.model, {"forget": batch}, {}, {}, 0.0, 0, known_to(term, run))).backward()
    return {n: w.grad for n, w in run.model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("beta", [0.1, 4.0])
def test_token_wise_npo_begins_as_gradient_ascent(beta: float) -> None:
    """On a fresh model, too, which gives every token 1 in 30: 1e-5 below the line would tell."""
    for model in (tiny_text.taught(), tiny_text.fresh()):
        ours, ascent = (
            at_start(term, model) for term in (TNPO("forget", beta=beta), -CE("forget"))
        )
        assert ours.keys() == ascent.keys()
        for name, slope in ours.items():
            assert torch.allclose(slope, ascent[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("name", DIVERGENCES)
def test_every_divergence_raises_the_template_and_lowers_the_truth(name: str) -> None:
    """The authors' reverse KL, squared Hellinger and Neyman go the other way."""
    gain, loss = DIVERGENCES[name]
    sure = torch.linspace(0.01, 0.99, 50)
    assert bool((gain(sure).diff() > 0).all())
    assert bool((loss(sure).diff() > 0).all())
    # f* of g: by what f-divergences are bounded, loss is never below gain
    assert bool((loss(sure) >= gain(sure) - 1e-6).all())


def test_a_divergence_that_is_not_there() -> None:
    with pytest.raises(BadSentence, match="Did you mean pearson"):
        FLAT("s", divergence="pearsen")


def texts() -> tuple[Tokens, Tokens]:
    """Questions 5 6 | 1, and 7 | 2 3 on the left; answers 0 8 and 9 to others."""
    no = UNSCORED
    ours = Tokens(
        torch.tensor([[5, 6, 1], [7, 2, 3]]),
        torch.ones(2, 3, dtype=torch.bool),
        torch.tensor([[no, no, 1], [no, 2, 3]]),
        torch.tensor([0, 1]),
    )
    others = Tokens(
        torch.tensor([[4, 4, 9], [4, 0, 8]]),
        torch.tensor([[False, True, True], [True, True, True]]),
        torch.tensor([[no, no, 9], [no, 0, 8]]),
        torch.tensor([3, 2]),
    )
    return ours, others


def test_other_answers_stand_after_the_prompts() -> None:
    """Whatever the tokens: LLMU's code leaves out the token 1, and scores the prompts."""
    ours, others = texts()
    assert prompt_of(ours, 0).tolist() == [True, True, False]
    # sorted by index, the second row (0 8) comes first
    made = answered(ours, others, [torch.tensor([0, 1]), torch.tensor([1, 1])])
    assert made.inputs.tolist() == [[5, 6, 0, 8], [7, 9, 0, 0], [5, 6, 9, 0], [7, 9, 0, 0]]
    no = UNSCORED
    short = [no, 9, no, no]
    assert made.labels.tolist() == [[no, no, 0, 8], short, [no, no, 9, no], short]
    assert made.mask.sum(1).tolist() == [4, 2, 3, 2]
    assert made.index.tolist() == [0, 1, 0, 1]


def asked(term: RandomAnswers, progress: float = 0.0, seed: int = 0) -> float:
    run = Run(sharing(tiny_text.fresh()), sharing(tiny_text.fresh()), tiny_text.problem(), seed)
    rows = {name: run.data(name).batch(torch.arange(3)) for name in term.sets}
    view = View(run.model, rows, {}, {}, progress, seed, known_to(term, run))
    with torch.no_grad():
        return float(term(view))


def test_random_answers_are_drawn_by_member_and_minibatch() -> None:
    term = RandomAnswers("forget", "retain")
    assert asked(term) == asked(term)
    assert len({asked(term, progress) for progress in (0.0, 0.25, 0.5, 0.75)}) > 1
    assert len({asked(term, seed=seed) for seed in range(4)}) > 1


def test_random_answers_are_the_cross_entropy_of_such_rows() -> None:
    run = Run(sharing(tiny_text.fresh()), sharing(tiny_text.fresh()), tiny_text.problem(), 0)
    rows: dict[str, Any] = {"forget": run.data("forget").batch(torch.arange(3))}
    rows["retain"] = run.data("retain").batch(torch.tensor([1]))  # one answer: nothing to draw
    view = View(run.model, rows, {}, {}, 0.0, 0)
    made = answered(rows["forget"], rows["retain"], [torch.zeros(3, dtype=torch.int64)])
    with torch.no_grad():
        found = float(RandomAnswers("forget", "retain", answers=3)(view))
        wanted = float(CE("x")(View(run.model, {"x": made}, {}, {}, 0.0, 0)))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_what_is_no_text_is_refused() -> None:
    images = tiny.view({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)})
    with pytest.raises(Unsupported, match="give it texts"):
        RandomAnswers("a", "b")(images)
    with pytest.raises(Unsupported, match="instead"):
        FLAT("a")(images)
    assert RandomAnswers("forget", "retain").unfit(tiny.problem())
    assert FLAT("forget").unfit(tiny.problem())


@pytest.mark.parametrize(
    ("term", "arguments"),
    [
        (TNPO, {"beta": 0.0}),
        (TNPO, {"power": -1.0}),
        (Generic, {"strength": 0.0}),
        (RandomAnswers, {"against": "retain", "answers": 0}),
    ],
)
def test_numbers_that_make_no_sense(term: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadSentence):
        term("s", **arguments)
