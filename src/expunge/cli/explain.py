"""The commands `methods` and `show`: published methods in tables, and one step by step."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.text import Text
from torch import nn

from expunge.core import schedules
from expunge.core.batch import holds_tokens
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.run import ProblemProtocol
from expunge.core.schedules import Schedule
from expunge.core.selector import Everything, Selector
from expunge.core.term import Sum, Term
from expunge.engine.check import check_sets, doubts, needs, unfit
from expunge.engine.loop import course
from expunge.engine.run import Run, frozen
from expunge.engine.training import Mixture, Negate, Repeat, Train
from expunge.errors import BadSentence, ExpungeError
from expunge.experiments.plan import Plan
from expunge.methods.cost import forecast
from expunge.methods.published import FAMILIES, NAMED, PUBLISHED

# First words that keep their capital in the middle of a line, as abbreviations do.
NAMES = ("Adam", "Gaussian", "Gumbel", "Kaiming")


LETTERS = "abcdefghijklmnopqrstuvwxyz"


# What a field holds, where its own name would not say it.
ROLES = {"lr": "learning rate", "where": "where", "optimiser": "optimiser"}


def families(retrain: Method) -> dict[str, list[Method]]:
    """Return the published methods by family.

    Args:
        retrain: the control that a problem's recipe gives; it comes first.
    """
    first, *others = FAMILIES
    found = {first: [retrain, *FAMILIES[first]]}
    return found | {title: list(FAMILIES[title]) for title in others}


def row(method: Method, problem: Problem) -> tuple[str, str, str, str, str]:
    """Return one method of a list: name, needs, epochs on a problem, guarantee, source."""
    needed = needs(method)
    return (method.name, str(needed), _epochs(method, problem), needed.guarantee, method.source)


def _epochs(method: Method, problem: Problem) -> str:
    """The cost in passes over the retain set, or "-" where the problem lacks what is needed.

    What was published for language models is not counted on images.
    """
    texts_only = NAMED.get(method.name) is method and method.name not in PUBLISHED
    if texts_only and not holds_tokens(problem.data("forget")):
        return "-"
    try:
        cost = forecast(method, problem)
    except ExpungeError:
        return "-"
    return f"{'<= ' if cost.at_most else ''}{cost.epochs:.1f}"


def explanation(method: Method, plan: Plan) -> Iterator[str]:
    """Yield lines that say what a method does to a network of a plan's problem.

    Selectors are judged on an untrained network of the same shape: the shares of weights are those
    of the original, the chosen weights may differ.

    Raises:
        OffLimits, BadData: the method names a set that it may not see or that is not there.
    """
    problem = plan.problem
    check_sets(method, problem)
    network = frozen(problem.untrained("show"))
    run = Run(network, network, problem, seed=0)
    steps = f"{len(method.steps)} step{'' if len(method.steps) == 1 else 's'}"
    yield f"{method.name}: {steps}, on a network of {_count(network):,} weights"
    if method.source:
        yield f"  source: {method.source}"
    yield from _needs_and_costs(method, problem)
    for number, step in enumerate(method.steps, start=1):
        yield from _lines(step, run, f"  {number}. ")


def _needs_and_costs(method: Method, problem: Problem) -> Iterator[str]:
    """What a method needs, costs and guarantees, and what speaks against it on a problem."""
    needed, cost = needs(method), forecast(method, problem)
    yield f"  needs: {needed}"
    most = "at most " if cost.at_most else ""
    passes = f"{most}{cost.epochs:.1f} passes over the retain set of {problem.name}"
    share = "" if cost.share is None else f", {cost.share:.0%} of retraining"
    yield f"  costs: {passes}{share}"
    if needed.guarantee == "exact":
        yield "  guarantee: exact; it starts from fresh weights and sees the retain set alone"
    else:
        yield "  guarantee: none; measure whether it forgets"
    if needed.deterministic:
        yield "  seeds: it draws nothing, so every seed gives the same model"
    else:
        yield "  seeds: it draws at random, so every seed gives another model"
    yield from (f"  cannot work on {problem.name}: {reason}" for reason in unfit(method, problem))
    yield from (f"  doubt: {doubt}" for doubt in doubts(method, problem))


def _lines(step: Step, run: Run, head: str) -> Iterator[str]:
    indent = " " * len(head)
    inner = list(_inner(step))
    if inner:
        yield f"{head}{_title(step)}"
        for label, each in inner:
            yield from _lines(each, run, f"{indent}{head.strip()}{label}. ")
        yield f"{indent}reads in all {_read(step, run.problem)}"
        return
    yield f"{head}{step!r}"
    yield f"{indent}{_first_line(step).replace('`', '')}"
    yield from (f"{indent}  {line}" for line in _glosses(step))
    yield f"{indent}reads {_read(step, run.problem)}; {_touched(step, run)}"
    if isinstance(step, Train):
        yield f"{indent}{_minibatches(step, run)}"


def _inner(step: Step) -> Iterator[tuple[str, Step]]:
    """The steps inside a step, each with its number, and a letter for each way of several."""
    if isinstance(step, Mixture):
        for letter, way in zip(LETTERS, step.ways, strict=False):
            yield from ((f"{letter}{number}", each) for number, each in enumerate(way, start=1))
        return
    for field, value in vars(step).items():
        if isinstance(value, tuple) and all(isinstance(item, Step) for item in value):
            name = "" if field == "steps" else f"{field} "
            yield from ((f"{name}{number}", each) for number, each in enumerate(value, start=1))


def _title(step: Step) -> str:
    """What a step does with the steps inside it."""
    if isinstance(step, Repeat):
        return f"Repeat, {step.times} times"
    if isinstance(step, Mixture):
        pairs = zip(LETTERS, step.shares, strict=False)
        shares = [f"{share / sum(step.shares):.1%} {letter}" for letter, share in pairs]
        return f"Mixture: each member goes one way; of all {', '.join(shares)}"
    plain = ((name, value) for name, value in vars(step).items() if not isinstance(value, tuple))
    fields = ", ".join(f"{name}={value!r}" for name, value in plain)
    return f"{type(step).__name__}{f' ({fields})' if fields else ''}: {gloss(step)}"


def _glosses(word: Any) -> Iterator[str]:
    """Each word inside a word, with its purpose and its docstring's first line."""
    for field in dataclasses.fields(word):
        value = getattr(word, field.name)
        if isinstance(value, Term):
            yield from _objective(value)
        elif isinstance(value, Train):
            yield from _glosses(value)
        elif dataclasses.is_dataclass(value) and value != Everything():
            role = ROLES.get(field.name, field.name)
            yield f"{role} {value!r}: {gloss(value)}"
            yield from (f"  {line}" for line in _glosses(value))


