"""Requests one after another: does the first stay forgotten once a second was carried out?

A second unlearning starts from a model that has forgotten, and may bring back what the first one
hid. That is asked of a method and a problem, not of one model; every audit can ask it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.audits.finding import Finding
from expunge.audits.images.classifier_audit import ClassifierAudit, Models, confidence_on, run_audit
from expunge.core.batch import Data, Joined, Subset, check_indices
from expunge.core.problem import Problem
from expunge.core.seeds import derived
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Engine, Looped, unlearn_runs
from expunge.engine.training import from_scratch
from expunge.engine.unlearning import unlearn
from expunge.errors import BadData

# Of what is kept, so many examples tell whether a model is still whole.
MOST_KEPT = 512


@dataclass(frozen=True)
class After:
    """What stands after one of the requests.

    Args:
        first: what the audit finds of the first request.
        kept: mean probability of the right class on what is to be kept, of unlearned models; a
            model that answers nothing has forgotten the first request too.
        kept_retrained: the same of models retrained for this request.
    """

    first: Finding
    kept: float
    kept_retrained: float


def requests(problem: Problem, later: Sequence[Tensor]) -> tuple[Problem, ...]:
    """The problem as it is at each request: what to forget now, and what is left then.

    Args:
        problem: its forget set is the first request.
        later: for each further request int64 rows of the problem's retain set.

    Raises:
        BadData: a row that is out of range or asked for twice, or nothing left to retain.
    """
    retain = problem.sets["retain"]
    left, found = torch.ones(len(retain), dtype=torch.bool), [problem]
    for rows in later:
        gone = check_indices(rows, len(retain))
        if not left[gone].all():
            raise BadData("A row is in two requests; what is forgotten once cannot be asked again.")
        left[gone] = False
        if not left.any():
            raise BadData("The requests leave nothing to retain.")
        kept = Subset(retain, left.nonzero()[:, 0])
        found.append(_with(problem, Subset(retain, gone), kept))
    return tuple(found)


def carried_out(
    original: nn.Module, method: Any, asked: Sequence[Problem], *, seed: int = 0
) -> tuple[nn.Module, ...]:
    """One member's model after each request; the first is that of `unlearn` with this seed.

    Args:
        original: trained on all; it is left as it is.
        method: what `unlearn` takes.
        asked: from `requests`.
        seed: the member.

    Raises:
        As `unlearn`.
    """
    models, model = [], original
    for number, problem in enumerate(asked):
        own = seed if number == 0 else derived("request", number, seed)
        model = unlearn(model, method, problem, seed=own).model
        models.append(model)
    return tuple(models)


def retrained(
    problem: Problem, seeds: Sequence[int], engine: Engine | None = None
) -> list[nn.Module]:
    """Models trained from scratch on a problem's retain set, as an experiment's oracles are.

    Args:
        problem: with architecture and recipe.
        seeds: one a model.
        engine: how they are trained; one after another unless told.

    Raises:
        Unsupported: no architecture or no recipe.
    """
    runs = []
    for seed in seeds:
        start = problem.untrained("oracle", seed)
        runs.append(Run(start, frozen(start), problem, seed, "oracle"))
    method = from_scratch(problem, "retain", "oracle")
    *_, made = unlearn_runs(runs, method, engine or Looped())
    return [one.model for one in made]  # type: ignore[union-attr]


def sequential(
    audit: ClassifierAudit,
    method: Any,
    problem: Problem,
    later: Sequence[Tensor],
    originals: Models,
    *,
    oracles: int = 8,
    seed: int = 0,
    margin: float | None = None,
    alpha: float = 0.05,
    engine: Engine | None = None,
) -> tuple[After, ...]:
    """Return what an audit finds of the first request after it, after the second, and so on.

    After each request the models are held against retrained ones that never saw anything that was
    asked to be forgotten until then, and the retain set is what is left.

    Args:
        audit: a word of this room.
        method: what `unlearn` takes; it is carried out once a request on every original.
        problem: with architecture and recipe; its forget set is the first request.
        later: rows of the retain set for each further request.
        originals: models trained on all, one a member.
        oracles: how many models are retrained for each request, 3 or more.
        seed: draws the members' unlearning, the oracles, and the audit.
        margin, alpha: as for `run_audit`.
        engine: how oracles are trained.

    Raises:
        As `requests`, `unlearn` and `run_audit`.
    """
    asked = requests(problem, later)
    chains = [
        carried_out(model, method, asked, seed=derived("member", seed, place))
        for place, model in enumerate(originals)
    ]
    found = []
    for number, stage in enumerate(asked):
        seeds = [derived("oracle", seed, place) for place in range(oracles)]
        first = _with(problem, problem.sets["forget"], stage.sets["retain"])
        subjects = [chain[number] for chain in chains]
        references = retrained(stage, seeds, engine)
        limits: dict[str, Any] = {"seed": seed, "margin": margin, "alpha": alpha}
        finding = run_audit(audit, subjects, references, originals, first, **limits)
        found.append(After(finding, *(_kept(each, stage) for each in (subjects, references))))
    return tuple(found)


def _kept(models: Models, problem: Problem) -> float:
    """Mean probability of the right class on examples spread over the retain set."""
    retain = problem.sets["retain"]
    count = min(len(retain), MOST_KEPT)
    some = Subset(retain, torch.arange(count) * len(retain) // count)
    return sum(confidence_on(model, some) for model in models) / len(models)


def _with(problem: Problem, forget: Data, retain: Data) -> Problem:
    """The same problem with another forget and retain set."""
    sets = {"forget": forget, "retain": retain, "train": Joined(retain, forget)}
    return replace(problem, sets={**problem.sets, **sets})
