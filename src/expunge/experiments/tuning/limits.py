"""Shorten a sentence until it costs no more than a search allows."""

from __future__ import annotations

import dataclasses
from typing import Any

from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.errors import BadSentence
from expunge.experiments.tuning.ranges import floored
from expunge.methods.cost import share_of_retraining

HALVINGS = 12


class TooDear(BadSentence):
    """A sentence that costs more than is allowed even with hardly any training."""


def within(method: Method, problem: Problem, cap: float) -> Method:
    """Return the method itself if it costs no more than allowed; else with all epochs scaled down.

    Where every turn already takes one minibatch, there are half as many turns, and half again.

    Args:
        method: any.
        problem: with a recipe.
        cap: the most that it may cost, as a share of retraining.

    Raises:
        TooDear: what it reads besides training is above the cap already.
        OffLimits, BadData: the method names a set that it may not see or that is not there.
    """
    if share_of_retraining(method, problem) <= cap:
        return method
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = share_of_retraining(shortened(method, middle), problem) <= cap
        low, high = (middle, high) if fits else (low, middle)
    if low:
        return shortened(method, low)
    fewer = dataclasses.replace(method, steps=_halved(method.steps))
    if fewer == method:
        raise TooDear(
            f"{method.name} reads more than {cap:.0%} of what retraining reads even with the "
            "shortest training; raise --cost, or drop a step that reads whole sets."
        )
    return within(fewer, problem, cap)


def shortened(method: Method, factor: float) -> Method:
    """Return the method with all epochs times a factor, in so many digits as one would write."""
    return dataclasses.replace(method, steps=_scaled(method.steps, factor))


def _halved(thing: Any) -> Any:
    """Half as many turns wherever steps take turns, one at the least."""
    if isinstance(thing, tuple):
        return tuple(_halved(item) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    inner = {f.name: _halved(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if "times" in inner:
        inner["times"] = max(1, inner["times"] // 2)
    return dataclasses.replace(thing, **inner)


def _scaled(thing: Any, factor: float) -> Any:
    if isinstance(thing, tuple):
        return tuple(_scaled(item, factor) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    inner = {f.name: _scaled(getattr(thing, f.name), factor) for f in dataclasses.fields(thing)}
    for field in dataclasses.fields(thing):
        if field.name == "epochs":
            shorter = inner["epochs"] * factor
            inner["epochs"] = max(1, int(shorter)) if field.type == "int" else floored(shorter)
    return dataclasses.replace(thing, **inner)
