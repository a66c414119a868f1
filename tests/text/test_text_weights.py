"""Audits that change private copies: relearning, transforms, and prompts searched for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world as world
import torch

from expunge.audits.audit import MeasurementCache, fingerprint
from expunge.audits.controls import Guardrail
from expunge.audits.panel import STANDARD_TEXT, audit_words
from expunge.audits.text import facts, searched
from expunge.audits.text.asking import Prefix
from expunge.audits.text.facts import FactAudit, FactProblem, context_of
from expunge.audits.text.relearning import (
    LowRank,
    OtherFacts,
    OtherSubjects,
    Related,
    RelearnFacts,
    Unrelated,
    turns,
)
from expunge.audits.text.searched import SoftPrompt, Suffix
from expunge.audits.text.states import ProbeFacts
from expunge.audits.text.traces import Detected
from expunge.audits.text.transforms import (
    Continued,
    Interpolated,
    PruneLayers,
    QuantiseLayers,
    mixed,
)
from expunge.audits.weights import rounded
from expunge.core.sentence import parse
from expunge.core.store import Store
from expunge.core.texts import Texts
from expunge.core.vocabulary import in_full
from expunge.errors import BadEvidence, BadSentence
from expunge.problems.networks.language import tiny_llama

BRIEF: dict[str, Any] = {"steps": 6, "every": 3, "lrs": (0.001, 0.01), "batch": 4}
CHANGING: tuple[FactAudit, ...] = (
    RelearnFacts(OtherFacts(), **BRIEF),
    RelearnFacts(Related(), **BRIEF),
    RelearnFacts(OtherSubjects(), weights=LowRank(2), **BRIEF),
    QuantiseLayers(4, group=8),
    PruneLayers(0.5),
    Continued(steps=3, lr=0.01, batch=4),
    Interpolated((0.5,)),
    Suffix(length=2, steps=2, candidates=3, batch=3),
    SoftPrompt(length=2, steps=3, batch=3),
)
FIRST = torch.tensor([[1.0], [0.0]])
# three subjects fill no five folds
TRACES = (*STANDARD_TEXT[-5:-1], Detected(folds=3))


@pytest.mark.parametrize("audit", [*CHANGING, *TRACES], ids=repr)
def test_no_model_is_changed_and_equal_models_read_alike(audit: FactAudit) -> None:
    context = world.real_case()
    models = [world.suppressed(), context.original, context.oracle]
    before = [world.digest(model) for model in models]
    guarded = Guardrail(context.original, context.problem.tokenizer, ["Ada"])
    found = [
        audit(world.subject(model, name), context)
        for name, model in (("a", models[0]), ("b", models[0]), ("c", guarded))
    ]
    assert [world.digest(model) for model in models] == before
    assert np.array_equal(found[0].values, found[1].values)
    assert np.array_equal(found[0].index, found[2].index)
    assert all(((one.values >= 0) & (one.values <= 1)).all() for one in found)


@pytest.mark.parametrize("audit", CHANGING, ids=repr)
def test_audits_of_weights_see_through_a_guardrail(audit: FactAudit) -> None:
    context = world.real_case()
    guarded = Guardrail(context.original, context.problem.tokenizer, ["Ada", "Bo", "Cy"])
    plain, behind = (audit(world.subject(m), context) for m in (context.original, guarded))
    assert np.array_equal(plain.values, behind.values)
    assert Prefix()(world.subject(guarded), context).values.max() < 1e-6


def test_levels_of_two_bits_are_three() -> None:
    weights = torch.tensor([[1.0, 0.6, 0.4, -1.0], [0.0, 0.0, 0.0, 0.0]])
    assert rounded(weights, 2).tolist() == [[1, 1, 0, -1], [0, 0, 0, 0]]
    assert rounded(torch.tensor([[0.7, 0.35, 0.05]]), 4)[0].tolist() == pytest.approx(
        [0.7, 0.4, 0.1]  # 3.5 goes to the even level 4, 0.5 to 0 or 1 by its rounding error
    ) or rounded(torch.tensor([[0.7, 0.35, 0.05]]), 4)[0].tolist() == pytest.approx([0.7, 0.4, 0])


def test_each_group_has_a_grid_and_the_last_layer_none() -> None:
    model = world.subject(world.trained("all")).copy()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    QuantiseLayers(3, group=4).change(model, world.real_case())
    name = "model.layers.0.mlp.down_proj.weight"
    weights = dict(model.named_parameters())
    assert torch.equal(weights[name][:, :4], rounded(before[name][:, :4], 3))
    assert torch.equal(weights[name][:, 40:], rounded(before[name][:, 40:], 3))
    same = {name for name, weight in weights.items() if torch.equal(weight, before[name])}
    assert same == {name for name in weights if "proj" not in name}


@pytest.mark.parametrize(("share", "zeros"), [(0.0, 0), (0.25, 0.25), (1.0, 1)])
def test_trimming_takes_the_smallest(share: float, zeros: float) -> None:
    model = world.subject(world.trained("all")).copy()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    PruneLayers(share).change(model, world.real_case())
    pairs = [(before[n], w) for n, w in model.named_parameters() if "proj" in n]
    old, new = (torch.cat([pair[side].flatten() for pair in pairs]).abs() for side in (0, 1))
    assert float((new == 0).double().mean()) == pytest.approx(zeros, abs=1e-3)
    if 0 < share < 1:
        assert float(old[new == 0].max()) <= float(new[new > 0].min())


def test_the_way_leads_from_the_model_to_the_original() -> None:
    context, one = world.real_case(), world.subject(world.suppressed())
    half = dict(mixed(one, context, 0.5).named_parameters())
    for name, weight in context.original.named_parameters():
        other = dict(one.model.named_parameters())[name]
        assert torch.allclose(half[name], (weight + other) / 2, atol=1e-6)
    found = Interpolated((0.5,))(one, context)
    assert [share for share, _ in found.curve] == [0, 0.5, 1]
    assert found.curve[0][1] == pytest.approx(facts.held(one, context).mean())
    assert found.curve[2][1] == pytest.approx(facts.anchors(context)[1].mean())
    assert not Interpolated.decisive


def test_a_model_of_another_shape_has_no_way_to_the_original() -> None:
    other = tiny_llama(len(world.tokenizer()), width=24, layers=2, heads=2, context=128)
    with pytest.raises(BadEvidence, match="names or shapes"):
        Interpolated()(world.subject(other), world.real_case())


@pytest.mark.parametrize(
    "lessons", [OtherFacts(), OtherSubjects(0.4), OtherSubjects(0.99), OtherFacts(0.01)], ids=repr
)
def test_what_is_taught_is_not_measured(lessons: Any) -> None:
    context = world.context()
    taught, measured = lessons.taught(context), lessons.measured(context)
    assert taught and measured and not set(taught) & set(measured)
    assert set(taught) | set(measured) == set(world.FORGET)
    if isinstance(lessons, OtherFacts):
        assert {i.subject for i in taught} == {i.subject for i in measured}
    else:
        assert not {i.subject for i in taught} & {i.subject for i in measured}


def test_benign_lessons_are_of_the_kinds_that_were_forgotten() -> None:
    context = world.context()
    assert set(Related().taught(context)) == set(world.RETAIN)
    homes = context_of(
        FactProblem(world.FORGET[:1], world.RETAIN, context.problem.tokenizer),
        context.original,
        context.oracle,
    )
    assert {item.kind for item in Related().taught(homes)} == {"home"}
    assert Unrelated().taught(context) == world.UNRELATED


def test_lessons_that_a_case_lacks_do_not_fit() -> None:
    context = world.context(unrelated=())
    one = context_of(
        FactProblem(world.FORGET[:1], world.RETAIN, context.problem.tokenizer),
        context.original,
        context.oracle,
    )
    assert "nothing to teach" in RelearnFacts(Unrelated()).unfit(context)
    for lessons in (OtherFacts(), OtherSubjects()):
        assert RelearnFacts(lessons).unfit(one)
        assert not RelearnFacts(lessons).unfit(context)
        assert Suffix(lessons).unfit(one) and SoftPrompt(lessons).unfit(one)


def test_each_row_is_read_once_before_any_is_read_twice() -> None:
    drawn = turns(5, 2, 6, torch.Generator().manual_seed(1))
    assert [len(rows) for rows in drawn] == [2, 2, 1, 2, 2, 1]
    assert sorted(torch.cat(drawn[:3]).tolist()) == sorted(torch.cat(drawn[3:]).tolist())


class TestRelearned:
    def test_a_suppressed_model_comes_back_and_a_retrained_one_does_not(self) -> None:
        context = world.real_case()
        audit = RelearnFacts(OtherSubjects(), steps=20, every=5, lrs=(0.001, 0.003), batch=4)
        models = {"suppressed": world.suppressed(), "retrained": world.trained("kept", 1)}
        found = {name: audit(world.subject(m), context) for name, m in models.items()}
        assert found["suppressed"].values.mean() > found["suppressed"].curve[0][1] + 0.2
        assert found["suppressed"].values.mean() > 0.8
        assert found["suppressed"].cost["steps to level"] <= 10
        assert found["retrained"].values.mean() < 0.1
        assert "steps to level" not in found["retrained"].cost

    def test_the_original_is_there_before_the_lessons(self) -> None:
        context = world.real_case()
        found = RelearnFacts(OtherFacts(), **BRIEF)(world.subject(context.original), context)
        assert found.cost["steps to level"] == 0
        assert found.curve[0][0] == 0 and found.values.mean() >= found.curve[0][1]

    def test_all_values_are_from_one_moment_and_the_best(self) -> None:
        context, one = world.real_case(), world.subject(world.suppressed())
        audit = RelearnFacts(OtherFacts(), **BRIEF)
        found = audit(one, context)
        courses = [audit._course(one, context, lr) for lr in audit.lrs]
        means = [float(values.mean()) for course in courses for _, values in course]
        assert float(found.values.mean()) == max(means)
        lr = audit.lrs.index(found.cost["learning rate"])
        assert dict(courses[lr])[int(found.cost["steps"])].tolist() == found.values.tolist()
        assert [step for step, _ in found.curve] == [0, 3, 6]

    def test_lessons_that_break_the_model_leave_what_was_there(self) -> None:
        context, one = world.real_case(), world.subject(world.suppressed())
        found = RelearnFacts(OtherFacts(), **BRIEF | {"lrs": (1e30,)})(one, context)
        chosen = facts.places(OtherFacts().measured(context), context)
        assert found.values.mean() >= facts.held(one, context)[chosen].mean()

    @pytest.mark.parametrize(
        "wrong",
        [{"steps": 0}, {"lrs": ()}, {"lrs": (0.0,)}, {"every": 41}, {"level": 2.0}],
        ids=str,
    )
    def test_a_budget_that_cannot_be_is_refused(self, wrong: Any) -> None:
        with pytest.raises(BadSentence, match="RelearnFacts"):
            RelearnFacts(OtherFacts(), **wrong)


class TestSearched:
    def slots(self) -> Any:
        return Suffix().prepared(world.real_case())[0]

    def test_the_suffix_stands_behind_the_question(self) -> None:
        slots, mark = self.slots(), torch.tensor(world.ids("Rome", False))
        said = [world.tokenizer().decode(row.ids) for row in slots.filled(mark)]
        whole = zip(said, slots.texts.made, strict=True)
        assert all("? Rome " in one and one.endswith(row.answer) for one, row in whole)

    def test_embeddings_of_tokens_read_as_the_tokens(self) -> None:
        model, slots = world.trained("all"), self.slots()
        suffix = torch.tensor([5, 9])
        soft = model.get_input_embeddings().weight[suffix].detach()
        with torch.no_grad():
            losses = searched.prompted(model, slots, soft)
        chances = facts.probability(model, Texts(slots.filled(suffix), slots.texts.pad))
        assert (-losses).exp().tolist() == pytest.approx(chances.tolist(), rel=1e-4)

    def test_the_slope_is_that_of_the_loss(self) -> None:
        model, slots = world.subject(world.trained("all")).copy(), self.slots()
        table, suffix = model.get_input_embeddings().weight, torch.tensor([5, 9])
        slope = searched.slopes(model, slots, suffix)
        with torch.no_grad():
            soft = table[suffix].clone()
            low, high = (
                searched.prompted(model, slots, soft + sign * 1e-3 * table[7] * FIRST)
                for sign in (-1, 1)
            )
        assert float(slope[0, 7]) == pytest.approx(
            float((high - low).mean()) / 2e-3, rel=0.02, abs=1e-3
        )

    def test_a_search_on_facts_that_were_kept_is_refused(self) -> None:
        with pytest.raises(BadSentence, match="OtherFacts or OtherSubjects"):
            Suffix(Related())

    def test_a_soft_prompt_is_never_evidence(self) -> None:
        assert Suffix.decisive and not SoftPrompt.decisive


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Rounded(bits=8)", QuantiseLayers(bits=8)),
        ("Trimmed()", PruneLayers()),
        ("Relearned(OtherFacts(), steps=8)", RelearnFacts(OtherFacts(), steps=8)),
        ("TunedProbe(held=0.5)", ProbeFacts(held=0.5)),
    ],
)
def test_a_renamed_word_parses_under_its_old_name_and_keeps_its_key(
    old: str, new: FactAudit, tmp_path: Path
) -> None:
    with pytest.warns(DeprecationWarning, match=f"is now {type(new).__name__}"):
        assert parse(old, audit_words()) == new
    assert parse(repr(new), audit_words()) == new
    assert in_full(new).startswith(f"{old.partition('(')[0]}/1(")
    model = world.subject(world.told(()))
    job = MeasurementCache(Store(tmp_path / "store"), "key").job(new, model, 3)
    spec = repr((old, fingerprint(model.bare).hex(), False, "key"))
    assert (job.kind, job.spec, job.seed) == ("reading", spec, 3)


def test_an_old_word_refuses_what_the_new_one_refuses() -> None:
    with pytest.warns(DeprecationWarning), pytest.raises(BadSentence, match="takes bits, group"):
        parse("Rounded(depth=3)", audit_words())
