"""A sentence as a tree of words: finding what lies at a path, and putting another in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]


def children(thing: Any) -> Iterator[tuple[str | int, Any]]:
    """What a word or a tuple holds, with the field or position that leads to it."""
    if isinstance(thing, tuple):
        yield from enumerate(thing)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield field.name, getattr(thing, field.name)


def found(thing: Any, wanted: Callable[[Any], bool], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything in a tree that is wanted; what is found is not looked into."""
    if wanted(thing):
        yield path, thing
        return
    for place, inner in children(thing):
        yield from found(inner, wanted, (*path, place))


def at(thing: Any, path: Path) -> Any:
    """What lies at a path."""
    for place in path:
        thing = thing[int(place)] if isinstance(thing, tuple) else getattr(thing, str(place))
    return thing


def put(thing: Any, path: Path, new: Any) -> Any:
    """The tree with something new at a path, all else as it was.

    Raises:
        BadSentence: a word refuses what it is given.
    """
    if not path:
        return new
    place, rest = path[0], path[1:]
    if isinstance(thing, tuple):
        number = int(place)
        return (*thing[:number], put(thing[number], rest, new), *thing[number + 1 :])
    name = str(place)
    return dataclasses.replace(thing, **{name: put(getattr(thing, name), rest, new)})
