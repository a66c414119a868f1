"""Verdicts on classifiers: models of every kind, and what breaks them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from audit_tools import classes, context, models
from known_truth import classifiers
from known_truth.classifiers import CASES, Filtered, ground, judged

import tiny
from expunge.audits.images.answers import ForgetConfidence, NoisyInputs
from expunge.audits.images.classifier_audit import measure
from expunge.audits.images.classifier_verdict import PANEL, broken, cost_of, judge_models
from expunge.audits.panel import STANDARD
from expunge.engine.training import from_scratch
from expunge.errors import BadEvidence


def test_every_audit_of_the_panel_has_a_family_and_a_cost() -> None:
    assert all(one.family and cost_of(one) for one in PANEL)
    assert {one.family for one in PANEL} == {
        "asking", "relearning", "transforms", "inside",
    }  # fmt: skip
    anchored = {one for one in STANDARD if one.anchored and one.more.startswith("knows")}
    assert {type(one).__name__ for one in anchored if not one.family} == {"AdversarialNeighbours"}


def test_a_list_of_pictures_does_not_know_them_with_noise() -> None:
    problem = classes()
    forget = problem.sets["forget"].batch(torch.arange(len(problem.sets["forget"])))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11))
    guarded = Filtered(model, forget.inputs)
    here = context(problem, model, guarded)
    assert measure(ForgetConfidence(), guarded, here) < 1e-6
    noisy = measure(NoisyInputs(std=0.01), guarded, here)
    assert noisy == pytest.approx(measure(ForgetConfidence(), model, here), rel=0.05)
    # the same noise for all models, and other noise for another seed
    assert noisy == measure(NoisyInputs(std=0.01), guarded, here)
    assert noisy != measure(NoisyInputs(std=0.01), guarded, context(problem, model, guarded, 1))


def test_one_answer_to_everything_is_broken_and_a_wrong_class_is_not() -> None:
    problem = tiny.problem()
    good, constant = tiny.made(tiny.net, seed=0), tiny.made(tiny.net, seed=1)
    trained = classifiers._carried_out(
        problem, from_scratch(problem, "retain", "good"), [good], "good"
    )
    with torch.no_grad():
        list(constant.parameters())[-1][0] = 1000.0
    assert "one answer to everything" in broken([constant], trained, problem)
    assert broken(trained, trained, problem) == ""


def test_without_plain_asking_there_is_no_verdict() -> None:
    given = {"mine": models(1, 1)}, models(20, 4), models(30, 2), classes()
    with pytest.raises(BadEvidence, match="plain asking"):
        judge_models(*given, audits=PANEL[1:2])


def test_the_page_s_example_judges_models_of_one_s_own() -> None:
    page = (Path(__file__).parents[2] / "docs/verdict.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    sets = classes().sets
    pairs = {}
    for name in ("forget", "retain", "test"):
        batch = sets[name].batch(torch.arange(len(sets[name])))
        pairs[name] = batch.inputs, batch.targets
    given = {"network": tiny.net, "unlearned": models(1, 1)[0]}
    there = {**pairs, **given, "oracles": models(20, 4), "originals": models(30, 2)}
    exec(code, there)
    assert there["verdicts"].keys() == {"mine"}
    assert there["verdicts"]["mine"].reason


@pytest.mark.slow
def test_every_case_that_was_built_is_called_by_its_name() -> None:
    where = ground(0)
    built = {name: build(where) for name, build in CASES.items()}
    said = judged(where, {name: one.model for name, one in built.items()})
    assert {name: one.word for name, one in said.items()} == {
        name: one.truth for name, one in built.items()
    }
    # that something is hidden was seen by who built it, and not by an audit
    assert all(one.hidden > 0.5 for one in built.values() if one.truth == "suppressed")
    assert all(one.hidden < 0.1 for one in built.values() if one.truth == "removed")
