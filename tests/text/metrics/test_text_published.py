"""The numbers that TOFU and open-unlearning published, from their own per-item logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from expunge.core.evidence import Answers, Nested, Ragged
from expunge.metrics.text.likelihood import closer_to_1, option_share, true_better, wrong_over_right
from expunge.metrics.text.membership import privleak
from expunge.metrics.text.quality import forget_quality, utility_of
from expunge.statistics.roc_area import auc

LOGS = np.load(Path(__file__).parent / "published" / "tofu.npz", allow_pickle=False)

# agg_value fields and TOFU_SUMMARY.json of the two models, as published.
PUBLISHED = {
    "full": {
        "probability": 0.8804820564389229, "forget": 0.475563896242435,
        "retain": 0.5179621870037618, "ra": 0.5273262603457551, "wf": 0.6201053693945934,
        "ra options": 0.4135646438190353, "wf options": 0.43633082577309573,
        "model_utility": 0.5991534707368931, "loss": 0.9964875, "min_k": 0.99665,
    },
    "retain90": {
        "probability": 0.1161314930615481, "forget": 0.6274597698541176,
        "retain": 0.5139158767392253, "ra": 0.5034587127742052, "wf": 0.6175020880267867,
        "ra options": 0.3922635412069465, "wf options": 0.42885050970781075,
        "model_utility": 0.5911246639353407, "loss": 0.38736249999999994,
        "min_k": 0.38261249999999997,
    },
}  # fmt: skip
MODELS = pytest.mark.parametrize("model", PUBLISHED)
# The logs are float32, and open-unlearning adds 1e-10 to denominators: for world facts, some of
# which have a probability of 1e-7, that moves a mean by up to 1e-4.
CLOSE = pytest.approx


def log(key: str) -> NDArray[np.float64]:
    return LOGS[key].astype(np.float64)


def ratio(model: str, part: str) -> NDArray[np.float64]:
    right = "loss" if part in ("ra", "wf") else "paraphrased"
    wrong = Ragged.of(-log(f"{model}/{part}/wrong"))
    return wrong_over_right(-log(f"{model}/{part}/{right}"), wrong)


def recorded(model: str) -> Answers:
    """The forget set as one token an answer whose log p is the published mean."""
    right, wrong = log(f"{model}/paraphrased"), log(f"{model}/wrong")
    return Answers(
        np.arange(len(right)),
        paraphrased=Nested.of([[-one]] for one in right),
        wrong=Nested.of([-one for one in row] for row in wrong),
    )


@MODELS
@pytest.mark.parametrize("part", ["forget", "retain", "ra", "wf"])
def test_the_truth_ratio_of_every_question(model: str, part: str) -> None:
    assert np.exp(ratio(model, part)) == CLOSE(log(f"{model}/{part}/ratio"), rel=5e-3)
    if part in ("forget", "retain"):
        assert np.exp(ratio(model, part)) == CLOSE(log(f"{model}/{part}/ratio"), rel=1e-5)


@MODELS
def test_truth_ratio_closer_to_1_of_the_forget_set(model: str) -> None:
    found = closer_to_1(ratio(model, "forget")).mean()
    assert found == CLOSE(PUBLISHED[model]["forget"], rel=1e-5)


@MODELS
@pytest.mark.parametrize("part", ["retain", "ra", "wf"])
def test_truth_ratio_true_better(model: str, part: str) -> None:
    found = true_better(ratio(model, part)).mean()
    assert found == CLOSE(PUBLISHED[model][part], abs=1e-5)


@MODELS
def test_probabilities(model: str) -> None:
    found = np.exp(-log(f"{model}/forget/loss")).mean()
    assert found == CLOSE(PUBLISHED[model]["probability"], rel=1e-6)
    for part in ("ra", "wf"):
        wrong = Ragged.of(-log(f"{model}/{part}/wrong"))
        found = option_share(-log(f"{model}/{part}/loss"), wrong).mean()
        assert found == CLOSE(PUBLISHED[model][f"{part} options"], abs=2e-5)


@MODELS
def test_model_utility(model: str) -> None:
    tables = []
    for part in ("retain", "ra", "wf"):
        right, wrong = -log(f"{model}/{part}/loss"), Ragged.of(-log(f"{model}/{part}/wrong"))
        chance = np.exp(right) if part == "retain" else option_share(right, wrong)
        rouge = log(f"{model}/{part}/rouge")
        tables.append(np.column_stack([chance, rouge, true_better(ratio(model, part))]))
    found = utility_of(tables, np.random.default_rng(0)).score
    assert found.value == CLOSE(PUBLISHED[model]["model_utility"], abs=5e-6)
    # What the publication leaves out: 617 questions say it to about 0.02.
    assert 0.005 < found.high - found.low < 0.1


def test_forget_quality_of_the_untouched_model() -> None:
    found = forget_quality(*(recorded(f"{model}/forget") for model in ("full", "retain90")))
    assert found.legacy_p == CLOSE(3.9054713571083378e-22, rel=1e-6)
    assert 0.3 < found.d < 0.4


@MODELS
@pytest.mark.parametrize("attack", ["loss", "min_k"])
def test_the_area_of_published_attack_scores(model: str, attack: str) -> None:
    forget, holdout = (log(f"{model}/{attack}/{side}") for side in ("forget", "holdout"))
    # Their scores say "member" when low, ours when high; float32 may tie two of 800 scores.
    assert auc(-forget, -holdout) == CLOSE(PUBLISHED[model][attack], abs=2e-5)


def test_privleak_and_what_a_silent_half_made_of_it() -> None:
    full, retrained = (PUBLISHED[model]["min_k"] for model in ("full", "retain90"))
    assert privleak(full, retrained) == CLOSE(-99.45739100654656, rel=1e-6)
    assert privleak(retrained, retrained) == 0.0
    # They published 23.477 for the retrained model, which cannot leak: its anchor was 0.5.
    assert privleak(retrained, 0.5) == CLOSE(23.477499995304495, rel=1e-6)


@pytest.mark.parametrize("model", ["full", "retain90"])
def test_tofu_s_own_logs_hold_the_geometric_ratio(model: str) -> None:
    said = recorded(f"tofu/{model}")
    right, wrong = said.several("paraphrased").means(), said.several("wrong")
    published = log(f"tofu/{model}/ratio")
    assert np.exp(wrong_over_right(right, wrong)) == CLOSE(published, rel=1e-5)
    # The paper's equation takes the arithmetic mean, which is never smaller and mostly larger.
    arithmetic = np.exp(wrong_over_right(right, wrong, "arithmetic"))
    assert (arithmetic >= published * (1 - 1e-5)).all()
    assert np.mean(arithmetic / published) > 1.04


def test_tofu_s_forget_quality_of_the_untouched_llama_2() -> None:
    # scipy on the ratios of TOFU's aggregate_eval_stat.py: D = 0.3967, p = 1.83e-21.
    found = forget_quality(recorded("tofu/full"), recorded("tofu/retain90"))
    assert found.d == CLOSE(119 / 300, abs=1e-9)
    assert found.legacy_p == CLOSE(1.834066410994743e-21, rel=1e-6)
