"""Published methods, shortened to a few steps on tiny problems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from expunge.method import Method
from expunge.steps import Negate, Repeat, Step, Train

BATCH = 8


def brief(method: Method, **changes: Any) -> Method:
    """The same steps in the same order, each `Train` with few minibatches."""
    return replace(method, steps=tuple(_short(step, changes) for step in method.steps))


def _short(step: Step, changes: dict[str, Any]) -> Step:
    if isinstance(step, Train):
        return replace(step, epochs=1.5, batch=BATCH, **changes)
    if isinstance(step, Negate):
        return replace(step, train=_short(step.train, changes))
    if isinstance(step, Repeat):
        return Repeat(tuple(_short(inner, changes) for inner in step.steps), min(step.times, 2))
    return step