def _objective(objective: Term) -> Iterator[str]:
    """The terms of an objective, and which way each is driven."""
    parts = objective.parts if isinstance(objective, Sum) else ((1.0, objective),)
    for factor, term in parts:
        raised = schedules.value(factor, 0.1) < 0  # a schedule may begin at 0
        sign = -1.0 if raised else 1.0
        size = factor.scaled(sign) if isinstance(factor, Schedule) else sign * factor
        weight = "" if size == 1 else f" {size!r} times"
        verb = "raise" if raised else "lower"
        yield f"{verb}{weight} {term!r}: {gloss(term)}"


def gloss(word: Any) -> str:
    """Return the first line of a word's docstring with its own numbers, to put after a colon."""
    text = _first_line(word).removesuffix(".")
    for field in dataclasses.fields(word):
        text = text.replace(f"`{field.name}`", repr(getattr(word, field.name)))
    name = text.startswith(NAMES) or text[1:2].isupper()
    return (text if name else text[:1].lower() + text[1:]).replace("`", "")


def _first_line(word: Any) -> str:
    return (inspect.getdoc(type(word)) or "").partition("\n")[0]


def _read(step: Step, problem: ProblemProtocol) -> str:
    """What a step reads of each set, in one run of it."""
    alone = Method("step", (step,))
    labelled = needs(alone).labels
    read = forecast(alone, problem).examples
    sets = [
        f"{name} ({read.get(name, 0):,} examples{'' if name in labelled else ', no labels'})"
        for name in alone.sets
    ]
    return ", ".join(sets) or "no examples"


