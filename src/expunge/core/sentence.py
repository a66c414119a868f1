"""Parse sentences: known names, literals and + - * | & ~, walked as a tree; no code is run.

Each room passes the words that it knows, so that reading a method loads no audit.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from expunge.core.schedules import Schedule
from expunge.core.selector import Selector
from expunge.core.term import Term
from expunge.errors import BadSentence, did_you_mean

LONGEST = 20_000


@dataclasses.dataclass(frozen=True)
class OldWord:
    """The name that a word had in the last release; it still parses, with a warning."""

    name: str
    new: type


# Name of a word -> its class.
Words = Mapping[str, type | OldWord]


def words_in(*rooms: ModuleType) -> dict[str, type | OldWord]:
    """Every word that was written in some modules or packages, by name."""
    words: dict[str, type | OldWord] = {}
    for room in rooms:
        for name, thing in vars(room).items():
            if not isinstance(thing, type) or not _belongs(thing, room):
                continue
            if _is_word(thing) and not inspect.isabstract(thing):
                words[name] = thing
    return words


def _is_word(thing: type) -> bool:
    """Whether a class is a word of sentences; what holds models or arrays is never compared."""
    params = getattr(thing, "__dataclass_params__", None)
    return params is not None and bool(params.eq)


def _belongs(thing: type, room: ModuleType) -> bool:
    """Whether a class was written in a module, or in one of the files of a package."""
    return f"{thing.__module__}.".startswith(f"{room.__name__}.")


def parse(text: str, words: Words) -> Any:
    """Read a step, steps, a term, a selector or a whole Method from a sentence.

    Args:
        text: the sentence, at most `LONGEST` characters.
        words: the names that it may use.

    Raises:
        BadSentence: a name that is not known (with the nearest one that is), an operation that is
            not part of the grammar, or arguments that a word does not take.
    """
    if len(text) > LONGEST:
        raise BadSentence(f"The sentence has {len(text)} signs; {LONGEST} is the longest allowed.")
    if not text.strip():
        raise BadSentence("The sentence is empty; write one such as Train(CE('retain')).")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _Reader(words).read(tree.body)
    except SyntaxError as fault:
        said = f"{fault.msg} at sign {fault.offset}" if fault.offset else fault.msg
        raise BadSentence(f"Cannot read {_short(text)}: {said}.") from None
    except OverflowError as fault:
        raise BadSentence(f"Cannot read {_short(text)}: {fault}.") from None
    except (RecursionError, MemoryError, ValueError):
        raise BadSentence(f"Cannot read {_short(text)}: it is nested too deep.") from None


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Turns the nodes of a syntax tree into words."""

    words: Words

    def read(self, node: ast.expr) -> Any:
        """The value of one node of the tree."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool):
            return node.value
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self.read(item) for item in node.elts)
        if isinstance(node, ast.Call):
            return self._made(node)
        if isinstance(node, ast.UnaryOp):
            return self._turned(node)
        if isinstance(node, ast.BinOp):
            return self._joined(node)
        if isinstance(node, ast.Name):
            raise BadSentence(self._unknown(node.id))
        raise BadSentence(f"{_source(node)} is not part of the grammar of methods.")

    def _made(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name):
            raise BadSentence(f"{_source(node)} is not part of the grammar of methods.")
        if node.func.id not in self.words:
            raise BadSentence(self._unknown(node.func.id))
        if any(isinstance(item, ast.Starred) for item in node.args):
            raise BadSentence(f"{_source(node)}: arguments are written out, not starred.")
        named = {item.arg: self.read(item.value) for item in node.keywords if item.arg}
        if len(named) != len(node.keywords):
            raise BadSentence(f"{_source(node)}: arguments are written out, not starred.")
        made = self.words[node.func.id]
        if isinstance(made, OldWord):
            warnings.warn(
                f"The word {made.name} is now {made.new.__name__}; write that instead.",
                DeprecationWarning,
                stacklevel=2,
            )
            made = made.new
        try:
            return made(*(self.read(item) for item in node.args), **named)
        except TypeError as fault:
            takes = ", ".join(f.name for f in dataclasses.fields(made))
            said = str(fault).partition("__init__() ")[2] or str(fault)
            raise BadSentence(f"{node.func.id} {said}. It takes {takes}.") from None

    def _turned(self, node: ast.UnaryOp) -> Any:
        value = self.read(node.operand)
        if isinstance(node.op, ast.USub) and (_is_number(value) or isinstance(value, Term)):
            return -value
        if isinstance(node.op, ast.Invert) and isinstance(value, Selector):
            return ~value
        raise BadSentence(f"{_source(node)}: - goes before a number or a term, ~ before a part.")

    def _joined(self, node: ast.BinOp) -> Any:
        left, right = self.read(node.left), self.read(node.right)
        terms = isinstance(left, Term) and isinstance(right, Term)
        if isinstance(node.op, ast.Add) and terms:
            return left + right
        if isinstance(node.op, ast.Sub) and terms:
            return left - right
        if isinstance(node.op, ast.Mult):
            factor, term = (left, right) if isinstance(right, Term) else (right, left)
            if isinstance(term, Term) and (_is_number(factor) or isinstance(factor, Schedule)):
                return factor * term
        if isinstance(left, Selector) and isinstance(right, Selector):
            if isinstance(node.op, ast.BitOr):
                return left | right
            if isinstance(node.op, ast.BitAnd):
                return left & right
        raise BadSentence(
            f"{_source(node)}: terms take + and - with terms and * with a number or a schedule; "
            "parts take | and &."
        )

    def _unknown(self, name: str) -> str:
        known = self.words.get(name)
        if isinstance(known, type):
            fields = ", ".join(field.name for field in dataclasses.fields(known))
            return f"{name!r} is a word without its brackets; write {name}({fields})."
        return f"No word {name!r} in the grammar.{did_you_mean(name, self.words)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _source(node: ast.expr) -> str:
    return _short(ast.unparse(node))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
