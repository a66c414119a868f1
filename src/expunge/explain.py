"""A sentence explained: its steps, what each reads, and which share of the weights it touches."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from expunge.descent import cuts
from expunge.method import Method, names_of_sets
from expunge.parts import Part
from expunge.plan import Plan
from expunge.steps import Negate, Repeat, Step, Train
from expunge.unlearn import Run, check_sets, frozen


def explained(method: Method, plan: Plan) -> Iterator[str]:
    """Lines that say what a method does to a network of a plan's problem.

    Parts are judged on an untrained network of the same shape: shares are those of the original,
    the chosen weights may be others.
    """
    check_sets(method, plan.problem)
    network = frozen(plan.problem.untrained("show"))
    count = sum(w.numel() for w in network.parameters())
    run = Run(network, network, plan.problem, seed=0)
    yield f"{method.name}: {len(method.steps)} steps, on a network of {count:,} weights"
    if method.source:
        yield f"source: {method.source}"
    for step in method.steps:
        yield from _lines(step, run, 1)


def _lines(step: Step, run: Run, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(step, Repeat):
        yield f"{indent}Repeat, {step.times} times"
        for inner in step.steps:
            yield from _lines(inner, run, depth + 1)
        return
    yield f"{indent}{step!r}"
    read = ", ".join(dict.fromkeys(names_of_sets(step))) or "no examples"
    yield f"{indent}  reads {read}; touches {_share(step, run):.1%} of the weights"
    if isinstance(step, Train):
        yield f"{indent}  {_effort(step, run)}"


def _share(step: Step, run: Run) -> float:
    """Share of the weights that a step may change."""
    if isinstance(step, Negate):
        return _share(step.train, run)
    part = getattr(step, "where", None)
    if not isinstance(part, Part):
        return 1.0  # Blend, Dampen and Newton judge every weight
    mask = run.mask(part)
    return sum(int(inside.sum()) for inside in mask.values()) / _count(run.original)


def _count(model: nn.Module) -> int:
    return sum(w.numel() for w in model.parameters())


def _effort(step: Train, run: Run) -> str:
    sizes = {name: len(run.data(name)) for name in step.objective.sets}
    lead = step.over or max(sizes, key=lambda name: sizes[name])
    minibatches = max(1, round(step.epochs * len(cuts(sizes[lead], step.batch))))
    return (
        f"{minibatches} minibatches of {step.batch} a set; an epoch is a pass over {lead} "
        f"({sizes[lead]} examples)"
    )
