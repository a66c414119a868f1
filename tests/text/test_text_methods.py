"""Every method for language models, and every word of theirs, held to the contracts."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
import tiny_text
import torch

from contracts import TOKENS_ONLY
from expunge import parse, unlearn
from expunge.core.method import Method, words_of
from expunge.core.optimisers import AdamW
from expunge.core.term import Sum, Term
from expunge.engine.check import unfit
from expunge.engine.requirements import forecast
from expunge.engine.training import Negate, Reset, Train
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.published import LANGUAGE, NAMED, PUBLISHED
from expunge.methods.published.language import CORRECTING
from expunge.methods.selectors.judged import Salient, Smallest
from expunge.methods.selectors.places import Last, Named
from expunge.methods.sentences import as_method
from expunge.methods.steps.adapter import LoRA
from expunge.methods.steps.constrained import PrimalDual, SharpnessAware
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Noise, Zero
from expunge.methods.steps.facts import Memit, Rome
from expunge.methods.steps.teaching import Remember, Teach


def small(thing: Any) -> Any:
    """The same method with few steps, for a model of two layers."""
    if isinstance(thing, tuple):
        return tuple(small(item) for item in thing)
    if isinstance(thing, Negate | PrimalDual | SharpnessAware):
        return dataclasses.replace(thing, train=small(thing.train))
    if isinstance(thing, Teach):
        return Teach(small(thing.steps))
    if isinstance(thing, Train):
        where = Named("down_proj") if isinstance(thing.where, Named) else thing.where
        objective = shallow(thing.objective)
        changes: dict[str, Any] = {"lr": 0.003, "batch": 4, "where": where}
        return dataclasses.replace(thing, objective=objective, epochs=1.5, **changes)
    return thing


def shallow(term: Term) -> Term:
    if isinstance(term, Sum):
        return Sum(tuple((c, shallow(part)) for c, part in term.parts))
    if isinstance(term, NoiseMatch | LogLens):
        return dataclasses.replace(term, layers=2)
    known = isinstance(term, Match | Steer | AdaptiveSteer)
    return dataclasses.replace(term, layer=1) if known else term


METHODS = {m.name: dataclasses.replace(m, steps=small(m.steps)) for m in LANGUAGE}
METHODS["lora"] = Method(
    "lora",
    (LoRA((Train(NPO("forget") + KL("retain"), lr=0.01, batch=4, optimiser=AdamW()),)),),
)


# Steps of classifiers, on texts: the same words, the same contracts.
METHODS |= {
    "noise": Method("noise", (Noise(0.01),)),
    "reset": Method("reset", (Reset(Last(1)), Train(CE("retain"), lr=0.003, batch=4))),
    "prune": Method("prune", (Zero(Smallest(0.1)),)),
    "rome": Method("rome", (Rome(0, steps=2, damping=0.1),)),
    "memit": Method("memit", (Memit((0,), weight=1.0, steps=2, damping=0.1),)),
    "dampen": Method("dampen", (Dampen(alpha=0.5),)),
    "negate": Method("negate", (Negate(Train(CE("forget"), lr=0.003, batch=4), scale=0.5),)),
    "salient": Method("salient", (Train(-CE("forget"), lr=0.003, where=Salient("forget", 0.3)),)),
    "undo_reset": Method("undo_reset", (Remember(), Reset(), Train(KL("retain", "taught")))),
}
METHODS["lora_sam"] = Method("lora_sam", (LoRA(METHODS["npo_sam"].steps),))
METHODS["lora_pdu"] = Method("lora_pdu", (LoRA(METHODS["pdu"].steps),))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_forgets_and_keeps_its_word(name: str) -> None:
    method, task, model = METHODS[name], tiny_text.problem(), tiny_text.taught()
    twin, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, again = (unlearn(model, method, task, seed=4) for _ in range(2))
    assert torch.equal(generator, torch.get_rng_state())
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, twin[key])
        mine = first.model.state_dict()[key]
        assert torch.equal(mine, again.model.state_dict()[key])
        assert mine.shape == tensor.shape
        assert mine.dtype == tensor.dtype
        assert torch.isfinite(mine).all()
    assert 0 < first.receipt.touched <= 1
    assert set(first.receipt.examples) == set(method.sets)
    # the receipt counts what was forecast
    assert first.receipt.examples == forecast(method, task).examples
    read = json.loads(json.dumps(dataclasses.asdict(first.receipt), allow_nan=False))
    assert parse(read["method"]) in (method.steps, method.steps[0])


@pytest.mark.parametrize("method", LANGUAGE, ids=lambda m: m.name)
def test_a_published_sentence_reads_back(method: Method) -> None:
    assert parse(repr(method)) == method
    assert as_method(method.name) is method
    assert "arXiv" in method.source
    assert unfit(METHODS[method.name], tiny_text.problem()) == ()


def test_no_name_means_two_methods() -> None:
    assert len(NAMED) == len(PUBLISHED) + len(LANGUAGE) + len(CORRECTING)


def test_every_word_for_tokens_goes_through_this_table() -> None:
    held = {type(word).__name__ for m in METHODS.values() for word in words_of(m.steps)}
    assert held >= TOKENS_ONLY


def test_words_for_tokens_say_so_of_images() -> None:
    import tiny

    for name in ("idk_dpo", "idk_nll", "rmu"):
        assert unfit(METHODS[name], tiny.problem())


def test_a_step_on_the_forget_set_makes_its_answers_less_likely() -> None:
    task, model = tiny_text.problem(), tiny_text.taught()
    batch = task.data("forget").batch(torch.arange(3))

    def loss(of: Any) -> float:
        with torch.no_grad():
            logits = batch.logits(of)
            return float(torch.nn.functional.cross_entropy(logits.mT, batch.targets))

    before = loss(model)
    for name in ("grad_ascent", "grad_diff", "npo", "simnpo", "wga", "idk_dpo", "undial", "ceu"):
        (step,) = METHODS[name].steps
        assert isinstance(step, Train)
        train = dataclasses.replace(step, epochs=4, lr=0.01)
        assert loss(unlearn(model, train, task).model) > before, name
    assert loss(unlearn(model, Train(CE("forget"), lr=0.01, batch=4), task).model) < before
