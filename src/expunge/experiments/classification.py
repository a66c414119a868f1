"""Experiments on images and their classes: what models are asked, and how answers are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from expunge.audits.panel import STANDARD
from expunge.core.method import Method
from expunge.core.store import Store
from expunge.experiments import classifier_rows
from expunge.experiments.attacking import correlations
from expunge.experiments.audit_jobs import findings_of
from expunge.experiments.classifier_rows import COLUMNS, ClassifierRow, ClassifierScores
from expunge.experiments.collect import collect
from expunge.experiments.plan import METRICS_VERSION, Plan, Product, Task
from expunge.experiments.rows import AllScores, Column, Record, RowHead, TableRow, UnscoredRow
from expunge.experiments.scoring import score
from expunge.experiments.shadowing import about_choice
from expunge.metrics.agreement import RESAMPLES, Unscored
from expunge.metrics.row_label import ScoredRow, Spread, flags, gap_closed, row_label

NOT_SHOWN = (
    "That the information is gone: these numbers compare answers on the measured examples. "
    "A model can hide what it still knows, as the control `sham` does.",
    "Attacks that were not tried. “Excluded” is said of the listed attacks and of the stated "
    "margin; “inconclusive” is no evidence of forgetting.",
    "Loss, entropy, modified entropy and SVC are weak attacks: one threshold for all examples "
    "overstates protection. An area near the oracle's is no evidence of forgetting.",
    "Only this forget set, this network and this recipe were measured. "
    "Another choice can order the methods otherwise.",
    "Copies of the original, earlier exports and models derived from it still hold everything.",
    "The intervals are over models; the examples and the split into sets stay as they are.",
)


NO_AUDITS = (
    "Relearning, probes of inner layers, pruning and quantisation were not run here: the attacks "
    "read answers and no weights. Name audits in the experiment to run them."
)


class Classification(Task[ClassifierScores]):
    """Images and their classes: models give logits on whole sets."""

    name: ClassVar[str] = "classification"
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "scipy")
    controls: ClassVar[tuple[str, ...]] = ("retrain", "nothing", "sham")
    columns: ClassVar[tuple[Column[ClassifierRow], ...]] = COLUMNS
    resamples: ClassVar[int] = RESAMPLES

    def problem_record(self, plan: Plan) -> Product:
        forget = plan.problem.sets["forget"]
        batch = forget.batch(torch.arange(min(len(forget), 1024)))
        rows = getattr(forget, "index", torch.arange(len(forget)))
        return (
            {"forget": {"rows": rows, "pictures": batch.inputs.float(), "targets": batch.targets}},
            {
                "classes": plan.problem.classes,
                "sizes": {n: len(d) for n, d in plan.problem.sets.items()},
            },
        )

    def evaluation_key(self, plan: Plan, model: str) -> str:
        return ",".join(plan.evaluation_sets(model))

    def collect(self, plan: Plan, model: nn.Module, made_as: str) -> Product:
        answers = collect(model, plan.problem, plan.evaluation_sets(made_as))
        return {"evidence": {"logits": answers}}, {}

    def trace(self, plan: Plan, model: nn.Module) -> dict[str, float]:
        return {}

    def score_key(self, plan: Plan) -> str:
        return f"{plan.experiment.rule}/{METRICS_VERSION}"

    def score(self, plan: Plan, store: Store, method: Method) -> ClassifierScores:
        return score(plan, store, method)

    def read_scores(self, record: Record) -> ClassifierScores:
        return ClassifierScores.from_json(record)

    def rows(
        self, plan: Plan, store: Store, found: AllScores[ClassifierScores]
    ) -> list[ClassifierRow | UnscoredRow]:
        rows: list[ClassifierRow | UnscoredRow] = []
        for method in plan.methods:
            head, mine = RowHead.of(method, self.controls), found.by_name[method.name]
            if isinstance(mine, Unscored):
                rows.append(UnscoredRow(head, mine.reason))
                continue
            judged = row_to_judge(plan, method.name, mine, found)
            gap = gap_closed(judged.quality.value, judged.floor, judged.ceiling)
            closed = gap.reason if isinstance(gap, Unscored) else gap
            audits = findings_of(plan, store, method)
            said = row_label(judged), tuple(flags(judged))
            rows.append(ClassifierRow(head, mine, closed, *said, audits))
        return rows

    @staticmethod
    def read_row(record: Record) -> ClassifierRow | UnscoredRow:
        return ClassifierRow.from_json(record)

    def anchor(self, scores: ClassifierScores) -> dict[str, Any]:
        return scores.quality.to_json()

    def sections(
        self, plan: Plan, store: Store, found: AllScores[ClassifierScores],
        rows: Sequence[TableRow],
    ) -> dict[str, Any]:  # fmt: skip
        about = store.about(plan.root)
        scored = [row for row in rows if isinstance(row, ClassifierRow)]
        retrained = next(row for row in scored if row.head.name == "retrain")
        return {
            "problem": {
                "name": plan.problem.name,
                "classes": about["classes"],
                "sizes": about["sizes"],
                "rows": store.tensors(plan.root, "forget")["rows"][:20].tolist(),
            },
            "chosen": about_choice(plan, store, scored),
            "gallery": gallery(plan, store, found),
            "not_shown": [*NOT_SHOWN, *protocol_limits(plan)],
            "false_alarms": found.ceiling.attacks["false_alarms"],
            "audit_alarms": retrained.audits.get("false_alarms", {}),
            "blind": found.ceiling.attacks["blind"],
            "retrain_free": correlations(scored, plan.experiment.seed),
        }

    @staticmethod
    def notes(summary: Record) -> list[str]:
        return classifier_rows.notes(summary)


CLASSIFICATION = Classification()


def row_to_judge(
    plan: Plan, name: str, mine: ClassifierScores, found: AllScores[ClassifierScores]
) -> ScoredRow:
    """Return what the verdict on a row is made from."""
    tuned = None if name == "finetune" else found.by_name.get("finetune")
    return ScoredRow(
        quality=mine.quality.score,
        ceiling=found.ceiling.quality.score,
        floor=found.floor.quality.score,
        finetune=tuned.quality.score if isinstance(tuned, ClassifierScores) else None,
        subject=_spread(mine),
        oracle=_spread(found.ceiling),
        original=_spread(found.floor),
        classes=plan.problem.class_count,
        largest_change=mine.cost.largest,
        cost=mine.cost.time_share,
    )


def _spread(scores: ClassifierScores) -> dict[str, Spread]:
    by_set = scores.accuracy_of_models.items()
    return {name: Spread(float(np.mean(a)), float(np.std(a, ddof=1))) for name, a in by_set}


def gallery(plan: Plan, store: Store, found: AllScores[ClassifierScores]) -> list[dict[str, Any]]:
    """Return a few forget examples: image, class, and the signal of every method's models."""
    kept = store.tensors(plan.root, "forget")
    rows = [row for row in found.floor.gallery if row["example"] < len(kept["pictures"])]
    shown = []
    for place, entry in enumerate(rows):
        target = int(kept["targets"][entry["example"]])
        shown.append(
            {
                "example": int(kept["rows"][entry["example"]]),
                "class": plan.problem.classes[target] if plan.problem.classes else str(target),
                "picture": _pixels(kept["pictures"][entry["example"]].numpy()),
                "original": entry["unlearned"][0],
                "retrained": entry["retrained"],
                "unlearned": {
                    name: scores.gallery[place]["unlearned"]
                    for name, scores in found.by_name.items()
                    if isinstance(scores, ClassifierScores) and name != "nothing"
                },
            }
        )
    return shown


