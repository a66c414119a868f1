"""Experiments on language models: the room where their plan, evidence, scores and table meet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from expunge.experiments.plan import Plan, Product, Task
from expunge.experiments.text.evidence import answered, traced
from expunge.experiments.text.scoring import score
from expunge.experiments.text.summary import summary
from expunge.problems.text.by_name import LanguageSetting

if TYPE_CHECKING:
    from expunge.core.method import Method
    from expunge.core.store import Store


# Raised when what is asked, or what is kept of it, changes: all models answer again.
ASKED_VERSION = 1


# Raised when a score changes: scores are made again from the answers in the store.
SCORE_VERSION = 2


@dataclass(frozen=True, eq=False)
class Language(Task):
    """Texts: models give probabilities of answers, and write answers of their own.

    Args:
        setting: the sets for measuring, which no method sees, and the tokenizer.
    """

    name: ClassVar[str] = "language"
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "scipy", "transformers")
    setting: LanguageSetting

    def forgotten(self, plan: Plan) -> Product:
        asked = {one.name: len(one.items) for one in self.setting.asked}
        sizes = {name: len(data) for name, data in plan.problem.sets.items()}
        return {}, {"sizes": sizes, "asked": asked, "source": self.setting.source}

    def asked(self, plan: Plan, model: str) -> str:
        said = repr([one.key() for one in self.setting.asked]).encode()
        return f"{ASKED_VERSION}/{hashlib.blake2b(said, digest_size=16).hexdigest()}"

    def witness(self, plan: Plan, model: nn.Module, made_as: str) -> Product:
        return answered(model, self.setting.tokenizer, self.setting.asked)

    def trace(self, plan: Plan, model: nn.Module) -> dict[str, float]:
        return traced(model, self.setting.asked)

    def scoring(self, plan: Plan) -> str:
        return f"texts/{SCORE_VERSION}"

    def score(self, plan: Plan, store: Store, method: Method) -> dict[str, Any]:
        return score(plan, store, self.setting, method)

    def summary(self, plan: Plan, store: Store) -> dict[str, Any]:
        return summary(plan, store, self.setting)
