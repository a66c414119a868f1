"""Experiments on language models: what models are asked, and how answers are judged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from expunge.core.method import Method
from expunge.core.store import Store
from expunge.experiments.plan import Plan, Product, Task
from expunge.experiments.rows import AllScores, Column, Record, RowHead, TableRow, UnscoredRow
from expunge.experiments.text import language_rows
from expunge.experiments.text.evidence import collect_answers, trace_of
from expunge.experiments.text.language_rows import COLUMNS, LanguageRow, LanguageScores
from expunge.experiments.text.normalised_metrics import CHOICE, FORGET, RESAMPLES, RETAIN
from expunge.experiments.text.scoring import score
from expunge.metrics.agreement import Unscored
from expunge.metrics.row_label import language_flags, language_row_label
from expunge.problems.text.by_name import LanguageSetting

# Raised when what is asked, or what is kept of it, changes: all models answer again.
ASKED_VERSION = 1


# Raised when a score changes: scores are made again from the answers in the store.
SCORE_VERSION = 2


FILTER = RowHead(
    "filter",
    "()",
    "control: the original behind a filter that refuses by keyword; Thaker et al., "
    "arXiv 2403.03329",
    control=True,
)


NOT_SHOWN = (
    "That the information is gone: these numbers compare answers to fixed questions. Teaching "
    "again, probing inner layers and compressing the model were not tried here.",
    "Answers drawn at random: generations are greedy, and a model may say more when it is asked "
    "many times.",
    "Other questions, languages and ways to ask than those of the evaluation sets.",
    "Large models: numbers of a small model need not hold for others, and neither do the methods' "
    "learning rates.",
    "Copies of the original, earlier exports and models derived from it still hold everything.",
    "Intervals are over models and subjects; with few models they are rough.",
)


@dataclass(frozen=True, eq=False)
class Language(Task[LanguageScores]):
    """Texts: models give probabilities of answers, and write answers of their own.

    Args:
        setting: the sets for measuring, which no method sees, and the tokenizer.
    """

    name: ClassVar[str] = "language"
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "scipy", "transformers")
    controls: ClassVar[tuple[str, ...]] = ("retrain", "nothing", "filter", "gibberish")
    columns: ClassVar[tuple[Column[LanguageRow], ...]] = COLUMNS
    resamples: ClassVar[int] = RESAMPLES
    setting: LanguageSetting

    def problem_record(self, plan: Plan) -> Product:
        asked = {one.name: len(one.items) for one in self.setting.asked}
        sizes = {name: len(data) for name, data in plan.problem.sets.items()}
        return {}, {"sizes": sizes, "asked": asked, "source": self.setting.source}

    def evaluation_key(self, plan: Plan, model: str) -> str:
        said = repr([one.key() for one in self.setting.asked]).encode()
        return f"{ASKED_VERSION}/{hashlib.blake2b(said, digest_size=16).hexdigest()}"

    def collect(self, plan: Plan, model: nn.Module, made_as: str) -> Product:
        return collect_answers(model, self.setting.tokenizer, self.setting.asked)

    def trace(self, plan: Plan, model: nn.Module) -> dict[str, float]:
        return trace_of(model, self.setting.asked)

    def score_key(self, plan: Plan) -> str:
        return f"texts/{SCORE_VERSION}"

    def score(self, plan: Plan, store: Store, method: Method) -> LanguageScores:
        return score(plan, store, self.setting, method)

    def read_scores(self, record: Record) -> LanguageScores:
        return LanguageScores.from_json(record)

    def rows(
        self, plan: Plan, store: Store, found: AllScores[LanguageScores]
    ) -> list[LanguageRow | UnscoredRow]:
        scored, unscored = [], []
        for method in plan.methods:
            head, mine = RowHead.of(method, self.controls), found.by_name[method.name]
            if isinstance(mine, Unscored):
                unscored.append(UnscoredRow(head, mine.reason))
            else:
                scored.append(judged_row(head, replace(mine, filter=None), found))
        if found.floor.filter:
            behind = replace(found.floor.filter, cost=found.floor.cost)
            scored.append(judged_row(FILTER, behind, found))
        return [*ranked(scored), *unscored]

    @staticmethod
    def read_row(record: Record) -> LanguageRow | UnscoredRow:
        return LanguageRow.from_json(record)

    def anchor(self, scores: LanguageScores) -> dict[str, Any]:
        return scores.to_json()["distance"]

    def sections(
        self, plan: Plan, store: Store, found: AllScores[LanguageScores], rows: Sequence[TableRow]
    ) -> dict[str, Any]:
        """Return kind, problem, gauges and not_shown.

        problem has name, source, sizes (examples by set), asked (set -> side, questions, subjects,
        written, options) and weights (of the model). gauges are in the order of the columns: name,
        metric, set, side, unit, and counts (whether the distance is made of it: the anchors differ
        enough).
        """
        weights = sum(weight.numel() for weight in plan.problem.untrained("load").parameters())
        return {
            "kind": "language",
            "problem": {
                "name": plan.problem.name,
                "source": self.setting.source,
                "sizes": {name: len(data) for name, data in plan.problem.sets.items()},
                "asked": {
                    one.name: {
                        "side": one.side,
                        "questions": len(one.items),
                        "subjects": len({item.subject for item in one.items} - {""}),
                        "written": one.written,
                        "options": one.wrong is not None,
                    }
                    for one in self.setting.asked
                },
                "weights": weights,
            },
            "gauges": gauges(found.ceiling, [asked.name for asked in self.setting.asked]),
            "not_shown": list(NOT_SHOWN),
        }

    @staticmethod
    def notes(summary: Record) -> list[str]:
        return [language_rows.legend(summary)]


def gauges(scores: LanguageScores, sets: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is measured, by set and metric, and of what the distance is made."""
    metrics = [metric.name for metric in (*FORGET, *RETAIN, *CHOICE)]
    found = sorted(
        scores.scores.items(),
        key=lambda pair: (sets.index(pair[1].set), metrics.index(pair[1].metric)),
    )
    return [
        {
            "name": name,
            "metric": one.metric,
            "set": one.set,
            "side": one.side,
            "unit": one.unit,
            "counts": name in scores.distance.gauges,
        }
        for name, one in found
    ]


def judged_row(
    head: RowHead, mine: LanguageScores, found: AllScores[LanguageScores]
) -> LanguageRow:
    """Return a row that ends in plain words; its rank is not known before all rows are."""
    ceiling, floor, numbers = (one.to_json() for one in (found.ceiling, found.floor, mine))
    said = language_row_label(head.name, numbers, ceiling["distance"], floor["distance"])
    return LanguageRow(
        head, mine, said, tuple(language_flags(head.name, numbers, ceiling["collapse"]))
    )


def ranked(rows: Sequence[LanguageRow]) -> list[LanguageRow]:
    """Return the rows nearest to the oracle first; a rank is claimed only where intervals part."""
    nearest_first = sorted(rows, key=lambda row: row.numbers.distance.value)
    ends = [row.numbers.distance.high for row in rows]
    return [
        replace(row, rank=1 + sum(high < row.numbers.distance.low for high in ends))
        for row in nearest_first
    ]