def _pixels(image: np.ndarray) -> list[Any]:
    """Return whole numbers 0 to 255, [c][h][w], stretched to the image's own range.

    What is no image of one or three channels, as a vector is, becomes a strip of grey.
    """
    seen = image if image.ndim == 3 and len(image) in (1, 3) else image.reshape(1, 1, -1)
    low, high = seen.min(), seen.max()
    stretched = (seen - low) / max(float(high - low), 1e-9) * 255
    return stretched.round().astype(int).tolist()


def protocol_limits(plan: Plan) -> list[str]:
    """Return what the protocol and the number of members leave open."""
    few = plan.experiment.members
    said = audit_limits(plan)
    if plan.experiment.protocol == "challenge":
        said.append(
            "All unlearned models start from one original (protocol `challenge`); "
            "another original was not tried, and what attacks find may be what these models share."
        )
    if not plan.experiment.shadows:
        said.append(
            "No shadow models were trained (shadows = 0): whether single retain or forget examples "
            "are recognised as members of the training set was not tried."
        )
    if few < 16:
        said.append(f"With {few} models a side no method can be ranked; 16 is the least.")
    return said


def audit_limits(plan: Plan) -> list[str]:
    """Return what audits of the weights leave open."""
    experiment = plan.experiment
    if not experiment.audits:
        return [NO_AUDITS]
    asked = {type(audit) for audit in experiment.audits}
    left = [repr(audit) for audit in STANDARD if type(audit) not in asked]
    without = (
        [f"These usual audits of the weights were not run: {', '.join(left)}."] if left else []
    )
    return [
        f"Audits measured {min(experiment.audited, experiment.members)} models of each kind; a "
        "stronger attacker, who trains longer or reads other layers, may find what these did not. "
        "Several of them read the same thing: they are not independent evidence.",
        *without,
    ]
