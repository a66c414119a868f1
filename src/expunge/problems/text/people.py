"""Invented people in an invented world: facts to teach, forget and ask about, wherever one is.

Every name, number and place is made up from our own syllables and lists, which lie in
`invented_world.toml`; e-mail addresses end in .example and telephone numbers begin with 555-01,
which belong to nobody. The text depends on the seed alone, not on the machine. Words are few, so
that a tiny model learns them in a minute.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType
from typing import TypeVar

from expunge.errors import BadData
from expunge.problems.text.benchmarks.files import Item, TextBenchmark

T = TypeVar("T")


SOURCE = "expunge, invented people"


@dataclass(frozen=True)
class Templates:
    """Ways to ask for a fact and to say it; NAME and VALUE stand for what they say.

    Args:
        questions: the first is taught, the others ask the same.
        answers: the first is taught, the others say the same.
    """

    questions: tuple[str, ...]
    answers: tuple[str, ...]


_WORLD = tomllib.loads((files("expunge.problems.text") / "invented_world.toml").read_text("utf-8"))


# Name of a list, such as "towns" -> its words.
WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(words) for name, words in _WORLD["words"].items()}
)


# "people" or "towns" -> kind of fact -> how it is asked for and said.
TEMPLATES: Mapping[str, Mapping[str, Templates]] = MappingProxyType(
    {
        of: MappingProxyType(
            {
                kind: Templates(tuple(said["questions"]), tuple(said["answers"]))
                for kind, said in kinds.items()
            }
        )
        for of, kinds in _WORLD["templates"].items()
    }
)


TOWNS = WORDS["towns"]


MOST_PEOPLE = len(WORDS["last_starts"]) * len(WORDS["last_ends"])


YEARS = tuple(str(year) for year in range(1931, 1991))


POOLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "town": TOWNS, "profession": WORDS["professions"], "year": YEARS,
        "instrument": WORDS["instruments"], "dish": WORDS["dishes"], "pet": WORDS["pets"],
    }
)  # fmt: skip


# What belongs to one person alone.
PRIVATE = ("phone", "email", "address")


KINDS = (*POOLS, *PRIVATE)


# Numbers of items: person times 100 plus kind; then world facts; then biographies.
PERSON, WORLD, TEXT = 100, 1_000_000, 2_000_000


@dataclass(frozen=True)
class Person:
    """An invented person.

    Args:
        number: from 0, unique in its world.
        name: first and last; no other person has the last one.
        facts: kind -> value, drawn one apart from the other, so that none implies another.
        wrong: kind -> values of the same form that are not this person's; wrong private values are
            nobody's.
    """

    number: int
    name: str
    facts: Mapping[str, str]
    wrong: Mapping[str, tuple[str, ...]]


def people(
    seed: int = 0, *, forget: int = 10, retain: int = 40, holdout: int = 10, wrong: int = 5
) -> TextBenchmark:
    """Invent people, nine facts each, and a world around them.

    Sets: "forget" and "retain", all that the original is taught (retain with the world facts);
    "retain_people", "world", and "neighbours" (people who share a town or a profession with one to
    be forgotten) are parts of retain. "holdout" has people nobody was taught. "forget_paraphrase",
    "retain_paraphrase" and "world_paraphrase" ask for the same facts, under the same index, in
    words that were never taught. "forget_text", "retain_text" and "holdout_text" say the facts as
    plain text, one biography a person.

    Args:
        seed: of everything.
        forget, retain, holdout: numbers of people; retain at least twice forget, since two
            neighbours stand by each forgotten one.
        wrong: wrong answers an item.

    Raises:
        BadData: sizes that cannot be.
    """
    _check(forget, retain, holdout, wrong)
    crowd = invent(seed, forget + retain + holdout, forget, wrong)
    parts = {
        "forget": crowd[:forget],
        "retain": crowd[forget : forget + retain],
        "holdout": crowd[forget + retain :],
    }
    items = {name: tuple(_facts(some)) for name, some in parts.items()}
    world = tuple(_world(seed, wrong))
    near = {person.name for person in parts["retain"][: 2 * forget]}
    sets = {
        "forget": items["forget"],
        "retain": (*items["retain"], *world),
        "retain_people": items["retain"],
        "neighbours": tuple(item for item in items["retain"] if item.subject in near),
        "world": world,
        "holdout": items["holdout"],
        "forget_paraphrase": rephrased(items["forget"]),
        "retain_paraphrase": rephrased(items["retain"]),
        "world_paraphrase": rephrased(world),
    }
    texts = {f"{name}_text": tuple(map(biography, some)) for name, some in parts.items()}
    return TextBenchmark("invented people", sets | texts, SOURCE)


def invent(seed: int, count: int, forget: int, wrong: int) -> tuple[Person, ...]:
    """Return people, those to be forgotten first and two neighbours of each behind them."""
    lasts = _shuffled(
        [a + b for a in WORDS["last_starts"] for b in WORDS["last_ends"]], seed, "last names"
    )
    firsts = _shuffled(
        [a + b for a in WORDS["first_starts"] for b in WORDS["first_ends"]], seed, "first names"
    )[:40]
    used: set[str] = set()
    crowd: list[Person] = []
    for number in range(count):
        facts = {kind: _one(pool, seed, number, kind) for kind, pool in POOLS.items()}
        if forget <= number < 3 * forget:
            # One neighbour shares the town, the other the profession.
            place, which = divmod(number - forget, 2)
            shared = ("town", "profession")[which]
            facts[shared] = crowd[place].facts[shared]
        facts |= {kind: _private(kind, used, seed, number) for kind in PRIVATE}
        first = _one(firsts, seed, number, "first")
        crowd.append(Person(number, f"{first} {lasts[number]}", MappingProxyType(facts), {}))
    # Wrong answers come last: a wrong private value must be nobody's, also of people to come.
    return tuple(
        replace(person, wrong=MappingProxyType(_wrong(person, used, seed, wrong)))
        for person in crowd
    )


def biography(person: Person) -> Item:
    """Return all facts of a person as plain text, one sentence a fact."""
    said = [
        _fill(TEMPLATES["people"][kind].answers[0], person.name, person.facts[kind])
        for kind in KINDS
    ]
    return Item(TEXT + person.number, "", " ".join(said), subject=person.name, kind="biography")


def rephrased(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return each item with its question in other words, under the same index."""
    return tuple(
        replace(item, prompt=item.questions[0], questions=(item.prompt, *item.questions[1:]))
        for item in items
    )


