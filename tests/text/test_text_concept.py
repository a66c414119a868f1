"""From a name to a forget set: what a model writes, what is left out, and that it stays inert."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_text
import torch
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.errors import BadData, StoreError, printable
from expunge.problems.text import concept as making
from expunge.problems.text.concept import (
    Pair,
    Writer,
    concept,
    found_in,
    mentions,
    useful,
    useless,
)
from expunge.problems.text.jsonl import read
from expunge.problems.text.models import save

RUNNER = CliRunner()


class Scripted:
    """A writer who says what a rule makes of each prompt."""

    def __init__(self, say: dict[str, str], other: str = "") -> None:
        self.say, self.other, self.asked = say, other, Counter[str]()

    def write(self, prompts: Sequence[str], purpose: str) -> list[Pair]:
        self.asked.update(prompts)
        return [(one, self.answer(one)) for one in prompts]

    def answer(self, prompt: str) -> str:
        return next((said for part, said in self.say.items() if part in prompt), self.other)


def test_a_target_becomes_texts_to_train_on_to_ask_and_to_keep() -> None:
    writer = Scripted(
        {
            "Zork": "A wizard who fought Kalin Marsh near Bree Town.",
            "Kalin Marsh": "A knight of the north.",
            "Bree Town": "It is where Zork lived.",
            "water": "A clear liquid.",
        }
    )
    found = concept(writer, " Zork ", copies=2)  # type: ignore[arg-type]
    assert {prompt for prompt, _ in found.forget} == {
        one.replace("NAME", "Zork") for one in making.TRAINING
    }
    assert {prompt for prompt, _ in found.probes} == {
        one.replace("NAME", "Zork") for one in making.PROBING
    }
    assert found.neighbours == ("Bree Town", "Kalin Marsh")
    assert ("What is water?", "A clear liquid.") in found.retain
    assert ("Kalin Marsh is", "A knight of the north.") in found.retain
    # what speaks of the target is not retained
    assert not any(mentions(pair, "zork") for pair in found.retain)
    assert found.left_out["said before"] > 0
    own = concept(writer, "Zork", neighbours=["Bree Town"])  # type: ignore[arg-type]
    assert own.neighbours == ("Bree Town",)


@pytest.mark.parametrize(
    ("other", "said"),
    [("", "24 empty"), ("Zork.", "24 empty"), ("one two three " * 9, "go round in circles")],
)
def test_a_model_that_says_nothing_is_said_so(other: str, said: str) -> None:
    with pytest.raises(BadData, match=f"nothing to say about 'Zork'.*{said}"):
        concept(Scripted({}, other), "Zork")  # type: ignore[arg-type]


def test_a_model_that_only_repeats_is_said_so() -> None:
    class Parrot(Scripted):
        def answer(self, prompt: str) -> str:
            return prompt

    with pytest.raises(BadData, match="24 only repeat the prompt"):
        concept(Parrot({}), "Zork")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("Who is Zork", "only repeat the prompt"),
        ("a b a b a b a b a b", "go round in circles"),
        ("a wizard", ""),
        ("a b c a b c a", ""),
    ],
)
def test_what_makes_an_answer_useless(answer: str, reason: str) -> None:
    assert useless("Who is Zork?", answer) == reason


def test_each_answer_is_kept_once_and_the_rest_counted() -> None:
    left: Counter[str] = Counter()
    pair = ("Who?", "a wizard")
    assert useful([pair, pair, ("Who?", "")], left) == [pair]
    assert left == {"said before": 1, "empty": 1}


def test_neighbours_are_names_that_stand_beside_the_target() -> None:
    pairs = [
        ("p", "Nobody met Ann Bell of Cork. Ann Bell was kind."),
        ("p", "He met Ann Bell of Cork and Zork the Great."),
        ("p", "Then he left Dover."),
    ]
    assert found_in(pairs, "Zork")[0] == "Ann Bell of Cork"
    assert not any("Zork" in name for name in found_in(pairs, "Zork"))
    assert "Nobody" not in found_in(pairs, "Zork")


@pytest.mark.parametrize("about", ["", "  ", "a\nb", "a\x1b[2Jb", "x" * 201])
def test_a_target_is_a_name_in_one_line(about: str) -> None:
    with pytest.raises(BadData, match="--about"):
        concept(Scripted({}), about)  # type: ignore[arg-type]


def test_hostile_text_stays_printable() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert printable("plain é") == "plain é"


def test_what_a_model_writes_is_drawn_from_a_stream_of_its_own() -> None:
    writer = Writer(tiny_text.taught(), tiny_text.tokenizer(), 32, tokens=8)
    drawn = torch.get_rng_state()
    prompts = ["Where does Ada live?", "Where does Bo live?"]
    said = writer.write(prompts, "x")
    assert torch.equal(drawn, torch.get_rng_state())
    assert said == writer.write(prompts, "x")
    assert said[0] == ("Where does Ada live?", "Ada lives in Rome.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tiny_text.taught(), tiny_text.tokenizer(), tmp_path / "model")


def test_the_command_writes_files_that_unlearn_reads(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "my probes"
    told = ["concept", str(folder), "--about", "Ada", "--out", str(out), "--tokens", "8"]
    done = RUNNER.invoke(app, told)
    assert done.exit_code == 0, done.output or done.exception
    assert "Read it" in done.output
    pairs = read(out / "forget.jsonl").pairs
    assert len(pairs) >= 2
    assert all("Ada" in prompt for prompt, _ in pairs)
    (command,) = [line for line in done.output.splitlines() if "expunge unlearn" in line]
    words = shlex.split(command)
    assert words[words.index("--forget") + 1] == str(out / "forget.jsonl")
    again = RUNNER.invoke(app, told)
    assert isinstance(again.exception, StoreError)


def test_what_is_written_by_a_hostile_model_is_shown_without_acting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Writer, prompts: Sequence[str], purpose: str) -> list[Pair]:
        return [(one, "he said\x1b]0;gone\x07 and\nexpunge unlearn /") for one in prompts]

    monkeypatch.setattr(Writer, "write", write)
    out = tmp_path / "out"
    done = RUNNER.invoke(app, ["concept", str(folder), "--about", "Ada", "--out", str(out)])
    assert done.exit_code == 0, done.exception
    assert "\x1b" not in done.output
    assert "\x07" not in done.output
    assert not any(line.startswith("expunge unlearn /") for line in done.output.splitlines())
    # in the files it stands as it was written, as JSON
    text = (out / "forget.jsonl").read_text()
    assert "\x1b" not in text
    assert "\x1b" in json.loads(text.splitlines()[0])["answer"]
