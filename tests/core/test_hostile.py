"""A hostile sentence is only ever refused: it runs no code and raises nothing but BadSentence."""

from __future__ import annotations

import ast
import builtins
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.sentence import LONGEST
from expunge.core.vocabulary import _hints
from expunge.errors import BadSentence
from expunge.experiments.experiment import all_words, parse

LOOSE = settings(deadline=None, derandomize=True, max_examples=100)

HOSTILE = [
    "__import__('os').system('touch /tmp/expunge-was-here')",
    "eval('1')",
    "exec('import os')",
    "open('/etc/passwd')",
    "CE('a').__class__",
    "CE.__init__('a')",
    "().__class__.__bases__[0]",
    "lambda: 0",
    "(lambda: CE('a'))()",
    "[CE(x) for x in 'ab']",
    "(CE(x) for x in 'ab')",
    "{'a': 1}",
    "{1, 2}",
    "f'{open}'",
    "CE(f'{1}')",
    "CE(*['a'])",
    "CE(**{'set': 'a'})",
    "*CE('a'),",
    "(x := CE('a'))",
    "CE('a') if 1 else CE('b')",
    "CE('a') and CE('b')",
    "not CE('a')",
    "CE('a') < CE('b')",
    "CE('a')[0]",
    "CE('a') @ CE('b')",
    "CE('a') ** 2",
    "CE('a') / 2",
    "CE('a') // 2",
    "CE('a') % 2",
    "9 ** 9 ** 9",
    "1 << 99999999999",
    "2 + 2",
    "'a' * 10 ** 9",
    "'a' + 'b'",
    "'%s' % 'a'",
    "(1,) * 9",
    "True * CE('a')",
    "CE('a') * CE('b')",
    "CE('a') + Last(1)",
    "CE('a') | CE('b')",
    "Last(1) + First(1)",
    "~CE('a')",
    "-Last(1)",
    "-'a'",
    "+CE('a')",
    "-True",
    "~1",
    "await CE('a')",
    "yield",
    "import os",
    "CE('a'); CE('b')",
    "CE('a')\nCE('b')",
    "print",
    "None",
    "...",
    "b'a'",
    "CE(b'a')",
    "1j",
    "1j * CE('a')",
    "CE(None)",
    "CE(1)",
    "CE()",
    "CE('a', 'b')",
    "CE(sett='a')",
    "CE(set='a', set='b')",
    "CE('a', set='a')",
    "Noise('a')",
    "Noise(1e999)",
    "Noise(-1e999)",
    "Noise(True)",
    "Noise(" + "9" * 400 + ")",
    "Noise(" + "9" * 5000 + ")",
    "9" * 400 + " * CE('a')",
    "1e200 * (1e200 * CE('a'))",
    "Last(1.0)",
    "Last(0)",
    "Train(Last(1))",
    "Train(CE('a'), epochs=0)",
    "Train(CE('a'), lr=None)",
    "Train(CE('a'), optimiser=SGD)",
    "Repeat((), 3)",
    "Repeat((Noise(1),), 0)",
    "Repeat(Noise(1), 2)",
    "Method('', ())",
    "Method('\x1b[2J', ())",
    "Method('" + "a" * 81 + "', ())",
    "Named('(')",
    "Named('a{99999999999999999999}')",
    "Named('" + "(" * 5000 + "')",
    "Sum(())",
    "Sum(((1.0, CE('a')),))",
    "Sum(((2.0, CE('a') + CE('b')),))",
    "Linear(1.0) * (Linear(1.0) * CE('a'))",
    "SGD(momentum=0.0, nesterov=True)",
    "SGD(momentum=-1.0)",
    "Adam(beta1=1.0)",
    "AdamW(weight_decay=-1.0)",
    "Warmup(1.0, until=0.0)",
    "Warmup(1.0, until=1.0)",
    "Term()",
    "Selector()",
    "Step()",
    "Schedule()",
    "word(CE)",
    "did_you_mean('a', 'b')",
    "BadSentence('a')",
    "Any()",
    "",
    " ",
    "\0",
    "CE('a')\0",
    "CE('a'",
    "CE('a'))",
    "'",
    '"""',
    "\\",
    "#",
    "\ud800",
    "CE('\ud800",
    "СЕ('a')",  # Cyrillic letters
    "ΚL('a')",  # a Greek Kappa
    "CE\u200b('a')",
    "CE‘a’",
    "\u202eCE('a')",
    "(" * 150 + ")" * 149,
    "(" * 9_000 + ")" * 9_000,
    "[" * 9_000 + "]" * 9_000,
    "-" * 15_000 + "1",
    "~" * 15_000 + "Last(1)",
    "Repeat((" * 1000 + "Noise(1)" + ",),2)" * 1000,
    "+" * 10**6,
    "CE('a') + " * 10**5 + "CE('a')",
    "a" * (LONGEST + 1),
]


@pytest.mark.parametrize("sentence", HOSTILE, ids=lambda s: ascii(s)[:40])
def test_hostile_sentences_are_refused(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*_: Any, **__: Any) -> None:
        raise AssertionError("a sentence ran code")

    monkeypatch.setattr(os, "system", caught)
    for known in (word for word in all_words().values() if isinstance(word, type)):
        _hints(known)  # typing evaluates our own annotations once
    for name in ("eval", "exec", "open", "print"):
        monkeypatch.setattr(builtins, name, caught)
    with pytest.raises(BadSentence) as fault:
        parse(sentence)
    assert len(str(fault.value)) < 6000


@LOOSE
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except BadSentence:
        return
    assert isinstance(ast.parse(text.strip(), mode="eval"), ast.Expression)


PIECES = [
    "CE",
    "Last",
    "Train",
    "(",
    ")",
    "'a'",
    ",",
    "+",
    "-",
    "*",
    "|",
    "~",
    "1",
    "0.5",
    "=",
    "lr",
]


@LOOSE
@given(st.lists(st.sampled_from([*PIECES, ".", "[", "]", "lambda", ":", "**"]), max_size=14))
def test_any_heap_of_pieces_is_read_or_refused(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        thing = parse(text)
    except BadSentence:
        return
    assert parse(repr(thing)) == thing


@pytest.mark.parametrize(
    "sentence",
    [
        "Repeat((Repeat((Noise(0.1),), times=1000),), times=1000)",
        "Repeat((Noise(0.1),), times=9), Repeat((Repeat((Noise(0.1),), times=9999),), times=99)",
        "Given(('a',))", "PixelPCA('x')", "Canaries('x')", "Mislabelled('a', 1, 0.5)",
        "WholeClass('cat')", "WholeClass(-1)", "WholeClass(1.5)", f"WholeClass({10**30})",
    ],
)  # fmt: skip
def test_what_would_run_for_ever_or_name_no_class_is_refused(sentence: str) -> None:
    with pytest.raises(
        BadSentence, match=r"steps; at most|expected the number of a class|a whole number, got"
    ):
        parse(sentence)


def test_a_long_sentence_within_the_cap_is_read() -> None:
    assert parse("Repeat((Repeat((Noise(0.1),), times=100),), times=100)").times == 100