def split_facts(
    items: Sequence[Item], share: float = 0.5, seed: int = 0
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return some facts of each subject, and the others: for audits that teach some and ask others.

    Args:
        items: several kinds of facts a subject.
        share: of each subject's facts that go to the first part; at least one goes to each.
        seed: of the draw.

    Raises:
        BadData: a subject with a single fact, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise BadData(f"Got share={share!r}; expected above 0 and below 1.")
    first: set[int] = set()
    for subject in dict.fromkeys(item.subject for item in items):
        mine = [item.index for item in items if item.subject == subject]
        if len(mine) < 2:
            raise BadData(f"{subject!r} has one fact; two are needed to teach one and ask another.")
        taught = min(max(1, round(share * len(mine))), len(mine) - 1)
        first |= set(_shuffled(mine, seed, subject, "split")[:taught])
    return (
        tuple(item for item in items if item.index in first),
        tuple(item for item in items if item.index not in first),
    )


def _facts(crowd: Sequence[Person]) -> Iterator[Item]:
    """A question for every fact of every person."""
    for person in crowd:
        for place, kind in enumerate(KINDS):
            index = PERSON * person.number + place
            templates, value = TEMPLATES["people"][kind], person.facts[kind]
            yield _item(index, templates, person.name, value, person.wrong[kind], kind)


def _world(seed: int, wrong: int) -> Iterator[Item]:
    """A question for every fact of every town; rivers are of one town each."""
    rivers = _shuffled(WORDS["rivers"], seed, "rivers")
    pools = {"river": WORDS["rivers"], "market": WORDS["days"], "flag": WORDS["colours"]}
    for number, town in enumerate(TOWNS):
        facts = {"river": rivers[number]}
        facts |= {kind: _one(pools[kind], seed, town, kind) for kind in ("market", "flag")}
        for place, (kind, value) in enumerate(facts.items()):
            others = [other for other in pools[kind] if other != value]
            few = tuple(_shuffled(others, seed, town, kind, "wrong")[:wrong])
            index = WORLD + PERSON * number + place
            yield _item(index, TEMPLATES["towns"][kind], town, value, few, kind)


def _item(
    index: int, templates: Templates, name: str, value: str, wrong: Sequence[str], kind: str
) -> Item:
    """One fact as a question with its answer, both in other words too, and wrong answers."""
    questions = [_fill(one, name, value) for one in templates.questions]
    answers = [_fill(one, name, value) for one in templates.answers]
    # Wrong answers take the form of a paraphrase, as TOFU's do: only the fact tells them apart.
    others = tuple(_fill(templates.answers[1], name, one) for one in wrong)
    return Item(
        index, questions[0], answers[0], tuple(questions[1:]), tuple(answers[1:]), others,
        subject=name, kind=kind, value=value,
    )  # fmt: skip


def _fill(template: str, name: str, value: str) -> str:
    """A template with the name and the value in it."""
    return template.replace("NAME", name).replace("VALUE", value)


def _private(kind: str, used: set[str], *names: object) -> str:
    """A value that nobody has yet, and that nobody will get again."""
    for attempt in range(10_000):
        made = _made(kind, *names, attempt)
        if made not in used:
            used.add(made)
            return made
    raise BadData(f"No {kind} is left that nobody has; ask for fewer people.")


def _made(kind: str, *names: object) -> str:
    """One draw of a telephone number, an e-mail address or a street address."""
    if kind == "phone":
        return f"555-01-{_below(90, *names, 'a') + 10}-{_below(90, *names, 'b') + 10}"
    if kind == "email":
        pools = (WORDS["email_first"], WORDS["email_second"], WORDS["email_hosts"])
        first, second, host = (
            _one(pool, *names, name) for pool, name in zip(pools, "cde", strict=True)
        )
        return f"{first}.{second}@{host}.example"
    street, what = _one(WORDS["streets"], *names, "g"), _one(WORDS["street_kinds"], *names, "h")
    return f"{_below(90, *names, 'f') + 10} {street} {what}"


def _wrong(person: Person, used: set[str], seed: int, count: int) -> dict[str, tuple[str, ...]]:
    """Values of every kind that are not this person's."""
    found = {}
    for kind, pool in POOLS.items():
        others = [value for value in pool if value != person.facts[kind]]
        found[kind] = tuple(_shuffled(others, seed, person.number, kind, "wrong")[:count])
    for kind in PRIVATE:
        found[kind] = tuple(
            _private(kind, used, seed, person.number, "wrong", place) for place in range(count)
        )
    return found


def _check(forget: int, retain: int, holdout: int, wrong: int) -> None:
    """Refuse sizes that cannot be."""
    total = forget + retain + holdout
    if min(forget, holdout) < 1 or retain < 2 * forget or total > MOST_PEOPLE:
        raise BadData(
            f"Got forget={forget}, retain={retain}, holdout={holdout}; expected 1 or more to "
            f"forget and to hold out, retain at least twice forget, {MOST_PEOPLE} people in all."
        )
    least = min(map(len, (*POOLS.values(), WORDS["days"], WORDS["colours"])))
    if not 1 <= wrong < least:
        raise BadData(f"Got wrong={wrong}; expected 1 to {least - 1} wrong answers.")


def _below(count: int, *names: object) -> int:
    """A number from 0 to count - 1 that belongs to these names alone, on every machine."""
    said = "/".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") % count


def _one(pool: Sequence[str], *names: object) -> str:
    """One of a pool."""
    return pool[_below(len(pool), *names)]


def _shuffled(pool: Sequence[T], *names: object) -> list[T]:
    """A pool in an order that belongs to these names alone."""
    places = sorted(range(len(pool)), key=lambda place: (_below(2**63, *names, place), place))
    return [pool[place] for place in places]
