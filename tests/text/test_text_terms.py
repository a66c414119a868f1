"""The terms for language models: values by hand on small logits, and slopes at the start."""

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
from expunge.core.batch import Tokens
from expunge.core.term import Term
from expunge.core.view import Known, View
from expunge.engine.loop import known_to
from expunge.engine.run import Run, sharing
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.likelihood import CEU, NPO, WGA, SatImp, SimNPO
from expunge.methods.losses.other_answers import DPO
from expunge.methods.losses.representation import Match, Steer
from expunge.methods.losses.teachers import TopKL, Undial

# Two texts of three and two tokens; the first token is a prompt, and one place is padding.
LOGITS = [
    [[0.0, 1.0, 2.0], [1.0, 0.0, -1.0], [9.0, 9.0, 9.0]],
    [[0.5, 0.5, 0.0], [7.0, 7.0, -7.0], [9.0, 9.0, 9.0]],
]
TEACHER = [
    [[1.0, 1.0, 0.0], [0.0, 2.0, 0.0], [3.0, 3.0, 3.0]],
    [[0.0, 0.0, 1.0], [4.0, 0.0, 4.0], [3.0, 3.0, 3.0]],
]
IDS = [[0, 2, 1], [0, 1, 0]]
MASK = [[True, True, True], [True, True, False]]
LABELS = [[-100, 2, 1], [-100, 1, -100]]


def logp(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, dtype=float)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


# log p of the scored tokens: 2 and 1 of the first text, 1 of the second
OURS = np.array([logp(LOGITS)[0, 0, 2], logp(LOGITS)[0, 1, 1], logp(LOGITS)[1, 0, 1]])
THEIRS = np.array([logp(TEACHER)[0, 0, 2], logp(TEACHER)[0, 1, 1], logp(TEACHER)[1, 0, 1]])
SUMS = np.array([OURS[0] + OURS[1], OURS[2]])
SUMS0 = np.array([THEIRS[0] + THEIRS[1], THEIRS[2]])


def see(logits: Tensor, facts: dict[str, dict[str, Tensor]] | None = None) -> View:
    def answering(rows: Tensor) -> Any:
        return lambda **named: SimpleNamespace(logits=rows)

    batch = Tokens(
        torch.tensor(IDS), torch.tensor(MASK), torch.tensor(LABELS), torch.tensor([4, 2])
    )
    teachers = {"original": answering(torch.tensor(TEACHER, dtype=torch.float64))}
    known = Known(facts=facts or {})
    return View(answering(logits), {"s": batch}, teachers, {}, 0.0, 0, known)


def kept(term: Term) -> dict[str, dict[str, Tensor]]:
    """What was remembered of the original, sorted by index: example 2 comes before example 4."""
    return {repr(term): {"index": torch.tensor([2, 4]), "loglik": torch.tensor(SUMS0[::-1].copy())}}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def undial(strength: float) -> float:
    total = 0.0
    for place, right in (((0, 0), 2), ((0, 1), 1), ((1, 0), 1)):
        wanted = np.array(TEACHER)[place].copy()
        wanted[right] -= strength
        total -= float((np.exp(logp(wanted)) * logp(LOGITS)[place]).sum())
    return total / 3


def ceu(places: list[tuple[tuple[int, int], int]]) -> float:
    total = 0.0
    for place, right in places:
        wanted = np.exp(np.array(LOGITS)[place])
        wanted[right] = 0
        total -= float((wanted / wanted.sum() * logp(LOGITS)[place]).sum())
    return total / len(places)


P = np.exp(OURS)
NLL = -OURS
GOLDEN: list[tuple[Term, float]] = [
    (CE("s"), float(NLL.mean())),
    (NPO("s", beta=0.5), float(np.mean([-4 * math.log(sigmoid(-0.5 * d)) for d in SUMS - SUMS0]))),
    (
        SimNPO("s", beta=2.0, delta=0.3),
        -(math.log(sigmoid(2 * (-SUMS[0] / 2 - 0.3))) + math.log(sigmoid(2 * (-SUMS[1] - 0.3))))
        / 2,
    ),
    (WGA("s", beta=2.0), float(-(P**2 * NLL).mean())),
    (SatImp("s", 2.0, 3.0), float(-(P**2 * (1 - P) ** 3 * NLL).mean())),
    (Undial("s", strength=3.0), undial(3.0)),
    (CEU("s", skip=0), ceu([((0, 0), 2), ((0, 1), 1), ((1, 0), 1)])),
    (CEU("s", skip=1), ceu([((0, 1), 1)])),
]


@pytest.mark.parametrize(("term", "wanted"), GOLDEN, ids=lambda x: str(x))
def test_golden_values(term: Term, wanted: float) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    assert float(term(see(logits, kept(term)))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "term", [term for term, _ in GOLDEN if not isinstance(term, WGA | SatImp | CEU)], ids=str
)
def test_slopes_by_finite_differences(term: Term) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: term(see(rows, kept(term))), (logits,))


def test_weights_carry_no_slope() -> None:
    """WGA with beta 0 is ascent; with another beta, ascent with each token weighed."""
    slopes = {}
    for beta in (0.0, 2.0):
        logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
        WGA("s", beta=beta)(see(logits)).backward()
        assert logits.grad is not None
        slopes[beta] = logits.grad
    weights = torch.tensor([[P[0], P[1], 0], [P[2], 0, 0]])[..., None] ** 2
    assert torch.allclose(slopes[2.0], slopes[0.0] * weights)


def test_padding_and_prompts_have_no_slope() -> None:
    for term, _ in GOLDEN:
        logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
        term(see(logits, kept(term))).backward()
        assert logits.grad is not None
        assert bool((logits.grad[0, 2] == 0).all()), term
        assert bool((logits.grad[1, 1:] == 0).all()), term


