"""The audit of a whole experiment, of images or texts: one request, and one record of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.audits.audit import Audit
from expunge.audits.finding import Record, row
from expunge.core.machine import hardware
from expunge.experiments.make import versions
from expunge.experiments.plan import Plan


@dataclass(frozen=True)
class ExperimentAuditRequest:
    """How an experiment is audited.

    Args:
        audits: what is tried, plain asking among them; the usual ones of the experiment when empty.
        seeds: whose models are audited; of texts, each seed's are judged by themselves, the
            first's when empty; of images all together, at most as many as there are retrained
            models to compare with, and as many as the experiment audits when empty.
        only: names of methods and controls; all when empty.
        margin: the share of the gap between original and retrained that matters.
        alpha: level of the tests.
    """

    audits: tuple[Audit[Any], ...] = ()
    seeds: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    margin: float = Audit.margin
    alpha: float = 0.05


def verdict_record(
    plan: Plan,
    request: ExperimentAuditRequest,
    judged: Sequence[Mapping[str, Record]],
    controls: Sequence[str],
    **rest: Any,
) -> dict[str, Any]:
    """Return the verdicts on all methods of an experiment, as JSON holds them.

    Args:
        plan: of the experiment.
        request: how it was judged.
        judged: for each seed, or for all together, name of a method -> verdict with its lines.
        controls: names of the rows that are controls.
        rest: what one modality alone records, or records in its own way.
    """
    names = dict.fromkeys(name for one in judged for name in one)
    return {
        "kind": "verdicts",
        "experiment": plan.experiment.name,
        "problem": plan.problem.name,
        "margin": request.margin,
        "alpha": request.alpha,
        "rows": [
            row(name, [one[name] for one in judged if name in one], name in controls)
            for name in names
        ],
        "sentences": {method.name: method.sentence for method in plan.methods},
        "hardware": hardware(),
        "versions": versions(plan),
        **rest,
    }
