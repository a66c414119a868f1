"""Words: frozen, checked when made, equal by what they say, printed as written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from expunge.core.schedules import SGD, Linear
from expunge.core.selector import Everything
from expunge.core.vocabulary import in_full, word
from expunge.engine.training import Repeat, Train
from expunge.errors import BadSentence
from expunge.methods.losses.answers import CE
from expunge.methods.selectors.places import Last
from expunge.methods.steps.edits import Noise


@word
class Sample:
    """A word with every kind of field."""

    size: float
    name: str = "a"
    count: int = 1
    flag: bool = False
    pair: tuple[int, str] = (1, "x")
    many: tuple[float, ...] = ()
    rate: float | Linear = 0.5

    def check(self) -> None:
        if self.size < 0:
            raise BadSentence("Sample: size must be 0 or more.")


def test_words_are_frozen_and_equal_by_what_they_say() -> None:
    one = Sample(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.size = 2.0  # type: ignore[misc]
    assert one == Sample(1.0)
    assert hash(one) == hash(Sample(1.0))
    assert one != Sample(1.0, count=2)
    assert Last(1) != Everything()
    assert len({Last(1), Last(1), Last(2)}) == 2


def test_words_print_what_departs_from_the_default() -> None:
    assert repr(Sample(1.0)) == "Sample(1.0)"
    assert repr(Sample(2, "a", 3, rate=Linear(1.0))) == "Sample(2, count=3, rate=Linear(1.0))"
    assert repr(Sample(0.1, flag=True, many=(1.0, 2))) == "Sample(0.1, flag=True, many=(1.0, 2))"


@pytest.mark.parametrize(
    "given",
    [
        {"size": "1"},
        {"size": True},
        {"size": None},
        {"size": float("nan")},
        {"size": float("inf")},
        {"size": -float("inf")},
        {"size": 10**400},
        {"size": 1j},
        {"size": 1.0, "name": 1},
        {"size": 1.0, "count": 1.0},
        {"size": 1.0, "count": True},
        {"size": 1.0, "flag": 1},
        {"size": 1.0, "pair": (1,)},
        {"size": 1.0, "pair": (1, 2)},
        {"size": 1.0, "pair": (1, "x", 2)},
        {"size": 1.0, "pair": [1, "x"]},
        {"size": 1.0, "many": (1.0, "x")},
        {"size": 1.0, "many": 1.0},
        {"size": 1.0, "rate": "fast"},
        {"size": -1.0},
    ],
    ids=str,
)
def test_words_refuse_what_does_not_fit(given: dict[str, Any]) -> None:
    with pytest.raises(BadSentence, match="Sample"):
        Sample(**given)


def test_words_take_what_fits() -> None:
    Sample(1)
    Sample(1.0, pair=(2, "y"), many=(1, 2.5), rate=Linear(1.0), flag=True)
    Sample(1.7e308)


def test_a_misfit_is_told_in_words() -> None:
    with pytest.raises(BadSentence, match=r"Sample: count must be a whole number, got 1\.5"):
        Sample(1.0, count=1.5)  # type: ignore[arg-type]
    with pytest.raises(BadSentence, match="rate must be a finite number or a Linear, got 'x'"):
        Sample(1.0, rate="x")  # type: ignore[arg-type]
    with pytest.raises(BadSentence, match="steps must be a tuple, each item a Step"):
        Repeat(Noise(0.1), 2)  # type: ignore[arg-type]


def test_in_full_says_defaults_and_versions() -> None:
    told = in_full(Noise(1))
    assert told == "Noise/1(std=1.0, where=Everything/1())"
    assert in_full(Noise(1)) == in_full(Noise(1.0))
    assert "momentum=0.9" in in_full(Train(CE("a")))
    assert in_full(Train(CE("a"))) == in_full(Train(CE("a"), optimiser=SGD(0.9)))
    assert in_full(Train(CE("a"))) != in_full(Train(CE("a"), epochs=2))
    assert in_full((Last(1), "x")) == "(Last/1(layers=1.0), 'x')"


def test_in_full_tells_a_raised_version() -> None:
    @word
    class Versioned:
        """A word whose meaning changed once."""

        size: float = 1.0

    before = in_full(Versioned())
    Versioned.version = 2  # type: ignore[attr-defined]
    assert before == "Versioned/1(size=1.0)"
    assert in_full(Versioned()) == "Versioned/2(size=1.0)"
