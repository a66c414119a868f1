"""The decorator `word`: a class becomes a frozen, checked dataclass whose repr can be parsed."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from typing import Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from expunge.errors import BadSentence

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def word(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass that checks its arguments and whose repr can be parsed.

    A class may define `check(self)` to refuse values that its annotations alone would admit.
    """

    def post_init(self: Any) -> None:
        check_fields(self)
        if hasattr(self, "check"):
            self.check()

    cls.__post_init__ = post_init  # type: ignore[attr-defined]
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = spoken  # type: ignore[method-assign]
    return dataclasses.dataclass(frozen=True, repr=False)(cls)


def check_fields(thing: Any, *names: str) -> None:
    """Refuse fields of a dataclass that are not what its annotations say; all, or those named.

    Raises:
        BadSentence: naming the field, what was expected and what it is.
    """
    for name, hint in _hints(type(thing)).items():  # type: ignore[arg-type]
        if not names or name in names:
            _expect(type(thing).__name__, name, getattr(thing, name), hint)


def spoken(thing: Any) -> str:
    """The sentence of a word: required fields by position, others by name where not the default."""
    said = []
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if field.default is dataclasses.MISSING:
            said.append(repr(value))
        elif value != field.default:
            said.append(f"{field.name}={value!r}")
    return f"{type(thing).__name__}({', '.join(said)})"


def in_full(thing: Any) -> str:
    """A word with all its fields, defaults too, and its version: what a store key hashes.

    A changed default, or a class whose `version` was raised, thus makes a new key.
    """
    if isinstance(thing, tuple):
        return "(" + ", ".join(in_full(item) for item in thing) + ")"
    if not dataclasses.is_dataclass(thing):
        # 0.0 is added since -0.0 equals 0.0, and what is equal must have one key
        return repr(float(thing) + 0.0) if isinstance(thing, int | float) else repr(thing)
    said = [f"{f.name}={in_full(getattr(thing, f.name))}" for f in dataclasses.fields(thing)]
    return f"{key_name(thing)}/{getattr(thing, 'version', 1)}({', '.join(said)})"


def key_name(thing: Any) -> str:
    """What content keys call the class of a word: a renamed one keeps its old `key_name`."""
    return str(getattr(type(thing), "key_name", type(thing).__name__))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _expect(owner: str, name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        raise BadSentence(f"{owner}: {name} must be {_in_words(hint)}, got {value!r}.")


def _in_words(hint: Any) -> str:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = {float: "a finite number", int: "a whole number", str: "text in quotes", bool: "a bool"}
    named = [plain.get(option) or _kind(option) for option in options]
    return " or ".join(named)


def _kind(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"a tuple, each item {_in_words(get_args(hint)[0])}"
    return f"a {getattr(hint, '__name__', str(hint))}"


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is tuple:
        return _tuple_fits(value, get_args(hint))
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # isfinite() fails on a huge int
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _tuple_fits(value: Any, hints: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if len(hints) == 2 and hints[1] is Ellipsis:
        return all(_fits(item, hints[0]) for item in value)
    return len(value) == len(hints) and all(map(_fits, value, hints))
