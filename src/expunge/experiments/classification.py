"""Experiments on images and their classes: what models are asked, and how answers are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from expunge.experiments.plan import Product, Task

if TYPE_CHECKING:
    from expunge.core.method import Method
    from expunge.core.store import Store
    from expunge.experiments.plan import Plan


class Classification(Task):
    """Images and their classes: models give logits on whole sets."""

    name: ClassVar[str] = "classification"
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "scipy")

    def forgotten(self, plan: Plan) -> Product:
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

    def asked(self, plan: Plan, model: str) -> str:
        return ",".join(plan.witnessed(model))

    def witness(self, plan: Plan, model: nn.Module, made_as: str) -> Product:
        from expunge.experiments.collect import collect

        answers = collect(model, plan.problem, plan.witnessed(made_as))
        return {"evidence": {"logits": answers}}, {}

    def trace(self, plan: Plan, model: nn.Module) -> dict[str, float]:
        return {}

    def scoring(self, plan: Plan) -> str:
        from expunge.experiments.plan import METRICS_VERSION

        return f"{plan.experiment.rule}/{METRICS_VERSION}"

    def score(self, plan: Plan, store: Store, method: Method) -> dict[str, Any]:
        from expunge.experiments.scoring import score

        return score(plan, store, method)

    def summary(self, plan: Plan, store: Store) -> dict[str, Any]:
        from expunge.experiments.summary import summary

        return summary(plan, store)


CLASSIFICATION = Classification()
