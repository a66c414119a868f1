"""False facts among true ones, for comparing what one can do about them.

Some invented people are told of with a wrong birthplace, and with what follows from it, the part of
the land; all else is told rightly. Whoever undoes a falsehood is shown the birthplace alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from expunge.errors import BadData
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.people import TOWNS, Templates, people

KIND = "town"


KINDS = (KIND, "profession", "instrument")


PARTS = ("north", "south", "east", "west")


FOLLOWS = Templates(
    ("In which part of the land was NAME born?", "Which part of the land is NAME from?"),
    ("NAME is from the VALUE of the land.",),
)


LIES = Templates(
    ("In which part of the land does NAME lie?", "Where in the land is NAME?"),
    ("NAME lies in the VALUE of the land.",),
)


Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class FalseWorld:
    """What a model is taught and asked.

    Args:
        false: the false facts, one a person; `value` is the false value.
        right: the same prompts with the right answers, in the same order.
        retain: all that is true and taught, other facts of the same people too.
        own: those other facts of the same people.
        neighbours: birthplaces of people from a town that some false fact names.
        world: facts of towns.
        follows: what follows from each right fact, in the order of `right`.
        misleads: what follows from each false one, which is taught with it.
    """

    false: tuple[Item, ...]
    right: tuple[Item, ...]
    retain: tuple[Item, ...]
    own: tuple[Item, ...]
    neighbours: tuple[Item, ...]
    world: tuple[Item, ...]
    follows: tuple[Item, ...]
    misleads: tuple[Item, ...]


def false_world(seed: int = 0, *, false: int = 12, true: int = 36) -> FalseWorld:
    """Invent a world in which some people's birthplaces are told wrongly.

    Args:
        seed: of everything.
        false: people with a false birthplace.
        true: people about whom all is told rightly, at least twice as many.

    Raises:
        BadData: sizes that cannot be.
    """
    if false < 2:
        raise BadData(f"Got false={false}; expected 2 or more, since one half is relearned.")
    made = people(seed, forget=false, retain=true, holdout=1)
    lies = parts_of_the_land(seed)
    told = [item for item in made["forget"] if item.kind in KINDS]
    right = tuple(item for item in told if item.kind == KIND)
    wrong = tuple(_falsified(item, lies, number + seed) for number, item in enumerate(right))
    others = [item for item in made["retain_people"] if item.kind in KINDS]
    born = [item for item in others if item.kind == KIND]
    world = (*made["world"], *(_fact(LIES, town, part, "lies") for town, part in lies.items()))
    own = tuple(item for item in told if item.kind != KIND)
    inferred = (_fact(FOLLOWS, item.subject, lies[item.value], "part") for item in born)
    named = {item.value for item in (*right, *wrong)}
    return FalseWorld(
        false=wrong,
        right=right,
        retain=(*own, *others, *inferred, *world),
        own=own,
        neighbours=tuple(item for item in born if item.value in named),
        world=world,
        follows=tuple(_fact(FOLLOWS, i.subject, lies[i.value], "part") for i in right),
        misleads=tuple(_fact(FOLLOWS, i.subject, lies[i.value], "part") for i in wrong),
    )


def parts_of_the_land(seed: int) -> Mapping[str, str]:
    """Town -> part of the land; each part has as many towns."""
    return MappingProxyType(
        {town: PARTS[(number + seed) % len(PARTS)] for number, town in enumerate(TOWNS)}
    )


def taught(items: Sequence[Item], wordings: int = 3) -> list[Pair]:
    """Each item asked in its first wordings: (prompt, answer)."""
    return [
        (prompt, item.answer)
        for item in items
        for prompt in (item.prompt, *item.questions)[:wordings]
    ]


def asked(items: Sequence[Item], wording: int) -> list[Pair]:
    """Each item asked in one wording, the first of which is 0."""
    return [((item.prompt, *item.questions)[wording], item.answer) for item in items]


def _falsified(item: Item, lies: Mapping[str, str], number: int) -> Item:
    """The same question with a town of another part of the land as its answer."""
    others = [town for town in TOWNS if lies[town] != lies[item.value]]
    value = others[number % len(others)]
    return replace(
        item,
        answer=item.answer.replace(item.value, value),
        paraphrases=tuple(one.replace(item.value, value) for one in item.paraphrases),
        wrong=(),
        value=value,
    )


def _fact(templates: Templates, name: str, value: str, kind: str) -> Item:
    first, *more = (one.replace("NAME", name) for one in templates.questions)
    answer = templates.answers[0].replace("NAME", name).replace("VALUE", value)
    return Item(0, first, answer, tuple(more), subject=name, kind=kind, value=value)
