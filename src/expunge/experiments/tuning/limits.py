"""What a sentence costs before it is run, and shortening it until it costs what it may.

Counted in examples and not timed, so that what is allowed does not depend on the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
    halved = _changed(method.steps, "times", lambda times, kind: max(1, times // 2))
    fewer = dataclasses.replace(method, steps=halved)
    if fewer == method:
        raise TooDear(
            f"{method.name} reads more than {cap:.0%} of what retraining reads even with the "
            "shortest training; raise --cost, or drop a step that reads whole sets."
        )
    return within(fewer, problem, cap)


def shortened(method: Method, factor: float) -> Method:
    """All epochs times a factor, in so many digits as one would write."""

    def shorter(epochs: Any, kind: Any) -> Any:
        return max(1, int(epochs * factor)) if kind == "int" else floored(epochs * factor)

    return dataclasses.replace(method, steps=_changed(method.steps, "epochs", shorter))


def _changed(thing: Any, name: str, change: Callable[[Any, Any], Any]) -> Any:
    """The same words with every field of this name changed, however deep it lies."""
    if isinstance(thing, tuple):
        return tuple(_changed(item, name, change) for item in thing)
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    fields = dataclasses.fields(thing)
    inner = {field.name: _changed(getattr(thing, field.name), name, change) for field in fields}
    for field in fields:
        if field.name == name:
            inner[name] = change(inner[name], field.type)
    return dataclasses.replace(thing, **inner)
