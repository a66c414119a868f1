"""An experiment file is read as data: what is wrong with it is told, and nothing in it is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from house_tools import DIGITS
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.audits.panel import STANDARD
from expunge.errors import BadData, BadSentence, ExpungeError
from expunge.experiments.experiment import (
    Experiment,
    forget_chooser,
    load,
    load_all,
    parse,
    read,
    shipped,
    to_toml,
)
from expunge.experiments.planning import LANGUAGE

METHODS = "[methods]\nfinetune = \"Train(CE('retain'))\"\n"
HEAD = 'name = "a"\nrecipe = "Train(CE(\'train\'))"\n'
PLAIN = HEAD + METHODS

# What is wrong in a file -> what the sentence must hold.
WRONG = {
    "unknown key": ("membres = 4\n" + PLAIN, "unknown key 'membres'. Did you mean members?"),
    "no name": (PLAIN.replace('name = "a"', ""), "the key 'name' is missing"),
    "no recipe": ('name = "a"\n' + METHODS, "the key 'recipe' is missing"),
    "no methods": (HEAD, "the key 'methods' is missing"),
    "methods as a list": (HEAD + "methods = []", "[methods] must be a table"),
    "members in words": ('members = "4"\n' + PLAIN, "members must be int, got '4'"),
    "members broken": ("members = 4.5\n" + PLAIN, "members must be int, got 4.5"),
    "members as a bool": ("members = true\n" + PLAIN, "members must be int, got True"),
    "seed as a date": ("seed = 2020-01-01\n" + PLAIN, "seed must be int"),
    "name as a number": (PLAIN.replace('"a"', "3"), "name must be str, got 3"),
    "recipe as a number": (PLAIN.replace("\"Train(CE('train'))\"", "3"), "must be a sentence"),
    "one member": ("members = 1\n" + PLAIN, "expected 2 to 1000000; 16 or more can rank"),
    "no member": ("members = 0\n" + PLAIN, "expected 2 to"),
    "less than no member": ("members = -4\n" + PLAIN, "expected 2 to"),
    "too many members": ("members = 1000001\n" + PLAIN, "expected 2 to"),
    "audits in words": ('audits = "standard"\n' + PLAIN, "audits must be a list of sentences"),
    "a misspelt audit": ('audits = ["Relern()"]\n' + PLAIN, "Did you mean Relearn?"),
    "no audit": ('audits = ["Noise(0.1)"]\n' + PLAIN, "'Noise(0.1)' is no audit"),
    "an audit twice": ('audits = ["standard", "Prune()"]\n' + PLAIN, "Prune() is there twice"),
    "one audited": ("audited = 1\n" + PLAIN, "audited = 1: expected 2 models"),
    "odd shadows": ("shadows = 3\n" + PLAIN, "shadows = 3: expected an even number"),
    "fewer shadows than none": ("shadows = -2\n" + PLAIN, "shadows = -2: expected an even"),
    "huge seed": ("seed = 9000000000000000000\n" + PLAIN, "expected a number up to"),
    "huge number": ("seed = " + "9" * 5000 + "\n" + PLAIN, "is not TOML"),
    "protocol": ('protocol = "pared"\n' + PLAIN, "Did you mean paired?"),
    "rule": ('rule = "exat"\n' + PLAIN, "Did you mean exact?"),
    "no TOML": ("name = ", "is not TOML"),
    "binary": ("\x00\x01", "is not TOML"),
    "deep": (PLAIN + "x = " + "[" * 50_000, "is not TOML"),
    "a key twice": ('name = "b"\n' + PLAIN, "is not TOML"),
    "misspelt word": (HEAD + "[methods]\nm = \"Trian(CE('retain'))\"", "Did you mean Train?"),
    "no sentence": (HEAD + '[methods]\nm = "0.5"', "Expected a method"),
    "a method without sentence": (HEAD + '[methods]\nm = { source = "x" }', "must be a sentence"),
    "a method's key": (HEAD + '[methods]\nm = { sentense = "x" }', "m must be a sentence"),
    "a method's second key": (
        HEAD + '[methods]\nm = { sentence = "Noise(0.1)", url = "x" }',
        "unknown key 'url'",
    ),
    "a control's name": (HEAD + '[methods]\nretrain = "Noise(0.1)"', "is a control of every"),
    "another's": (HEAD + '[methods]\nnothing = "Noise(0.1)"', "is a control of every"),
    "an empty name": (HEAD + '[methods]\n"" = "Noise(0.1)"', "1 to 80 printable signs"),
    "a long name": (HEAD + f'[methods]\n{"m" * 81} = "Noise(0.1)"', "1 to 80 printable signs"),
    "signs for the terminal": (
        HEAD + '[methods]\n"\\u001b[31m" = "Noise(0.1)"',
        "1 to 80 printable signs, got '\\x1b[31m'",
    ),
    "a turned name": (HEAD + '[methods]\n"\\u202ekcart" = "Noise(0.1)"', "printable signs"),
    "a path for a name": (PLAIN.replace('"a"', '"../../a"'), "printable signs without '/'"),
    "a title of many lines": (PLAIN.replace('"a"', '"a\\nb"'), "printable signs without '/'"),
    "a title too long for a file": (PLAIN.replace('"a"', f'"{"é" * 101}"'), "200 bytes at most"),
    "a blank title": (PLAIN.replace('"a"', '"  "'), "printable signs without '/'"),
    "a recipe that trains nothing": (PLAIN.replace("Train(CE('train'))", "Noise(0.1)"), "recipe ="),
    "a recipe on retain": (PLAIN.replace("'train'", "'retain'"), "expected a Train on the set"),
    "a recipe on forget too": (
        PLAIN.replace("CE('train')", "CE('train') + CE('forget')"),
        "neither 'forget' nor 'retain'",
    ),
}

CODE = (
    "__import__('os').system('touch planted')",
    "Train(CE(open('planted', 'w').name))",
    "(lambda: Train)()",
    "[Train for _ in (1,)]",
    "Train.__class__",
    "Train(CE('retain'), **{})",
    "eval('1')",
    "f'{Train}'",
    "Train(CE('retain')) if 1 else 2",
    "x := 3",
    "exec",
)


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(BadSentence) as fault:
        read(text, "my.toml")
    assert told in str(fault.value)
    assert len(str(fault.value)) < 1000


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("key", ["recipe", "method"])
def test_code_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, method = (code, "Noise(0.1)") if key == "recipe" else ("Train(CE('train'))", code)
    text = f'name = "a"\nrecipe = """{recipe}"""\n[methods]\nm = """{method}"""\n'
    with pytest.raises(BadSentence):
        read(text, "my.toml")
    assert list(tmp_path.iterdir()) == []


def test_a_method_named_twice_is_refused() -> None:
    whole = read(PLAIN, "x")
    with pytest.raises(BadSentence, match="'finetune' is there twice"):
        dataclasses.replace(whole, methods=whole.methods * 2)


def test_what_is_left_out_has_its_default() -> None:
    made = read(PLAIN, "x")
    assert (made.members, made.protocol, made.rule) == (128, "challenge", "released")
    assert [method.name for method in made.compared] == ["nothing", "finetune"]
    assert made.methods[0].sentence == "Train(CE('retain'))"
    assert made.methods[0].source == ""


def test_a_method_may_bring_its_source() -> None:
    text = HEAD + '[methods]\nm = { sentence = "Noise(0.1)", source = "eq. 3" }'
    assert read(text, "x").methods[0].source == "eq. 3"


def test_seeds_of_two_experiments_do_not_meet() -> None:
    seeds = [read(f"seed = {n}\nmembers = 1000000\n" + PLAIN, "x").seeds for n in (-1, 0, 1)]
    assert (seeds[1][0], seeds[1][-1]) == (0, 999_999)
    assert seeds[0][-1] < seeds[1][0] <= seeds[1][-1] < seeds[2][0]


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_experiment_reads_and_comes_back(name: str) -> None:
    several = load_all(name)
    assert name in {several[0].name, several[0].name.rpartition("-")[0]}
    for made in several:
        assert read(to_toml(made), "again") == made
        for method in (made.recipe, *made.methods):
            said = parse(method.sentence)
            assert (said if isinstance(said, tuple) else (said,)) == method.steps
        hides = "gibberish"  # of texts the filter hides the answers, in every experiment
        if made.problem not in LANGUAGE:
            assert callable(forget_chooser(made.forget))
            hides = "sham"
        assert hides in [method.name for method in made.methods]
        assert all(method.source for method in made.methods)


def test_there_are_shipped_experiments() -> None:
    assert {"digits", "cifar10", "image-folder"} <= set(shipped())


TITLES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(TITLES, TITLES, TITLES, st.integers(2, 1_000_000), st.integers(-(10**12), 10**12))
@settings(deadline=None, derandomize=True)
def test_what_is_written_reads_back(
    title: str, method: str, source: str, members: int, seed: int
) -> None:
    base = read(PLAIN, "x")
    try:
        mine = dataclasses.replace(base.methods[0], name=method, source=source)
        made = dataclasses.replace(base, name=title, methods=(mine,), members=members, seed=seed)
    except BadSentence:
        return  # a name that no experiment may have
    assert read(to_toml(made), "again") == made


def test_every_field_is_written_and_read() -> None:
    base = read(PLAIN, "x")
    others: dict[str, object] = {"protocol": "paired", "rule": "exact", "shadows": 8}
    others["audits"] = STANDARD
    for field in dataclasses.fields(Experiment):
        if field.name not in ("recipe", "methods"):
            value = getattr(base, field.name)
            other = others.get(field.name)
            if other is None:
                other = value + 1 if isinstance(value, int) else value + "é\"'\\"
            changed = dataclasses.replace(base, **{field.name: other})
            assert changed != base
            assert read(to_toml(changed), "again") == changed


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(DIGITS)
    assert load(str(tmp_path / "my.toml")).name == "tiny"


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(BadSentence, match=r"Did you mean digits\? Experiments: cifar10, digits"):
        load("digit")


@pytest.mark.parametrize("name", ["", ".", "/", "x" * 300, "a\0b", "../digits", "digits.toml"])
def test_what_is_no_file_is_told(name: str) -> None:
    with pytest.raises(BadSentence, match="No experiment or file"):
        load(name)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large.toml", "wb") as file:
        file.truncate(2**30)
    with pytest.raises(BadSentence, match="larger than 1000000 bytes"):
        load(str(tmp_path / "large.toml"))


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadSentence, match="is not TOML"):
        load(str(tmp_path / "my.toml"))


NO_FORGET_SETS = (
    "CE('retain')",
    "Convs()",
    "Noise(0.1)",
    "PixelPCA()",
    "0.1",
    "'x'",
    "()",
    "SGD()",
)


@pytest.mark.parametrize("sentence", NO_FORGET_SETS)
def test_what_chooses_no_forget_set_is_refused(sentence: str) -> None:
    with pytest.raises(BadData, match="is no forget set"):
        forget_chooser(sentence)


@pytest.mark.parametrize("sentence", ["RandomShare()", "RandomShare('x')", "RandmShare(0.1)", ""])
def test_a_forget_set_that_cannot_be_read_is_told(sentence: str) -> None:
    with pytest.raises(ExpungeError):
        forget_chooser(sentence)
