"""Terms on representations: the adaptive direction, Gaussian noise and the logit lens, by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import tiny_text
import torch
from torch import Tensor

import tiny
from expunge.core.batch import Tokens
from expunge.core.term import Term
from expunge.core.view import View, lens_of
from expunge.engine.loop import known_to
from expunge.engine.run import Run, sharing
from expunge.errors import BadSentence, Unsupported
from expunge.methods.losses.representation import (
    AdaptiveSteer,
    LogLens,
    NoiseMatch,
    discrepancy,
    packed,
)


def run(seed: int = 0) -> Run:
    return Run(sharing(tiny_text.taught()), sharing(tiny_text.taught()), tiny_text.problem(), seed)


def view(at: Run, term: Term, progress: float = 0.0) -> View:
    batch = at.data("forget").batch(torch.arange(3))
    return View(at.model, {"forget": batch}, {}, {}, progress, at.seed, known_to(term, at))


def states(at: Run) -> tuple[Any, Tensor]:
    """The outputs of the first layer where they are scored, [n, d], and the scored targets."""
    batch = at.data("forget").batch(torch.arange(3))
    assert isinstance(batch, Tokens)
    with torch.no_grad():
        found = at.model(input_ids=batch.inputs, output_hidden_states=True).hidden_states
    return found[1][:, :-1][batch.scored], batch.targets[batch.scored]


def test_the_adaptive_direction_is_as_long_as_the_states_of_the_whole_set() -> None:
    """Not of the first minibatch, and not of prompts and padding."""
    at = run(5)
    term = AdaptiveSteer("forget", layer=0, scale=2.0)
    direction = at.facts(term)["direction"]
    norm = float(states(at)[0].norm(dim=-1).mean())
    assert float(direction.norm()) == pytest.approx(2 * norm, rel=1e-5)
    assert bool((direction >= 0).all())
    assert at.counts.drawn[repr(term)] == tuple(direction.tolist())
    assert at.counts.examples == {"forget": 3}
    wanted = (states(at)[0] - direction).square().mean()
    assert float(term(view(at, term))) == pytest.approx(float(wanted), rel=1e-5)
    assert not torch.equal(run(6).facts(term)["direction"], direction)


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """The discrepancy with loops over pairs."""
    both = np.concatenate([a, b])
    apart = np.array([[((x - y) ** 2).sum() for y in both] for x in both])
    width = apart.sum() / (len(both) * (len(both) - 1))
    kernel = sum(np.exp(-apart / (width * 2.0**i)) for i in range(-2, 3))
    n = len(a)
    return float((kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n]).mean())


def test_the_discrepancy_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)) + 0.5
    found = discrepancy(torch.tensor(a), torch.tensor(b))
    assert float(found) == pytest.approx(by_hand(a, b), rel=1e-9)
    assert float(discrepancy(torch.tensor(a), torch.tensor(a))) == pytest.approx(0, abs=1e-12)
    far = discrepancy(torch.tensor(a), torch.tensor(b + 20))
    assert float(far) > 2 * float(found)


def test_scored_tokens_come_first_and_the_rest_is_nothing() -> None:
    at = run()
    term = NoiseMatch("forget", layers=1)
    found, inside = packed(view(at, term), "forget", 0)
    assert torch.allclose(found[inside[..., 0]], states(at)[0], atol=1e-6)
    assert bool((found[~inside.expand_as(found)] == 0).all())


def test_the_noise_is_new_at_every_minibatch_and_member() -> None:
    term = NoiseMatch("forget", layers=2)
    told = [(0, 0.0), (0, 0.0), (0, 0.5), (1, 0.0)]
    values = [float(term(view(run(seed), term, progress))) for seed, progress in told]
    assert values[0] == values[1]
    assert len(set(values)) == 3


def test_descent_on_the_noise_brings_representations_nearer_to_it() -> None:
    term, at = NoiseMatch("forget", layers=2), run()
    at.model = copy.deepcopy(tiny_text.taught()).requires_grad_(True)
    optimiser = torch.optim.Adam(at.model.parameters(), lr=0.01)
    before = float(term(view(at, term)).detach())
    for _ in range(20):
        optimiser.zero_grad()
        term(view(at, term)).backward()
        optimiser.step()
    assert float(term(view(at, term)).detach()) < 0.8 * before


def test_the_logit_lens_by_hand() -> None:
    at = run()
    layer, targets = states(at)
    with torch.no_grad():
        net: Any = at.model
        logp = net.lm_head(net.model.norm(layer)).log_softmax(-1)
    loss = -float(logp.gather(-1, targets[:, None]).mean())
    term = LogLens("forget", layers=1)
    assert float(term(view(at, term))) == pytest.approx(math.log(1 + loss), rel=1e-5)


def test_the_last_layer_through_the_lens_is_the_answer() -> None:
    at, term = run(), LogLens("forget", layers=2)
    seen = view(at, term)
    assert torch.allclose(seen.answers("forget"), seen.lens("forget", 1), atol=1e-5)


def test_the_lens_scores_whatever_token() -> None:
    """The authors' code leaves out every token whose number is 0."""
    at, term = run(), LogLens("forget", layers=1)
    batch = at.data("forget").batch(torch.arange(3))
    assert isinstance(batch, Tokens)
    labels = torch.where(batch.labels == -100, batch.labels, 0)
    zeros = Tokens(batch.inputs, batch.mask, labels, batch.index)
    seen = View(at.model, {"forget": zeros}, {}, {}, 0.0, 0, known_to(term, at))
    assert bool(torch.isfinite(term(seen)))
    assert float(term(seen)) > 0


def test_models_without_a_known_lens_are_refused() -> None:
    with pytest.raises(Unsupported, match="no transformer"):
        lens_of(tiny.net())
    headless: Any = sharing(tiny_text.taught())
    del headless.model.norm
    with pytest.raises(Unsupported, match="no logit lens"):
        lens_of(headless)


@pytest.mark.parametrize("term", [AdaptiveSteer("forget"), NoiseMatch("forget"), LogLens("forget")])
def test_images_and_shallow_models_are_refused(term: Term) -> None:
    assert term.unfit(tiny.problem())  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="0 to 1"):
        view(run(), term)


@pytest.mark.parametrize(
    ("term", "arguments"),
    [(AdaptiveSteer, {"scale": 0.0}), (NoiseMatch, {"layers": 0}), (LogLens, {"layers": -1})],
)
def test_numbers_that_make_no_sense(term: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadSentence):
        term("s", **arguments)
