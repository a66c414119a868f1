"""What is done? A step changes one model in place; a method is steps with a name."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from expunge.core.vocabulary import word
from expunge.errors import BadSentence

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


class Step(ABC):
    """Changes one model in place; abstract.

    Args:
        draws: whether it draws from the run's streams, so that two seeds give two models.
        sees_original: whether what it does depends on the original's weights; what starts from
            fresh weights and never looks back is retraining.
        may_stop_early: whether it may read fewer examples than `reads` says, as its course decides.
        settled: whether all that it does is in the weights, so that a resumed run need not do it
            again; a step that makes a teacher is not.
    """

    draws: ClassVar[bool] = False
    sees_original: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = False
    settled: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, run: RunProtocol) -> None: ...

    def resumable(self, seed: int) -> bool:
        """Whether it is plain training, which can be resumed between any two minibatches."""
        return False

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        """Count the examples of each set that it reads, as the receipt will; selectors count apart.

        `ANSWERS` and `MADE` (expunge.engine.memory) are counted too, which no receipt holds.
        """
        return Counter()


NAMES_OF_SETS = ("set", "against", "a", "b", "over")


@word
class Method:
    """Steps with a name.

    Args:
        name: what tables call it.
        steps: what is done, in order; none at all for the control that does nothing.
        source: paper, section or equation, and reference code.
    """

    name: str
    steps: tuple[Step, ...]
    source: str = ""

    def check(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > 80:
            raise BadSentence(
                f"A method's name must be 1 to 80 printable signs, got {self.name!r}."
            )

    @property
    def sentence(self) -> str:
        """The steps as one writes them; `parse` reads it back."""
        return ", ".join(map(repr, self.steps)) or "()"

    @functools.cached_property
    def sets(self) -> tuple[str, ...]:
        """Every set that a step, selector or term of the method names."""
        return tuple(dict.fromkeys(names_of_sets(self.steps)))


def method_of(source: Any, name: str = "mine") -> Method:
    """Take a Method, a step or steps.

    Raises:
        BadSentence: it is none of these.
    """
    if isinstance(source, Method):
        return source
    steps = (source,) if isinstance(source, Step) else source
    if not isinstance(steps, tuple) or not all(isinstance(step, Step) for step in steps):
        raise BadSentence(f"Expected a method, a step or steps, got {source!r}.")
    return Method(name, steps)


def words_of(thing: Any) -> Iterator[Any]:
    """Yield a word, or each of several, and all words inside it, outermost first."""
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tuple):
            waiting.extend(reversed(one))
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            yield one
            values = [getattr(one, field.name) for field in dataclasses.fields(one)]
            waiting.extend(reversed(values))


def own_sets(word: Any) -> tuple[str, ...]:
    """The sets that a word itself reads; `over` only says which set an epoch is a pass over."""
    named = (getattr(word, name, None) for name in NAMES_OF_SETS if name != "over")
    return tuple(dict.fromkeys(name for name in named if name and isinstance(name, str)))


def names_of_sets(thing: Any) -> Iterator[str]:
    """Yield the sets that a word and all words inside it name."""
    waiting = [("", thing)]
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, tuple):
            waiting.extend(("", item) for item in reversed(one))
        elif dataclasses.is_dataclass(one):
            values = [(field.name, getattr(one, field.name)) for field in dataclasses.fields(one)]
            waiting.extend(reversed(values))
        elif name in NAMES_OF_SETS and one and isinstance(one, str):
            yield one


def renamed(thing: Any, before: str, after: str) -> Any:
    """The same word with another set in the place of one, in all words inside it too."""
    if isinstance(thing, tuple):
        return tuple(renamed(item, before, after) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    changes = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        named = field.name in NAMES_OF_SETS and value == before
        changes[field.name] = after if named else renamed(value, before, after)
    return dataclasses.replace(thing, **changes)
