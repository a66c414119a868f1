"""A language model so small that a test can train it, and pairs to forget."""

from __future__ import annotations

from functools import cache
from typing import Any

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.schedules import AdamW
from expunge.core.seeds import isolated
from expunge.core.texts import Texts
from expunge.engine.training import Train
from expunge.methods.losses.answers import CE
from expunge.problems.networks.language import tiny_llama, word_tokenizer
from expunge.problems.text.encode import of_pairs
from expunge.unlearn import unlearn

PLACES = ("Rome", "Oslo", "Bern", "Lima", "Cairo", "Quito", "Paris", "Sofia")
NAMES = ("Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal")
PAIRS = [
    (f"Where does {n} live?", f"{n} lives in {p}.") for n, p in zip(NAMES, PLACES, strict=True)
]
REFUSALS = ["I do not know."] * len(PAIRS)
FORGET, RETAIN = slice(0, 3), slice(3, 8)


@cache
def tokenizer() -> Any:
    return word_tokenizer([" ".join([*pair, REFUSALS[0], "\n"]) for pair in PAIRS], context=32)


def pairs(rows: slice, **rest: Any) -> Texts:
    other = {"instead": REFUSALS[rows], "subjects": NAMES[rows]}
    return of_pairs(PAIRS[rows], tokenizer(), **other, **rest)


def net() -> Any:
    """Some 8 thousand weights."""
    return tiny_llama(len(tokenizer()), width=16, layers=2, heads=2, context=32)


RECIPE = Method("recipe", (Train(CE("train"), epochs=60, lr=0.01, batch=8, optimiser=AdamW()),))


def problem(**rest: Any) -> Problem:
    rest = {"architecture": net, "recipe": RECIPE, "val": pairs(slice(4, 6)), **rest}
    return Problem.of(forget=pairs(FORGET), retain=pairs(RETAIN), name="tiny text", **rest)


@cache
def fresh(seed: int = 0) -> Any:
    with isolated("test", seed):
        return net().eval()


@cache
def taught() -> Any:
    """A model that knows where everybody lives."""
    return unlearn(fresh(), RECIPE, problem()).model
