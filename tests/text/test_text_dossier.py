"""Verdicts on language models: small models of every kind, oracles that are none, foreign text."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console
from tiny_text import NAMES, PAIRS, PLACES, RECIPE, fresh, net, pairs, tokenizer
from typer.testing import CliRunner

from expunge.audits.audit import AuditedModel, Measurement, Measurements
from expunge.audits.finding import REDACTED
from expunge.audits.text import facts as checks
from expunge.audits.text.asking import Prefix, Question
from expunge.audits.text.facts import FactAudit, FactContext, FactProblem, context_of, measurement
from expunge.audits.text.lm_verdict import AuditReport, AuditRequest, audit_models, judge
from expunge.audits.text.relearning import OtherSubjects, RelearnFacts
from expunge.audits.text.transforms import QuantiseLayers
from expunge.cli.main import app
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.core.vocabulary import word
from expunge.engine.training import from_scratch
from expunge.errors import BadEvidence
from expunge.problems.networks.language import word_tokenizer
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.models import save
from expunge.report.verdicts import VerdictCard, card, page
from expunge.unlearn import unlearn

ITEMS = tuple(
    Item(n, pair[0], pair[1], subject=name, value=place)
    for n, (pair, name, place) in enumerate(zip(PAIRS, NAMES, PLACES, strict=True))
)
FORGET, RETAIN = ITEMS[:6], ITEMS[6:]
RUN = CliRunner()


@word
class Fixed(FactAudit):
    """Says of a model what a test wrote on it: `fixed`."""

    family: ClassVar[Any] = "relearning"
    unit: ClassVar[str] = "units"
    calls: ClassVar[list[str]] = []

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        self.calls.append(subject.name)
        level = 0.9 if subject.name in ("original", "guardrail") else 0.0
        return measurement(
            context.problem.forget, [level] * len(context.problem.forget), cost={"steps": 3.0}
        )


PANEL = (Question(tokens=8), Prefix(), QuantiseLayers(), Fixed())


@cache
def trained(on: str, seed: int) -> Any:
    """A model of all pairs, or of those to be retained."""
    problem = Problem.of(
        forget=pairs(slice(0, 6)), retain=pairs(slice(6, 8)), architecture=net, recipe=RECIPE
    )
    return unlearn(fresh(seed), from_scratch(problem, on, on), problem, seed=seed).model


def audited(subject: Any, oracles: Any = None, **rest: Any) -> AuditReport:
    others = oracles or [trained("retain", 1), trained("retain", 2)]
    problem = FactProblem(
        tuple(rest.pop("forget", FORGET)), rest.pop("retain", RETAIN), tokenizer()
    )
    store = rest.pop("store", None)
    request = AuditRequest(**{"audits": PANEL, "margin": 0.5, **rest})
    return audit_models(subject, trained("train", 0), others, problem, request, store)


def test_the_original_itself_has_not_forgotten() -> None:
    found = audited(copy.deepcopy(trained("train", 0)))
    assert found.verdict.word == "not forgotten"
    # the control hides, and knows all
    assert found.guardrail is not None
    assert found.guardrail.word == "suppressed"


def measured(guardrail: float) -> list[Measurements]:
    """Plain asking, which a filter passes, and an attack on which it has what is told."""
    levels = {"subject": 0.01, "oracle 1": 0.0, "oracle 2": 0.02, "original": 0.9}
    people = [replace(ITEMS[0], index=n, subject=f"p{n % 6}") for n in range(24)]

    def read(level: float) -> Measurement:
        return measurement(people, [level + 0.001 * (n % 5) for n in range(24)])

    asked = {name: read(level) for name, level in {**levels, "guardrail": 0.01}.items()}
    attacked = {name: read(level) for name, level in {**levels, "guardrail": guardrail}.items()}
    return [Measurements(Question(), asked), Measurements(Fixed(), attacked)]


def test_nobody_is_removed_by_audits_that_acquit_the_filter() -> None:
    caught = judge(measured(guardrail=0.9), margin=0.2)
    assert caught.word == "removed"
    assert judge(measured(guardrail=0.9), name="guardrail", margin=0.2).word == "suppressed"
    passed = judge(measured(guardrail=0.01), margin=0.2)
    assert passed.word == "inconclusive"
    assert "acquit the control" in passed.reason
    assert judge(measured(guardrail=0.01), name="guardrail", margin=0.2).word == "inconclusive"


def test_a_retrained_model_is_not_called_suppressed() -> None:
    assert audited(trained("retain", 3)).verdict.word in ("removed", "inconclusive")


def test_a_model_that_answers_nothing_has_collapsed() -> None:
    found = audited(fresh(9))
    assert found.verdict.word == "collapsed"
    assert "broken" in found.verdict.reason


def said_by(answers: dict[str, str]) -> Any:
    """A stand-in for what models write: the same to every question, or what they guess."""
    every = [item.answer for item in ITEMS]

    def say(one: AuditedModel, items: Any, context: FactContext) -> tuple[str, ...]:
        guessed = [every[(item.index + len(one.name)) % len(every)] for item in items]
        return tuple(answers.get(one.name, guess) for guess in guessed)

    return say


def test_answers_about_what_was_forgotten_are_looked_at_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = tuple(replace(ITEMS[n % 8], index=n) for n in range(20))
    context = context_of(FactProblem(people, RETAIN, tokenizer()), fresh(0), fresh(1))
    answers = {
        "silent": " ",
        "stammers": "no no no no no no",
        "refuses": "I do not know.",
        "raves": "xq vv zk",
    }
    monkeypatch.setattr(checks, "_answers", said_by(answers))
    names = ("oracle 1", "the oracle 2", "guesses", *answers)
    who = {name: AuditedModel(name, fresh(2)) for name in names}
    oracles = [who["oracle 1"], who["the oracle 2"]]
    told = {name: checks.garbled(one, oracles, context) for name, one in who.items()}
    assert [name for name, said in told.items() if said] == ["silent", "stammers", "raves"]
    assert told["silent"].startswith("100% of its 20 answers about what was to be forgotten")
    assert "blanks 100%" in told["silent"]
    assert "0% of retrained models'" in told["silent"]
    # so few facts exclude nothing, and nothing is asked of plain texts
    few = replace(context, problem=replace(context.problem, forget=people[:3]), cache={})
    assert "95 % interval 0% to 71%" in checks.garbled(
        AuditedModel("guesses", fresh(2)), oracles, few
    )
    plain = tuple(replace(one, prompt="") for one in people)
    texts = replace(context, problem=replace(context.problem, forget=plain), cache={})
    assert checks.garbled(who["silent"], oracles, texts) == ""


def test_a_refusal_among_broken_answers_counts_as_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = tuple(replace(ITEMS[n % 8], index=n) for n in range(20))
    context = context_of(FactProblem(people, RETAIN, tokenizer()), fresh(0), fresh(1))

    def mixed(one: AuditedModel, items: Any, context: FactContext) -> tuple[str, ...]:
        told = ["", "", *["I do not know."] * (len(items) - 2)]
        return tuple(told) if one.name == "mostly" else (ITEMS[0].answer,) * len(items)

    monkeypatch.setattr(checks, "_answers", mixed)
    # two of twenty are broken, and not two of two
    assert (
        checks.garbled(
            AuditedModel("mostly", fresh(2)), [AuditedModel("oracle 1", fresh(1))], context
        )
        == ""
    )


def test_limits_are_told() -> None:
    found = audited(trained("retain", 3), [trained("retain", 1)], retain=())
    assert sum("other trainings" in note for note in found.verdict.notes) == 1
    assert sum("whether the model is broken" in note for note in found.verdict.notes) == 1


def test_facts_about_one_subject_are_too_few_and_the_number_is_told() -> None:
    same = [replace(item, subject="Ada") for item in FORGET]
    found = audited(copy.deepcopy(trained("train", 0)), forget=same)
    assert found.verdict.word == "inconclusive"
    assert "expected 2 subjects" in found.verdict.reason
    assert "subjects with as many facts each would do" in found.verdict.reason


def test_an_oracle_that_saw_the_forget_set_is_refused() -> None:
    seen = trained("train", 5)
    untold = replace(FORGET[0], answer="Ada lives in Lima.", value="Lima")
    with pytest.raises(BadEvidence, match=r"oracle 2 knows .* trained on what was to be forgotten"):
        audited(trained("retain", 3), [trained("retain", 1), seen])
    with pytest.raises(BadEvidence, match="nothing to judge between"):
        audited(trained("retain", 3), [seen])
    with pytest.raises(BadEvidence, match="oracle 1 knows"):
        # held-out facts tell what is known without having seen it
        audited(trained("retain", 3), [seen], untaught=(untold,))


@pytest.mark.parametrize("which", ["none", "original", "twice"])
def test_oracles_that_are_none_are_refused(which: str) -> None:
    others = {
        "none": [], "original": [trained("train", 0)], "twice": [trained("retain", 1)] * 2
    }[which]  # fmt: skip
    with pytest.raises(BadEvidence, match="no oracle" if which == "none" else "bit for bit"):
        audit_models(
            trained("retain", 3), trained("train", 0), others,
            FactProblem(FORGET, RETAIN, tokenizer()), AuditRequest(PANEL),
        )  # fmt: skip


def test_readings_are_kept_and_come_back_alike(tmp_path: Path) -> None:
    store, model = Store(tmp_path / "store"), trained("retain", 3)
    Fixed.calls.clear()
    first = audited(model, store=store)
    made = len(Fixed.calls)
    again = audited(model, store=store)
    assert (made, len(Fixed.calls)) == (5, 5)
    assert card(first).plain() == card(again).plain()
    # the guardrail has the original's weights, and readings of its own
    assert first.measured[0].models["guardrail"].values.sum() == 0
    audited(model, store=store, seed=1)
    assert len(Fixed.calls) == 10


EVIL = '<script>alert(1)</script> {{ 7 * 7 }} [red]x[/red] \x1b[31m </td> "&\u202e'


def hostile(redact: bool = False) -> VerdictCard:
    found = audited(copy.deepcopy(trained("train", 0)))
    one = found.measured[0]
    mine = replace(one.models["subject"], examples=((EVIL, EVIL),))
    bad = replace(one, models={**one.models, "subject": mine})
    return card(replace(found, measured=(bad, *found.measured[1:])), redact=redact)


def test_foreign_text_stays_inert() -> None:
    told = hostile()
    html = page(told)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    assert "\x1b" not in html
    assert "default-src 'none'" in html
    assert "\x1b[31m" not in drawn(told)
    assert "[red]x[/red]" in drawn(told)
    assert "\x1b" not in json.dumps(told.plain())


def test_redaction_leaves_no_text() -> None:
    told = hostile(redact=True)
    for text in (page(told), drawn(told), json.dumps(told.plain())):
        assert "alert" not in text
        assert REDACTED in text


def drawn(told: VerdictCard) -> str:
    console = Console(width=200, no_color=True, file=StringIO())
    console.print(told.drawn())
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def lines(path: Path, items: tuple[Item, ...]) -> str:
    rows = [{"prompt": i.prompt, "answer": i.answer, "subject": i.subject} for i in items]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return str(path)


def folders(where: Path) -> dict[str, str]:
    models = {"mine": trained("retain", 3), "o": trained("train", 0), "a": trained("retain", 1)}
    return {n: str(save(copy.deepcopy(m), tokenizer(), where / n)) for n, m in models.items()}


def test_one_command_audits_two_folders(tmp_path: Path) -> None:
    at, out = folders(tmp_path), tmp_path / "report.json"
    told = ["audit", at["mine"], "--original", at["o"], "--oracle", at["a"]]
    told += ["--forget", lines(tmp_path / "f.jsonl", FORGET), "--only", "transforms"]
    told += ["--retain", lines(tmp_path / "r.jsonl", RETAIN), "--store", str(tmp_path / "s")]
    done = RUN.invoke(app, [*told, "--out", str(out), "--redact"])
    assert done.exit_code == 0, done.output
    assert "Verdict: " in done.output
    report = json.loads(out.read_text("utf-8"))
    assert report["word"] in ("removed", "inconclusive")
    assert report["lines"][0]["family"] == "asking"
    assert RUN.invoke(app, [*told, "--out", str(tmp_path / "r.html")]).exit_code == 0
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!doctype html>")


def test_bad_input_of_the_command_is_told(tmp_path: Path) -> None:
    at, forget = folders(tmp_path), lines(tmp_path / "f.jsonl", FORGET)
    start = ["audit", at["mine"], "--original", at["o"], "--forget", forget]
    said = lambda *more: str(RUN.invoke(app, [*start, *more]).exception)  # noqa: E731
    assert "No --oracle was given" in said()
    assert "Did you mean transforms?" in said("--oracle", at["a"], "--only", "transform")
    assert "expected a file .json or .html" in said("--oracle", at["a"], "--out", "x.pdf")
    other = word_tokenizer(["something else", *(" ".join(p) for p in PAIRS)], context=32)
    strange = str(save(copy.deepcopy(trained("retain", 2)), other, tmp_path / "strange"))
    assert "another tokenizer" in said("--oracle", strange)


def test_lessons_on_other_subjects_fit() -> None:
    found = audited(
        trained("retain", 3),
        audits=(*PANEL, RelearnFacts(OtherSubjects(), steps=2, lrs=(0.001,), every=1)),
    )
    assert len(found.effects) == 5