def _touched(step: Step, run: Run) -> str:
    """Which share of the weights a step may change, or why it has none on this network."""
    try:
        return f"touches {_share(step, run):.1%} of the weights"
    except BadSentence as nowhere:  # a method for another network can still be read about
        return f"touches nothing here: {nowhere}"


def _share(step: Step, run: Run) -> float:
    """Share of the weights that a step may change."""
    if isinstance(step, Negate):
        return _share(step.train, run)
    part = getattr(step, "where", None)
    if not isinstance(part, Selector):
        return 1.0  # Blend, Dampen and Newton judge every weight
    mask = run.mask(part)
    return sum(int(inside.sum()) for inside in mask.values()) / _count(run.original)


def _count(model: nn.Module) -> int:
    return sum(w.numel() for w in model.parameters())


def _minibatches(step: Train, run: Run) -> str:
    sizes = {name: len(run.data(name)) for name in step.objective.sets}
    lead, _, count = course(step, sizes)
    minibatches = f"{count} minibatch{'' if count == 1 else 'es'} of {step.batch} a set"
    return f"{minibatches}; an epoch is a pass over {lead} ({sizes[lead]} examples)"


HEADS = ("method", "needs", "epochs", "guarantee", "source")


NUMBER = HEADS.index("epochs")


GAP = 2


# A source in fewer columns than this is printed below its method.
NARROWEST = 60


def print_methods(plan: Plan, console: Console) -> None:
    """Print the published methods, a table for each family."""
    found = families(plan.retrain).items()
    rows = {title: [row(m, plan.problem) for m in each] for title, each in found}
    widths = _widths([line for each in rows.values() for line in each], console.width)
    for title, lines in rows.items():
        console.print(Text("\n".join(textwrap.wrap(title, console.width)), style="bold"))
        console.print(Text(in_columns(HEADS[: len(widths)], widths), style="dim"))
        for line in lines:
            console.print(Text(in_columns(line[: len(widths)], widths)))
            for source in line[len(widths) :]:
                console.print(Text(indented(source, console.width)))
        console.print()
    sets = plan.problem.sets
    legend = (
        "needs: the sets that a method reads, whether with their labels, and its teachers; "
        f"epochs: its cost on {plan.experiment.name} ({len(sets['retain']):,} retain and "
        f"{len(sets['forget']):,} forget examples) in passes over the retain set, where a forward "
        "pass alone counts as a third; <=: it may stop earlier; guarantee: what is known without "
        "measuring. `expunge methods NAME` explains one."
    )
    console.print(Text(wrapped(legend, console.width)))


def print_explanations(methods: Sequence[Method], plan: Plan, console: Console) -> None:
    """Print methods step by step, lines wrapped below their own beginning."""
    for number, method in enumerate(methods):
        if number:
            console.print()
        for line in explanation(method, plan):
            console.print(Text(wrapped(line, console.width)))


def in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one row: each cell wrapped in its own column, numbers to the right."""
    pairs = zip(cells, widths, strict=True)
    columns = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in pairs]
    lines = []
    for pieces in zip_longest(*columns, fillvalue=""):
        padded = [
            piece.rjust(width) if i == NUMBER else piece.ljust(width)
            for i, (piece, width) in enumerate(zip(pieces, widths, strict=True))
        ]
        lines.append((" " * GAP).join(padded).rstrip())
    return "\n".join(lines)


def indented(text: str, width: int) -> str:
    """Return a text wrapped, every line indented."""
    indent = " " * 4
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def wrapped(line: str, width: int) -> str:
    """Return a line wrapped, all but its first piece indented by two more columns."""
    lead = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, width, subsequent_indent=f"{lead}  ", break_on_hyphens=False)


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is; without one for the source where it would be too narrow."""
    needed = [max(len(line[i]) for line in (HEADS, *lines)) for i in range(len(HEADS))]
    left = width - GAP * (len(HEADS) - 1) - needed[0] - needed[2] - needed[3]
    if left - NARROWEST >= 20:
        needs = min(needed[1], max(20, left // 3))
        return [needed[0], needs, needed[2], needed[3], left - needs]
    return [needed[0], max(10, left + GAP), needed[2], needed[3]]
