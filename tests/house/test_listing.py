"""The lists of methods: whole at every width, true to the code; and what is refused or doubted."""

from __future__ import annotations

import importlib.util
import io
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from house_tools import carried_out, plan, problem
from rich.console import Console

from expunge.cli.explain import (
    explanation,
    families,
    gloss,
    in_columns,
    indented,
    print_explanations,
    print_methods,
    row,
    wrapped,
)
from expunge.core.schedules import SGD, Cosine
from expunge.core.store import Store
from expunge.experiments.experiment import load
from expunge.experiments.plan import Plan
from expunge.experiments.planning import plan_for
from expunge.experiments.summary import summary
from expunge.methods.losses.answers import CE
from expunge.methods.published import NAMED, PUBLISHED
from expunge.methods.selectors.places import Last
from expunge.methods.sentences import as_method
from expunge.report.page import render
from expunge.report.terminal import plain

ROOT = Path(__file__).parents[2]


@cache
def digits() -> Plan:
    return plan_for(load("digits"))


def printed(width: int, *sentences: str) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None)
    if sentences:
        print_explanations([as_method(sentence) for sentence in sentences], digits(), console)
    else:
        print_methods(digits(), console)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160, 240])
def test_the_list_fits_and_loses_nothing(width: int) -> None:
    said = printed(width)
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    # without spaces, since words are wrapped between columns
    squeezed = said.replace(" ", "").replace("\n", "")
    for method in PUBLISHED.values():
        assert any(line.split()[:1] == [method.name] for line in said.splitlines())
        if width == 80:  # there the source stands below, by itself
            assert method.source.replace(" ", "") in squeezed
    for words in {word for m in PUBLISHED.values() for word in m.source.split()}:
        assert words in said


def test_every_published_method_stands_in_one_family() -> None:
    found = families(digits().retrain)
    listed_names = [method.name for each in found.values() for method in each]
    assert sorted(listed_names) == sorted(["retrain", *NAMED])
    assert "Others." not in found
    assert next(iter(found.values()))[0].name == "retrain"


def test_a_row_by_hand() -> None:
    assert row(digits().retrain, digits().problem)[:4] == ("retrain", "retain", "10.0", "exact")
    told = row(as_method("finetune"), digits().problem)
    assert told[1:4] == ("retain", "1.0", "none")
    stopping = as_method("Newton(CE('retain'), iterations=2)")
    assert row(stopping, digits().problem)[2] == "<= 3.0"
    closed = as_method("Train(CE('test'))")
    assert row(closed, digits().problem)[2] == "-"


def test_cells_are_wrapped_in_their_columns() -> None:
    text = in_columns(("name", "forget, retain", "1.0", "none"), [6, 8, 6, 9])
    assert text == "name    forget,      1.0  none\n        retain"
    assert indented("a b", 5) == "    a\n    b"
    assert wrapped("  1. one two", 9) == "  1. one\n    two"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_method_is_explained_within_80_columns(name: str) -> None:
    said = printed(80, name)
    long = [line for line in said.splitlines() if len(line) > 80]
    assert not long
    for head in ("needs:", "costs:", "guarantee:", "seeds:"):
        assert said.count(f"  {head}") == 1
    assert "None" not in said
    assert "`" not in said


def test_an_explanation_by_hand() -> None:
    sentence = "Reset(Last(2)), Repeat((Train(CE('retain') - 0.5 * Entropy('forget')),), times=3)"
    said = "\n".join(explanation(as_method(sentence), digits()))
    assert said.startswith(
        "mine: 2 steps, on a network of 1,922 weights\n  needs: retain, forget ("
    )
    # 19 minibatches a turn; 130 to forget in 64, 64, 2: six rounds and one minibatch more
    for line in (
        "       where Last(layers=2): the last 2 layers: each a weight matrix or kernel with",
        "  2. Repeat, 3 times\n     2.1. Train(CE('retain') - 0.5 * Entropy('forget'))\n",
        "            lower CE('retain'): cross-entropy with the true classes, nats\n",
        "            raise 0.5 times Entropy('forget'): entropy of the model's answers",
        "          reads retain (1,167 examples), forget (844 examples, no labels); touches 100.0%",
        "          19 minibatches of 64 a set; an epoch is a pass over retain (1167 examples)\n",
        "     reads in all retain (3,501 examples), forget (2,532 examples, no labels)",
    ):
        assert f"\n{line}" in said
    exact = list(explanation(digits().retrain, digits()))
    assert any("guarantee: exact; it starts from fresh weights" in line for line in exact)
    assert any("10.0 passes over the retain set of digits, 100% of retraining" in x for x in exact)


def test_a_coefficient_that_changes_keeps_its_sign() -> None:
    sentence = "Train(Cosine(-25.0) * CE('forget') + Warmup(2.0) * CE('retain'))"
    said = "\n".join(explanation(as_method(sentence), digits()))
    assert "raise Cosine(25.0) times CE('forget')" in said.replace(", end=-0.0", "")
    assert "lower Warmup(2.0) times CE('retain')" in said


def test_a_word_is_told_with_its_own_numbers() -> None:
    assert gloss(Cosine(0.1, 0.01)) == "from 0.1 to 0.01 along half a cosine wave"
    assert gloss(Last(3)).startswith("the last 3 layers: ")
    assert gloss(SGD()).startswith("stochastic gradient descent")
    assert gloss(CE("retain")) == "cross-entropy with the true classes, nats"


def test_refusals_and_doubts_are_shown() -> None:
    said = printed(160, "Impair(), Train(CE('retain'))", "Dampen(alpha=2.0)")
    assert "cannot work on digits: it forgets whole classes" in said
    assert "doubt: The set forget has the classes of a random draw from train." in said


def test_an_experiment_records_refusals_and_tells_doubts(tmp_path: Path) -> None:
    methods = {"classes": "Impair()", "unseen": "Train(CE('holdout'))", "shrink": "Dampen(1.01)"}
    made = plan(problem(), methods, members=2)
    found = summary(made, carried_out(made, Store(tmp_path / "store")))
    rows = {each["name"]: each for each in found["rows"]}
    assert "classes cannot work on tiny: it forgets whole classes" in rows["classes"]["unscored"]
    assert "for measuring only" in rows["unseen"]["unscored"]
    assert list(found["doubts"]) == ["shrink"]
    doubt = f"Doubt about shrink: {found['doubts']['shrink'][0]}"
    assert doubt in plain(found, width=400)
    assert doubt in render(found)
    del found["doubts"]  # as summaries of older versions
    assert "Doubt" not in plain(found) + render(found)


def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page", ROOT / "tools" / "methods_page.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_of_methods_is_current() -> None:
    written = (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert written == page().page(digits()), (
        "docs/methods.md is not what the code says; run python tools/methods_page.py"
    )


def test_a_method_for_another_network_is_explained_to_the_end() -> None:
    """The layers that rmu names are those of a language model: said, and no error."""
    assert "touches nothing here: No parameter of this model matches" in printed(400, "rmu")
