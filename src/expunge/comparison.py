"""Compares methods with retrained oracles, from Python, on any problem of images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.audits.panel import asked
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.store import Store
from expunge.errors import BadData, Unsupported, did_you_mean
from expunge.experiments.classification import CLASSIFICATION
from expunge.experiments.experiment import Experiment
from expunge.experiments.graph import make
from expunge.experiments.plan import Plan, problem_spec
from expunge.experiments.summary import keep
from expunge.methods.sentences import as_method
from expunge.report.terminal import plain

Methods = Mapping[str, Any] | Sequence[Any] | Method | Step


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was found; prints as a table, and `write` makes the report."""

    summary: dict[str, Any]

    def __str__(self) -> str:
        return plain(self.summary)

    def __getitem__(self, name: str) -> dict[str, Any]:
        """One method's row.

        Raises:
            BadData: no row has that name.
        """
        rows: dict[str, dict[str, Any]] = {row["name"]: row for row in self.summary["rows"]}
        if name not in rows:
            raise BadData(
                f"No row is called {name!r}; there are {', '.join(rows)}.{did_you_mean(name, rows)}"
            )
        return rows[name]

    def write(self, path: Path | str) -> Path:
        """Write the report, one HTML file.

        Raises:
            BadData: the name ends otherwise than in .html.
            StoreError: the file cannot be written.
        """
        from expunge.report.page import write

        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise BadData(
                f"The report is one HTML file, and {Path(path).name!r} does not end in .html. The "
                "numbers are in `summary`, which JSON can hold."
            )
        return write(self.summary, Path(path))


def compare(
    problem: Problem,
    methods: Methods,
    *,
    members: int = 32,
    store: Path | str | None = None,
    protocol: str = "challenge",
    rule: str = "released",
    seed: int = 0,
    audits: Sequence[str] = (),
    audited: int = 8,
) -> Comparison:
    """Score methods against retrained oracles, with the controls that every comparison has.

    Args:
        problem: with an architecture and a recipe, so that oracles can be retrained.
        methods: one method or several, or name -> method, step, steps or sentence.
        members: oracles, and unlearned models by each method.
        store: a folder that caches what is made; else a temporary one.
        protocol: "challenge" (one original, N seeds) or "paired" (N originals).
        rule: of the challenge's score, "released" or "exact".
        seed: draws the members.
        audits: sentences of audits of the weights, or "standard"; none unless named.
        audited: models of each kind that audits measure.

    Raises:
        Unsupported: the problem has no architecture or no recipe.
        BadSentence, BadData, StoreError: as their messages say.
    """
    recipe = problem.recipe
    if recipe is None or problem.architecture is None:
        raise Unsupported(
            f"{problem.name} needs an architecture and a recipe before methods can be compared: "
            "oracles are made by the recipe on the retain set."
        )
    experiment = Experiment(
        problem.name,
        recipe,
        named(methods),
        problem=problem.name,
        architecture="own",
        forget="own",
        protocol=protocol,
        members=members,
        rule=rule,
        seed=seed,
        audits=asked(audits, "audits"),
        audited=audited,
    )
    plan = Plan(experiment, problem, problem_spec(problem), CLASSIFICATION)
    if store is not None:
        return _compared(plan, Store(store))
    with tempfile.TemporaryDirectory() as folder:
        return _compared(plan, Store(Path(folder) / "store"))


def _compared(plan: Plan, store: Store) -> Comparison:
    for _ in make(plan, store):
        continue
    return Comparison(keep(plan, store))


def named(methods: Methods) -> tuple[Method, ...]:
    """Methods under the names that the table calls them by."""
    if isinstance(methods, str | Method | Step):
        methods = (methods,)
    if isinstance(methods, Mapping):
        pairs = {name: as_method(source, name) for name, source in methods.items()}
        return tuple(Method(name, m.steps, m.source) for name, m in pairs.items())
    numbered = enumerate(methods, start=1)
    return tuple(as_method(source, f"mine {number}") for number, source in numbered)
