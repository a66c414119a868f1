"""Sentences: every word reads back from its repr, and a hostile sentence is only ever refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.method import Method, names_of_sets, renamed
from expunge.core.schedules import SGD, Adam, AdamW, Cosine, Linear, Warmup
from expunge.core.selector import Everything
from expunge.core.vocabulary import in_full
from expunge.engine.training import Negate, Repeat, Reset, Train
from expunge.errors import BadSentence
from expunge.experiments.experiment import all_words, parse
from expunge.methods.losses.answers import CE, KL, L1, MSE, Entropy, Repel, Uniform
from expunge.methods.losses.classes import Relabel
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import Random, Salient, Similar, Smallest
from expunge.methods.selectors.places import Convs, First, Last, Named
from expunge.methods.sentences import as_method, parse_steps
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Blend, Noise, Zero
from expunge.methods.steps.influence import Newton

LOOSE = settings(deadline=None, derandomize=True, max_examples=100)
FEW = settings(LOOSE, max_examples=25)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_methods_read_back(name: str) -> None:
    method = PUBLISHED[name]
    assert parse(repr(method)) == method
    assert repr(parse(repr(method))) == repr(method)
    read = parse(method.sentence)
    assert (read if isinstance(read, tuple) else (read,)) == method.steps
    assert in_full(parse(repr(method))) == in_full(method)


numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e300)
rates = st.floats(1e-12, 1.0)
falling = (
    st.builds(Linear, rates, rates) | st.builds(Cosine, rates, rates) | st.builds(Warmup, rates)
)
shares = st.floats(0.001, 1.0)
sets = st.sampled_from(["forget", "retain", "val", "it's", 'a "quoted"', "ü\n"])
courses = st.one_of(
    st.builds(Linear, numbers, numbers),
    st.builds(Cosine, numbers),
    st.builds(Warmup, numbers, until=st.floats(0.01, 0.99)),
)
words = st.one_of(
    st.builds(CE, sets),
    st.builds(KL, sets, st.sampled_from(["original", "random"]), st.floats(0.1, 9.0)),
    st.builds(Uniform, sets),
    st.builds(Relabel, sets),
    st.builds(Entropy, sets),
    st.builds(MSE, sets),
    st.builds(Repel, sets, sets, temperature=st.floats(0.1, 9.0)),
)
weighted = st.one_of(
    words,
    st.builds(lambda c, t: c * t, numbers, words),
    st.builds(lambda c, t: t * c, courses, words),
    st.builds(lambda t: -t, words),
)
objectives = st.builds(
    lambda first, rest: sum_up(first, rest),
    weighted,
    st.lists(st.tuples(st.booleans(), weighted), max_size=4),
)


def sum_up(first: Any, rest: list[tuple[bool, Any]]) -> Any:
    for minus, term in rest:
        first = first - term if minus else first + term
    return first


parts = st.recursive(
    st.one_of(
        st.builds(Everything),
        st.builds(Convs),
        st.builds(First, st.integers(1, 9)),
        st.builds(Last, st.integers(1, 9)),
        st.builds(Smallest, shares),
        st.builds(Random, shares),
        st.builds(Salient, sets, shares),
        st.builds(Similar, sets, sets, shares),
        st.builds(Named, st.sampled_from([r"layers\.(5|6)\.", "'", '"', r"\d+\\", "weight$"])),
    ),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)
optimisers = st.one_of(
    st.builds(SGD, st.floats(0.1, 1.0), rates, st.booleans()),
    st.builds(Adam, rates, st.floats(0, 0.99)),
    st.builds(AdamW, rates),
)
trains = st.builds(
    Train,
    objectives,
    epochs=st.floats(0.01, 99.0) | st.integers(1, 9),
    lr=rates | falling,
    batch=st.integers(1, 512),
    optimiser=optimisers,
    where=parts,
    clip=st.floats(0, 9.0),
)
steps = st.recursive(
    st.one_of(
        trains,
        st.builds(Noise, rates, parts),
        st.builds(Reset, parts),
        st.builds(Zero, parts),
        st.builds(Dampen, rates, rates, sets, sets),
        st.builds(Newton, objectives, rates, st.integers(1, 9), numbers),
        st.builds(Blend, shares),
        st.builds(Negate, trains, numbers),
    ),
    lambda inner: st.builds(
        Repeat, st.lists(inner, min_size=1, max_size=3).map(tuple), st.integers(1, 9)
    ),
    max_leaves=4,
)


def assert_reads_back(thing: Any) -> None:
    read = parse(repr(thing))
    assert read == thing
    assert repr(read) == repr(thing)
    assert in_full(read) == in_full(thing)


@LOOSE
@given(objectives)
def test_terms_read_back(term: Any) -> None:
    assert_reads_back(term)


@LOOSE
@given(parts)
def test_parts_read_back(part: Any) -> None:
    assert_reads_back(part)


@FEW
@given(st.lists(steps, max_size=3).map(tuple), st.sampled_from(["mine", "a'b", "ü – 9"]))
def test_methods_read_back(steps_: Any, name: str) -> None:
    assert_reads_back(Method(name, steps_, "arXiv 1912.03817, eq. (3)"))


@LOOSE
@given(numbers, numbers)
def test_coefficients_are_exact(a: float, b: float) -> None:
    term = parse(f"{a!r} * CE('x') - {abs(b)!r} * KL('y')")
    assert [c for c, _ in term.parts] == [a, -abs(b)]


@pytest.mark.parametrize("term", [CE("a") - Linear(0.5) * L1(), -0.0 * CE("a") + CE("b")], ids=str)
def test_what_is_equal_has_one_key_whatever_the_sign_of_its_zeros(term: Any) -> None:
    assert parse(repr(term)) == term
    assert in_full(parse(repr(term))) == in_full(term)


SENTENCES = {
    "- CE( 'a' )": -CE("a"),
    "CE('a') * 2": 2 * CE("a"),
    "CE(set='a')": CE("a"),
    "2 * (CE('a') - 3 * L1())": 2 * CE("a") - 6 * L1(),
    "-(CE('a') + CE('b'))": -CE("a") - CE("b"),
    "--CE('a')": CE("a"),
    "Last(1) | First(1) & ~Convs()": Last(1) | (First(1) & ~Convs()),
    "(Last(1) | First(1)) & ~Convs()": (Last(1) | First(1)) & ~Convs(),
    "Noise(1), Zero(Last())": (Noise(1.0), Zero(Last())),
    "[Noise(0.1)]": (Noise(0.1),),
    "Noise(1e-3)": Noise(0.001),
    "\n  Repeat((Noise(0.1),), times=2)\n": Repeat((Noise(0.1),), 2),
    "Linear(-0.5) * CE('a')": Linear(-0.5) * CE("a"),
    "'text'": "text",
    "-3": -3,
    "()": (),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_as_one_writes_them(sentence: str) -> None:
    assert parse(sentence) == SENTENCES[sentence]


def test_reprs_leave_defaults_out() -> None:
    assert repr(Train(CE("a"))) == "Train(CE('a'))"
    assert repr(CE("a") - 0.1 * KL("b") + L1()) == "CE('a') - 0.1 * KL('b') + L1()"
    assert repr(-0.5 * CE("a") - Linear(2.0) * L1()) == "-0.5 * CE('a') + Linear(-2.0) * L1()"
    assert repr((Last(2) | Convs()) & ~First(1)) == "((Last(layers=2) | Convs()) & ~First())"


def test_a_misspelt_word_is_told_with_the_nearest() -> None:
    with pytest.raises(BadSentence, match="Did you mean Smallest"):
        parse("Zero(Smalest(0.9))")
    with pytest.raises(BadSentence, match="Did you mean finetune"):
        parse_steps("finetun")
    with pytest.raises(
        BadSentence, match=r"No method is called 'zzz'\. `expunge methods` lists all \d+\.$"
    ):
        as_method("zzz")
    with pytest.raises(BadSentence, match=r"epoch.*It takes objective, epochs, lr"):
        parse("Train(CE('a'), epoch=3)")


def test_the_vocabulary_holds_words_and_nothing_else() -> None:
    known = all_words()
    assert {"CE", "Last", "Train", "Linear", "SGD", "Method", "RandomShare"} <= set(known)
    assert not {"Term", "Selector", "Step", "Schedule", "Optimiser", "Crew", "Run"} & set(known)


def test_what_is_taken_for_a_method() -> None:
    step = Noise(0.1)
    assert as_method("winner") is PUBLISHED["winner"]
    assert as_method(step) == as_method((step,)) == as_method("Noise(0.1)")
    assert as_method(step, "quiet").name == "quiet"
    assert as_method("Method('x', (Noise(0.1),))").name == "x"
    for wrong in (5, None, [step], (step, 5), "CE('a')", "Last(1)", "'finetune'", "3"):
        with pytest.raises(BadSentence):
            as_method(wrong)


def test_the_sets_of_a_method() -> None:
    method = Method(
        "m",
        (
            Reset(Similar("val", "forget") | ~Salient("retain")),
            Repeat((Negate(Train(CE("train") - KL("val"), over="val")),), 2),
        ),
    )
    assert method.sets == ("val", "forget", "retain", "train")
    assert list(names_of_sets(Repel("x", "y"))) == ["x", "y"]
    assert PUBLISHED["nothing"].sets == ()
    assert PUBLISHED["nothing"].sentence == "()"


def test_a_set_renamed_all_the_way_down() -> None:
    before = Repeat(
        (Train(CE("train") + 0.1 * KL("val"), over="train", where=Salient("train")),), 2
    )
    after = Repeat(
        (Train(CE("retain") + 0.1 * KL("val"), over="retain", where=Salient("retain")),), 2
    )
    assert renamed(before, "train", "retain") == after
    assert renamed(Method("train", (before,)), "train", "retain") == Method("train", (after,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RandomShare", r"'RandomShare' is a word without its brackets; write RandomShare\(share"),
        ("Train", r"without its brackets; write Train\(objective, epochs, lr"),
        ("Train(CE)", r"'CE' is a word without its brackets; write CE\(set\)"),
        ("Trian", r"No word 'Trian' in the grammar\. Did you mean Train\?"),
    ],
)
def test_a_word_without_brackets_says_how_it_is_written(text: str, words: str) -> None:
    with pytest.raises(BadSentence, match=words):
        parse(text)


def test_a_misspelt_method_is_answered_with_the_nearest_few() -> None:
    with pytest.raises(BadSentence) as fault:
        as_method("scrubb")
    assert str(fault.value).startswith("No method is called 'scrubb'. Did you mean scrub? ")
    assert len(str(fault.value)) < 160