def at_start(term: Term) -> tuple[float, dict[str, Tensor]]:
    """Value and slopes of a term while the model still is the original."""
    original = sharing(tiny_text.taught())
    run = Run(sharing(tiny_text.taught()).requires_grad_(True), original, tiny_text.problem(), 0)
    batch = run.data("forget").batch(torch.arange(3))
    teachers = {name: run.teacher(name) for name in term.teachers}
    view = View(run.model, {"forget": batch}, teachers, {}, 0.0, 0, known_to(term, run))
    loss = term(view)
    loss.backward()
    return float(loss.detach()), {
        n: w.grad for n, w in run.model.named_parameters() if w.grad is not None
    }


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_npo_begins_as_gradient_ascent(beta: float) -> None:
    loss, slopes = at_start(NPO("forget", beta=beta))
    assert loss == pytest.approx(2 / beta * math.log(2), rel=1e-4)
    # all answers have as many tokens, so that sums are the mean times a number
    _, ascent = at_start(-CE("forget"))
    assert ascent.keys() == slopes.keys()
    for name, slope in slopes.items():
        assert torch.allclose(slope, 6 * ascent[name], rtol=1e-3, atol=1e-5), name


def test_the_start_is_where_kl_is_nothing() -> None:
    for term in (KL("forget"), TopKL("forget", 5), Match("forget", layer=1)):
        loss, slopes = at_start(term)
        assert loss == pytest.approx(0, abs=1e-7)
        assert all(float(slope.abs().max()) < 1e-6 for slope in slopes.values())


def test_dpo_begins_between_its_two_answers() -> None:
    loss, slopes = at_start(DPO("forget", beta=0.1))
    assert loss == pytest.approx(20 * math.log(2), rel=1e-4)
    _, lost = at_start(-CE("forget"))
    _, npo = at_start(NPO("forget"))
    # it is not ascent alone: the other answer pulls
    assert not all(torch.allclose(slopes[n], npo[n], rtol=1e-2, atol=1e-4) for n in lost)


def test_what_has_no_other_answers_is_refused() -> None:
    with pytest.raises(Unsupported, match="instead"):
        DPO("s")(tiny.view({"s": torch.zeros(2, 3)}))


def test_steer_aims_at_a_direction_that_the_receipt_keeps() -> None:
    run = Run(sharing(tiny_text.taught()), sharing(tiny_text.taught()), tiny_text.problem(), seed=5)
    term = Steer("forget", layer=1, scale=3.0)
    direction = run.facts(term)["direction"]
    assert float(direction.norm()) == pytest.approx(3.0, rel=1e-5)
    assert bool((direction >= 0).all())
    assert run.counts.drawn[repr(term)] == tuple(direction.tolist())
    batch = run.data("forget").batch(torch.arange(3))
    view = View(run.model, {"forget": batch}, {}, {}, 0.0, 5, known_to(term, run))
    with torch.no_grad():
        states = run.model(input_ids=batch.inputs, output_hidden_states=True).hidden_states
    # hidden_states[0] is the embedding; the last is normalised, so layer 0 is looked at
    near = Steer("forget", layer=0, scale=3.0)
    view = View(run.model, {"forget": batch}, {}, {}, 0.0, 5, known_to(near, run))
    aim = run.facts(near)["direction"]
    wanted = (states[1][:, :-1] - aim).square().mean(-1)[batch.scored].mean()
    assert float(near(view)) == pytest.approx(float(wanted), rel=1e-5)
    other = Run(run.model, run.original, run.problem, seed=6)
    assert not torch.equal(other.facts(term)["direction"], direction)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(Unsupported, match="0 to 1"):
        at_start(Match("forget", layer=7))
    with pytest.raises(Unsupported, match="transformer"):
        run = tiny.run()
        known_to(Match("forget"), run)


@pytest.mark.parametrize(
    ("term", "arguments"),
    [(NPO, {"beta": 0.0}), (SimNPO, {"beta": -1.0}), (DPO, {"beta": 0.0}), (CEU, {"skip": -1})],
)
def test_numbers_that_make_no_sense(term: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadSentence):
        term("s", **arguments)


@pytest.mark.parametrize("likeliest", [1, 5, 1000])
def test_divergence_on_kept_answers(likeliest: int) -> None:
    """By hand: the kept answers one by one, and all others as one."""
    run = Run(sharing(tiny_text.fresh(3)), sharing(tiny_text.taught()), tiny_text.problem(), 0)
    batch = run.data("forget").batch(torch.tensor([2, 0]))
    told = []
    for term in (TopKL("forget", likeliest), KL("forget")):
        teachers = {"original": run.original}
        view = View(run.model, {"forget": batch}, teachers, {}, 0.0, 0, known_to(term, run))
        told.append(float(term(view).detach()))
    with torch.no_grad():
        p, q = (
            batch.logits(m).double().softmax(-1)[batch.scored] for m in (run.original, run.model)
        )
    kept = min(likeliest, p.shape[-1])
    top, which = p.topk(kept)
    ours = q.gather(-1, which)
    wanted = (top * (top / ours).log()).sum(-1)
    if kept < p.shape[-1]:
        left, other = 1 - top.sum(-1), 1 - ours.sum(-1)
        wanted = wanted + left * (left / other).log()
    assert told[0] == pytest.approx(float(wanted.mean()), rel=1e-4)
    assert told[0] <= told[1] + 1e-5
    assert likeliest < 1000 or told[0] == pytest.approx(told[1], rel=1e-5)
