"""The frame of audits: every audit held to one table, and every model measured alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import audit_tools as tools
import pytest
import torch
from audit_tools import AUDITS, FewerBias, FirstBias, line, models, on_a_line, set_to
from torch import nn

import tiny
from expunge.audits.audit import distinct
from expunge.audits.finding import Finding, judge, together
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    audit_rows,
    measure,
    run_audit,
    split_forget,
)
from expunge.audits.panel import STANDARD
from expunge.core.problem import Problem
from expunge.core.vocabulary import word
from expunge.errors import BadData, BadEvidence, Diverged, ExpungeError
from expunge.experiments.experiment import all_words, parse
from expunge.metrics.agreement import Unscored
from expunge.statistics.decision import Decision
from expunge.statistics.result import Effect

IDS = [repr(audit) for audit, _ in AUDITS]
each_audit = pytest.mark.parametrize(("audit", "problem"), AUDITS, ids=IDS)
MakeProblem = Callable[[], Problem]


def test_every_audit_goes_through_the_table() -> None:
    known = {
        name
        for name, thing in all_words().items()
        if isinstance(thing, type) and issubclass(thing, ClassifierAudit)
    }
    assert known == {type(audit).__name__ for audit, _ in AUDITS}
    assert {type(audit).__name__ for audit in STANDARD} <= known


@each_audit
def test_an_audit_reads_back_from_its_sentence(
    audit: ClassifierAudit, problem: MakeProblem
) -> None:
    assert parse(repr(audit)) == audit
    assert repr(parse(repr(audit))) == repr(audit)


@each_audit
def test_models_scene_and_generator_are_left_as_they_are(
    audit: ClassifierAudit, problem: MakeProblem
) -> None:
    model, at = tiny.made(seed=3).train().requires_grad_(True), tools.context(problem())
    twins, generator = (
        [copy.deepcopy(m) for m in (model, at.original, at.oracle)],
        torch.get_rng_state(),
    )
    measure(audit, model, at)
    for before, after in zip(twins, (model, at.original, at.oracle), strict=True):
        assert tiny.same(before, after)
        assert not any(module._forward_pre_hooks for module in after.modules())
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())


@each_audit
def test_the_same_seed_gives_the_same_bits_whatever_was_measured_before(
    audit: ClassifierAudit, problem: MakeProblem
) -> None:
    fresh, task = tools.context(problem()), problem()
    alone = measure(audit, models(3, 1)[0], fresh)
    after = tools.context(task)
    others = [measure(audit, model, after) for model in models(4, 2)]
    assert measure(audit, models(3, 1)[0], after) == alone
    assert math.isfinite(alone)
    assert audit.grain(after) >= 0
    assert len({alone, *others}) > 1 or audit.grain(after) > 0


@each_audit
def test_values_are_whole_grains(audit: ClassifierAudit, problem: MakeProblem) -> None:
    at = tools.context(problem())
    value, grain = measure(audit, models(3, 1)[0], at), audit.grain(at)
    if type(audit).__name__ == "Anamnesis":
        return  # a ratio: 0.01 epochs are added
    assert grain == 0 or value / grain == pytest.approx(round(value / grain), abs=1e-6)


@each_audit
def test_a_model_that_draws_at_random_is_measured_alike(
    audit: ClassifierAudit, problem: MakeProblem
) -> None:
    dropping = tiny.dropping().eval()
    at = tools.context(problem(), dropping, dropping)
    fit = dropping if not isinstance(audit, tools.LinearProbe) or audit.layer < 0 else None
    if fit is not None:
        assert measure(audit, fit, at) == measure(audit, fit, at)


def test_recovered_by_hand() -> None:
    found = run_audit(
        FirstBias(),
        set_to(3.0, 2.5, 3.5),
        set_to(99.0, 0.0, 2.0, 1.0, 1.5),
        set_to(11.0, 10.0, 12.0),
        on_a_line(),
    )
    assert found.audit == "FirstBias()"
    # the first oracle is the yardstick, and not among those compared
    assert (found.subject, found.oracle) == ((3.0, 2.5, 3.5), (0.0, 2.0, 1.0, 1.5))
    expected = (3 - 1.125) / (11 - 1.125)
    assert found.recovered.value == pytest.approx(expected)  # type: ignore[union-attr]
    assert found.word == "found"
    assert "More is left" in found.reason


def test_the_yardstick_is_what_audits_see() -> None:
    seen = []

    @word
    class Sees(ClassifierAudit):
        unit: ClassVar[str] = "units"
        more: ClassVar[Any] = "knows more"

        def measure(self, model: nn.Module, context: ImageContext) -> float:
            seen.append((float(context.oracle[1].bias[0]), float(context.original[1].bias[0])))
            return float(model[1].bias[0])

    run_audit(Sees(), set_to(1.0), set_to(7.0, 2.0, 3.0), set_to(10.0, 11.0), on_a_line())
    assert set(seen) == {(7.0, 10.0)}


def words(
    rows: dict[str, list[nn.Module]], audit: ClassifierAudit, **rest: Any
) -> dict[str, Finding]:
    oracles, originals = set_to(0.5, 0.0, 0.1, -0.1, 0.05, -0.05), set_to(10.0, 10.1, 9.9)
    found = audit_rows((audit,), rows, oracles, originals, on_a_line(), **rest)
    return {name: findings[0] for name, findings in found.items()}


def test_the_three_words() -> None:
    rows = {
        "retrain": set_to(0.02, -0.08, 0.07, 0.01),
        "nothing": set_to(10.0, 10.1, 9.9),
        "half": set_to(5.0, 5.2, 4.9),
        "below": set_to(-5.0, -5.2, -4.9),
        "unsure": set_to(-9.0, 2.0, 9.0),
    }
    found = words(rows, FirstBias())
    told = {"retrain": "excluded", "unsure": "inconclusive"}
    assert {name: f.word for name, f in found.items()} == dict.fromkeys(rows, "found") | told
    assert "over-unlearning" in found["below"].reason
    assert found["nothing"].recovered.value == pytest.approx(1.0)  # type: ignore[union-attr]
    assert "takes about" in found["unsure"].verdict.power  # type: ignore[union-attr]


def test_groups_are_judged_alike_whatever_stands_beside_them() -> None:
    rows = {"half": set_to(5.0, 5.2, 4.9), "other": set_to(1.0, 2.0)}
    both = words(rows, FirstBias())
    assert words({"half": rows["half"]}, FirstBias())["half"] == both["half"]
    turned = words({"half": rows["half"][::-1]}, FirstBias())["half"]
    assert turned.effect.p == pytest.approx(both["half"].effect.p)  # type: ignore[union-attr]


def test_it_refuses_where_originals_score_as_retrained_models() -> None:
    alike = set_to(0.5, 0.0, 0.1, -0.1)
    found = run_audit(FirstBias(), set_to(5.0, 6.0), alike, set_to(0.03, -0.06), on_a_line())
    assert found.word == "unscored"
    assert isinstance(found.recovered, Unscored)
    assert "does not tell originals from retrained models" in found.reason
    assert found.subject == (5.0, 6.0)  # what was measured is kept


def test_one_original_that_lies_among_the_retrained_ones_is_not_told_apart() -> None:
    oracles = set_to(0.5, 0.0, 1.0, -1.0, 0.4, -0.3)
    found = run_audit(FirstBias(), set_to(5.0, 6.0), oracles, set_to(1.4), on_a_line())
    assert found.word == "unscored"


def test_an_audit_that_calls_originals_ignorant_is_void() -> None:
    found = words({"half": set_to(5.0, 5.2, 4.9)}, FewerBias())["half"]
    assert found.word == "unscored"
    assert "void" in found.reason


def test_an_audit_that_does_not_fit_is_unscored_and_nothing_is_measured() -> None:
    at = tools.swapped()
    oracles, originals = models(10, 3), models(20, 1)
    found = run_audit(tools.InterclassConfusion(1, 2), models(30, 2), oracles, originals, at)
    assert (found.word, found.subject) == ("unscored", ())
    assert "does not fit" in found.reason


def test_an_audit_without_its_set_does_not_end_the_others() -> None:
    task, audits = tools.swapped(), (tools.InterclassConfusion(3, 5), tools.ForgetConfidence())
    del task.sets["test"]  # type: ignore[attr-defined]
    rows = {"mine": models(30, 2), "other": models(40, 2)}
    found = audit_rows(audits, rows, models(10, 3), models(20, 2), task)
    for findings in found.values():
        assert [len(one.subject) for one in findings] == [0, 2]
        assert "'test', which is missing" in findings[0].reason
    with pytest.raises(BadData):
        measure(audits[0], models(30, 1)[0], tools.context(task))


def test_retrained_models_that_all_score_alike_are_no_yardstick() -> None:
    values = ((4.0, 4.2, 4.1), (0.0, 0.0, 0.0), (5.0, 5.2, 5.1))
    found = judge(FirstBias(), *values)
    assert found.word == "unscored"
    assert "spread is not known" in found.reason
    assert judge(FirstBias(), *values, grain=0.1).word == "found"


def test_copies_of_a_model_count_once() -> None:
    one, other = set_to(5.0, 6.0)
    assert distinct([one, copy.deepcopy(one), other, one]) == [one, other]
    found = words({"row": [one] * 8}, FirstBias())["row"]
    assert found.subject == (5.0,)


def test_several_audits_are_read_together() -> None:
    rows = {"half": set_to(5.0, 5.2, 4.9)}
    found = words(rows, FirstBias())["half"]
    void = words(rows, FewerBias())["half"]
    verdict = together([found, void])
    assert isinstance(verdict, Decision)
    assert verdict.word == "found"
    assert isinstance(together([void]), Unscored)
    with pytest.raises(BadEvidence):
        together([])
    with pytest.raises(BadEvidence, match="no name twice"):
        together([found, found])


def test_a_margin_of_one_s_own_decides() -> None:
    rows = {"little": set_to(0.52, 0.48, 0.51, 0.55)}
    assert words(rows, FirstBias(), margin=0.1)["little"].word == "excluded"
    strict = words(rows, FirstBias(), margin=0.01)["little"]
    assert strict.word == "found"
    assert isinstance(strict.effect, Effect)
    assert strict.effect.margin == 0.01


def test_models_of_other_classes_are_refused() -> None:
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with pytest.raises(BadEvidence, match=r"Model 1 of 'subjects' has other layers.*1.weight"):
        wide = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(4)]
        first = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        run_audit(FirstBias(), [wide[3], narrow], wide[:3], [first], tools.classes())
    few = [nn.Sequential(nn.Flatten(), nn.Linear(64, 9)) for _ in range(5)]
    last = Problem.split(tiny.pictures(), (tiny.pictures().targets == 9).nonzero()[:, 0])
    with pytest.raises(BadEvidence, match="10 classes; expected one score a class"):
        run_audit(FirstBias(), [few[4]], few[:3], [few[3]], last)
    few = [nn.Sequential(nn.Flatten(), nn.Linear(64, 5)) for _ in range(5)]
    with pytest.raises(BadEvidence, match="one score a class"):
        run_audit(FirstBias(), [few[4]], few[:3], [few[3]], tools.classes())


def test_nan_is_refused_wherever_it_comes_from() -> None:
    broken = set_to(math.nan)
    with pytest.raises(Diverged, match="Model 0 of 'subjects'"):
        words({"subjects": broken}, FirstBias())

    @word
    class Infinite(ClassifierAudit):
        unit: ClassVar[str] = "units"
        more: ClassVar[Any] = "knows more"

        def measure(self, model: nn.Module, context: ImageContext) -> float:
            return math.inf

    with pytest.raises(BadEvidence, match=r"Infinite\(\) gives inf"):
        words({"row": set_to(1.0)}, Infinite())


def test_too_few_models_are_refused() -> None:
    with pytest.raises(BadEvidence, match="2 distinct oracles"):
        twice = set_to(1.0, 2.0) + set_to(2.0)
        run_audit(FirstBias(), set_to(5.0), twice, set_to(9.0), on_a_line())
    with pytest.raises(BadEvidence, match="holds no model"):
        run_audit(FirstBias(), [], set_to(1.0, 2.0, 3.0), set_to(9.0), on_a_line())


def test_an_oracle_is_not_compared_with_itself() -> None:
    oracles = set_to(1.0, 2.0, 3.0, 4.0)
    with pytest.raises(BadEvidence, match="is one of the oracles"):
        run_audit(FirstBias(), [copy.deepcopy(oracles[2])], oracles, set_to(9.0), on_a_line())


def test_a_set_that_is_missing_is_named() -> None:
    at = tools.context(tiny.problem())
    with pytest.raises(BadData, match="'test', which is missing or empty"):
        tools.InterclassConfusion(0, 1).measure(models(3, 1)[0], at)


@pytest.mark.parametrize(("share", "shown"), [(0.5, 6), (0.25, 3), (1.0, 12), (0.0, 0)])
def test_the_parts_of_the_forget_set_are_disjoint(share: float, shown: int) -> None:
    first, rest = split_forget(tools.context(tiny.problem()), share)
    assert len(first) == shown
    rows = [set(part.index.tolist()) for part in (first, rest)]
    assert rows[0] | rows[1] == set(range(12))
    assert share == 1 or not rows[0] & rows[1]
    again = split_forget(tools.context(tiny.problem()), share)[0].index
    other = split_forget(tools.context(tiny.problem(), seed=1), share)[0].index
    assert torch.equal(first.index, again)
    assert shown in (0, 12) or not torch.equal(first.index, other)


def test_a_forget_set_too_small_to_part_is_refused() -> None:
    with pytest.raises(BadData, match="leaves one part empty"):
        split_forget(tools.context(tiny.problem(forget=1)), 0.5)


@pytest.mark.parametrize(
    "sentence",
    [
        "Relearn(steps=0)", "Relearn(share=0.0)", "Relearn(alpha=1.0)", "Relearn(lr=0.0)",
        "LinearProbe(share=1.0)", "LinearProbe(ridge=0.0)", "NearestClassCentre(share=-0.1)",
        "PrototypeRelearn(blend=0.0)", "PrototypeRelearn(count=0)", "Quantise(bits=1)",
        "Prune(1.1)", "AdversarialNeighbours(0.0)", "OverUnlearning(steps=0)",
        "DamageNearBoundary(0)", "InterclassConfusion(3, 3)", "InterclassConfusion(-1, 3)",
        "PatternExposure(0)", "Anamnesis(added=0.0)", "RecoveryArea(LinearProbe())",
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(sentence: str) -> None:
    with pytest.raises(ExpungeError):
        parse(sentence)


def test_a_value_does_not_hang_on_the_model_being_in_training_mode() -> None:
    at, model = tools.context(), tiny.made(seed=3)
    for audit in (tools.ForgetConfidence(), tools.LinearProbe()):
        assert measure(audit, copy.deepcopy(model).train(), at) == measure(audit, model, at)


def test_the_smallest_classifier_answers_as_it_should() -> None:
    assert line(2.0, bias=1.0)(torch.tensor([[[[3.0]]]])).tolist() == [[0.0, 7.0]]
