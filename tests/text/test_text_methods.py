"""Every method for language models, and every word of theirs, held to the contracts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import tiny_text
import torch

from contracts import CONTRACTS, ON_TEXTS, Contract, done, texts
from expunge.core.method import Method
from expunge.engine.check import unfit
from expunge.engine.training import Train
from expunge.experiments.experiment import parse
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE
from expunge.methods.published import LANGUAGE, NAMED, PUBLISHED
from expunge.methods.published.language import CORRECTING
from expunge.methods.sentences import as_method
from expunge.unlearn import unlearn


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ON_TEXTS)
def test_contract(name: str, contract: Contract) -> None:
    contract(ON_TEXTS[name], texts)


@pytest.mark.parametrize("name", ON_TEXTS)
def test_the_receipt_counts_what_was_forecast(name: str) -> None:
    counted = done(ON_TEXTS[name], texts).unlearned.receipt.examples
    assert counted == forecast(ON_TEXTS[name], tiny_text.problem()).examples


@pytest.mark.parametrize("method", LANGUAGE, ids=lambda m: m.name)
def test_a_published_sentence_reads_back(method: Method) -> None:
    assert parse(repr(method)) == method
    assert as_method(method.name) is method
    assert "arXiv" in method.source
    assert unfit(ON_TEXTS[method.name], tiny_text.problem()) == ()


def test_no_name_means_two_methods() -> None:
    assert len(NAMED) == len(PUBLISHED) + len(LANGUAGE) + len(CORRECTING)


def test_words_for_tokens_say_so_of_images() -> None:
    import tiny

    for name in ("idk_dpo", "idk_nll", "rmu"):
        assert unfit(ON_TEXTS[name], tiny.problem())


def test_a_step_on_the_forget_set_makes_its_answers_less_likely() -> None:
    task, model = tiny_text.problem(), tiny_text.taught()
    batch = task.data("forget").batch(torch.arange(3))

    def loss(of: Any) -> float:
        with torch.no_grad():
            logits = batch.logits(of)
            return float(torch.nn.functional.cross_entropy(logits.mT, batch.targets))

    before = loss(model)
    for name in ("grad_ascent", "grad_diff", "npo", "simnpo", "wga", "idk_dpo", "undial", "ceu"):
        (step,) = ON_TEXTS[name].steps
        assert isinstance(step, Train)
        train = dataclasses.replace(step, epochs=4, lr=0.01)
        assert loss(unlearn(model, train, task).model) > before, name
    assert loss(unlearn(model, Train(CE("forget"), lr=0.01, batch=4), task).model) < before
