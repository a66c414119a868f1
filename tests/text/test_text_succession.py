"""Audits of the classifiers' room on texts: requests one after another, asked by probability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import text_tools
import tiny_text

from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    confidence_on,
    measure,
)
from expunge.audits.images.relearn import Prune, Quantise
from expunge.audits.panel import STANDARD
from expunge.audits.text import facts
from expunge.comparison import named
from expunge.core.store import Store
from expunge.experiments.sequential import Requests, answer, asked_of

GONE = "Train(-CE('forget'), epochs=4, lr=0.003, batch=16, optimiser=AdamW())"
READS_PROBABILITY = (ForgetConfidence, Quantise, Prune)


def test_gibberish_is_no_forgetting(tmp_path: Path) -> None:
    (gone,) = named({"gone": GONE})
    asked = Requests(gone, ForgetConfidence(), 2, 3)
    told = asked_of(replace(text_tools.few(), methods=(gone,)), asked, Store(tmp_path / "s"))
    for stage in told["after"]:
        assert min(stage["original"]) > 0.5 > max(stage["oracle"]) > max(stage["subject"])
        assert stage["kept"] < 0.1 < 0.5 < stage["kept_retrained"]
    assert "after request 1 the models give what is to be kept a probability of" in answer(told)


def test_probability_is_that_of_the_room_of_texts() -> None:
    model, texts = tiny_text.taught(), tiny_text.pairs(tiny_text.FORGET)
    assert confidence_on(model, texts) == pytest.approx(np.mean(facts.probability(model, texts)))


@pytest.mark.parametrize("audit", STANDARD, ids=repr)
def test_an_audit_measures_texts_or_says_that_it_reads_classes(audit: ClassifierAudit) -> None:
    model = tiny_text.taught()
    context = ImageContext(tiny_text.problem(), model, tiny_text.fresh())
    if isinstance(audit, READS_PROBABILITY):
        assert audit.unfit(context) == ""
        assert measure(audit, model, context) > 2 * measure(audit, tiny_text.fresh(), context)
    else:
        assert "texts" in audit.unfit(context)
