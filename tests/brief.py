"""Published methods, shortened to a few steps on tiny problems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from expunge.core.method import Method, Step
from expunge.core.term import Sum, Term
from expunge.engine.training import Mixture, Negate, OneOptimiser, Repeat, Train
from expunge.methods.losses.representation import AdaptiveSteer, LogLens, Match, NoiseMatch, Steer
from expunge.methods.losses.teachers import Predicted
from expunge.methods.selectors.places import Named
from expunge.methods.steps.classes import Expand, Impair, Strata
from expunge.methods.steps.constrained import PrimalDual, Rectify, SharpnessAware
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Teach
from expunge.methods.steps.facts import Memit, Rome
from expunge.methods.steps.watched import Lotus, Rewind, Until

BATCH = 8


def brief(method: Method, **changes: Any) -> Method:
    """The same steps in the same order, each `Train` with few minibatches."""
    return replace(method, steps=tuple(_short(step, changes) for step in method.steps))


def _short(step: Step, changes: dict[str, Any]) -> Step:
    if isinstance(step, Train):
        objective = _cheap(step.objective)
        return replace(step, objective=objective, epochs=1.5, batch=BATCH, **changes)
    if isinstance(step, Rectify):
        return replace(step, epochs=1.5, batch=BATCH)
    if isinstance(step, Dampen):
        return replace(step, alpha=0.5)  # a fifth of the examples matters at most five times more
    if isinstance(step, Strata):
        parts = {n: getattr(step, n) for n in ("low", "middle", "high")}
        short = {n: tuple(_short(inner, changes) for inner in part) for n, part in parts.items()}
        return replace(step, **short)
    if isinstance(step, Lotus):
        return replace(step, epochs=2, batch=BATCH, lr=0.01, margin=2.0)  # that never ends it
    if isinstance(step, Impair):
        return replace(step, batch=BATCH, copies=2, rounds=3, sample=2)
    if isinstance(step, Until | Rewind):
        fewer = {"times": min(step.times, 2)} if isinstance(step, Until) else {}
        return replace(step, steps=tuple(_short(inner, changes) for inner in step.steps), **fewer)
    if isinstance(step, Teach):
        return Teach(tuple(_short(inner, changes) for inner in step.steps))
    if isinstance(step, Mixture):
        ways = tuple(tuple(_short(inner, changes) for inner in way) for way in step.ways)
        return replace(step, ways=ways)
    if isinstance(step, Negate | Expand):
        return replace(step, train=_short(step.train, changes))
    if isinstance(step, OneOptimiser):
        return OneOptimiser(tuple(_short(inner, changes) for inner in step.steps))
    if isinstance(step, Repeat):
        return Repeat(tuple(_short(inner, changes) for inner in step.steps), min(step.times, 2))
    return step


def _cheap(term: Term) -> Term:
    """The same term with few models to learn datamodels from."""
    if isinstance(term, Sum):
        return Sum(tuple((factor, _cheap(part)) for factor, part in term.parts))
    return replace(term, models=3) if isinstance(term, Predicted) else term


def brief_on_texts(method: Method) -> Method:
    """The same method with few steps, for a language model of two layers."""
    return replace(method, steps=_small(method.steps))


def _small(thing: Any) -> Any:
    if isinstance(thing, tuple):
        return tuple(_small(item) for item in thing)
    if isinstance(thing, Negate | PrimalDual | SharpnessAware):
        return replace(thing, train=_small(thing.train))
    if isinstance(thing, Teach):
        return Teach(_small(thing.steps))
    if isinstance(thing, Rome):
        return Rome(0, steps=2, damping=0.1)
    if isinstance(thing, Memit):
        return Memit((0,), weight=1.0, steps=2, damping=0.1)
    if isinstance(thing, Train):
        where = Named("down_proj") if isinstance(thing.where, Named) else thing.where
        objective = _shallow(thing.objective)
        changes: dict[str, Any] = {"lr": 0.003, "batch": 4, "where": where}
        return replace(thing, objective=objective, epochs=1.5, **changes)
    return thing


def _shallow(term: Term) -> Term:
    """The same loss on the layers of a model of two."""
    if isinstance(term, Sum):
        return Sum(tuple((factor, _shallow(part)) for factor, part in term.parts))
    if isinstance(term, NoiseMatch | LogLens):
        return replace(term, layers=2)
    return replace(term, layer=1) if isinstance(term, Match | Steer | AdaptiveSteer) else term
