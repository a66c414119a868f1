"""The controls on the digits: what must pass passes, what must fail fails, the sham is caught."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import nn

from expunge.audits.finding import Finding, together
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import accuracy_on, audit_rows
from expunge.audits.images.probe import LinearProbe, NearestClassCentre
from expunge.audits.images.relearn import PrototypeRelearn, RecoveryArea, Relearn
from expunge.core.batch import Subset, all_targets
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.schedules import SGD, Cosine
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Vmapped, unlearn_runs
from expunge.engine.training import Train, from_scratch
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.classes import Relabel
from expunge.methods.selectors.places import Last
from expunge.problems.forget_sets import WholeClass
from expunge.problems.images.loaders import digits
from expunge.problems.networks.classifiers import digits_net
from expunge.statistics.decision import Decision

RECIPE = Method(
    "recipe",
    (Train(CE("train"), 10, Cosine(0.1), 32, SGD(weight_decay=0.0005)),),
)
# as in the digits' experiment: answers are hidden in the last layer, and nothing beneath is touched
SHAM = Method(
    "sham",
    (Train(0.05 * Relabel("forget") + KL("retain"), epochs=0.9, lr=0.1, batch=32, where=Last(1)),),
)
BENEATH = (
    Relearn(),
    RecoveryArea(),
    LinearProbe(),
    NearestClassCentre(),
    PrototypeRelearn(blend=0.9),
)
MEMBERS = 8

pytestmark = pytest.mark.slow


@cache
def problem() -> Problem:
    pool = digits()
    chosen = WholeClass(3)(pool.train, all_targets(pool.train), seed=0)
    return Problem.split(
        pool.train,
        chosen.indices,
        name="digits",
        test=pool.test,
        architecture=partial(digits_net, 10),
        recipe=RECIPE,
    )


def made(method: Method, role: str, starts: list[nn.Module] | None = None) -> list[nn.Module]:
    runs = []
    for seed in range(MEMBERS):
        start = starts[seed] if starts else problem().untrained(role, seed)
        runs.append(Run(frozen(start).requires_grad_(True), frozen(start), problem(), seed, role))
    *_, done = unlearn_runs(runs, method, Vmapped())
    return [one.model for one in done]  # type: ignore[union-attr]


@cache
def world() -> tuple[dict[str, list[nn.Module]], dict[str, tuple[Finding, ...]]]:
    task = problem()
    originals = made(from_scratch(task, "train", "original"), "original")
    rows = {
        "oracle": made(from_scratch(task, "retain", "oracle"), "oracle"),
        "retrain": made(from_scratch(task, "retain", "retrain"), "retrain"),
        "nothing": originals,
        "sham": made(SHAM, "unlearned", originals),
    }
    judged = {name: models for name, models in rows.items() if name != "oracle"}
    audits = (ForgetConfidence(), *BENEATH)
    return rows, audit_rows(audits, judged, rows["oracle"], originals, task)


def test_outputs_tell_the_sham_from_nothing_and_not_from_a_retrained_model() -> None:
    rows, found = world()
    task = problem()
    for name in ("oracle", "sham"):
        for model in rows[name]:
            assert accuracy_on(model, task.sets["forget"]) == 0
            assert accuracy_on(model, task.sets["retain"]) > 0.98
    unseen = task.sets["test"]
    kept = Subset(unseen, (all_targets(unseen) != 3).nonzero()[:, 0])
    means = {
        name: torch.tensor([accuracy_on(m, kept) for m in rows[name]]).mean()
        for name in ("oracle", "sham")
    }
    assert abs(means["oracle"] - means["sham"]) < 0.02
    assert found["sham"][0].word == "excluded"


def test_the_sham_is_found_beneath_the_outputs() -> None:
    _, found = world()
    told = {one.audit: one.word for one in found["sham"][1:]}
    assert told == dict.fromkeys(map(repr, BENEATH), "found")
    # only the last layer was touched, so that what goes into it is all there
    for one in found["sham"][3:5]:
        assert one.recovered.value == pytest.approx(1.0)  # type: ignore[union-attr]


def test_nothing_is_found_by_every_audit_and_retrained_models_by_no_family() -> None:
    _, found = world()
    for one in found["nothing"]:
        assert one.word == "found"
        assert one.recovered.value == pytest.approx(1.0)  # type: ignore[union-attr]
    verdict = together(found["retrain"])
    assert isinstance(verdict, Decision)
    assert verdict.word != "found"
    assert found["retrain"][0].word == "excluded"
