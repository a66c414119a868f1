"""All numbers of one method on a problem of texts, from the answers in the store alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

from expunge.core.evidence import Answers
from expunge.core.seeds import derived
from expunge.errors import BadEvidence
from expunge.experiments.scoring import cost, originals
from expunge.experiments.text.evidence import path, read_answers
from expunge.experiments.text.language_rows import (
    BrokenAnswers,
    GaugeScore,
    LanguageScores,
    PairedForgetQuality,
    RetainUtility,
)
from expunge.experiments.text.normalised_metrics import (
    Draws,
    Gauge,
    MetricRow,
    RecordedAnswers,
    distance,
    limits,
    membership,
)
from expunge.metrics.agreement import Score
from expunge.metrics.text.fluency import collapse, words
from expunge.metrics.text.likelihood import probability, right_option, truth_ratio_true_better
from expunge.metrics.text.measure import ExampleMetric
from expunge.metrics.text.memorisation import rouge_recall
from expunge.metrics.text.quality import forget_quality, harmonic_mean
from expunge.problems.text.by_name import REFUSAL
from expunge.problems.text.evaluation_sets import EvaluationSet

if TYPE_CHECKING:
    from expunge.core.method import Method
    from expunge.core.store import Job, Store
    from expunge.experiments.plan import Plan
    from expunge.problems.text.by_name import LanguageSetting


def keywords(forget: Iterable[str], retain: Iterable[str]) -> frozenset[str]:
    """The words of the questions to be forgotten that no question to be kept holds."""
    kept = {word for text in retain for word in words(text)}
    return frozenset(word for text in forget for word in words(text) if word not in kept)


def guarded(
    answers: Mapping[str, Answers], sets: Sequence[EvaluationSet], refusal: str
) -> dict[str, Answers]:
    """What the original says behind a filter: refusals to questions that hold a keyword.

    Args:
        answers: of the original, by set.
        sets: what was asked.
        refusal: what the filter says.
    """
    asked = {one.name: one.texts.prompts for one in sets}
    # passages of a novel have no prompt: the words of the questions on it, then
    others = [text for one in sets if one.side == "forget" for text in one.texts.prompts]
    forget = asked["forget"] if any(asked["forget"]) else others
    kept = [text for one in sets if one.side == "retain" for text in one.texts.prompts]
    known = keywords(forget, kept)
    found = {}
    for name, mine in answers.items():
        said = mine.generations
        if said is not None:
            hit = [not known.isdisjoint(words(text)) for text in asked[name]]
            said = tuple(refusal if stop else text for stop, text in zip(hit, said, strict=True))
        found[name] = replace(mine, generations=said)
    return found


# Of the harmonic mean, as TOFU's model utility has it.
UTILITY: tuple[ExampleMetric, ...] = (probability, rouge_recall, truth_ratio_true_better)


# Questions whose answers are shown word for word.
SAMPLES = {
    "forget": 4, "forget_paraphrase": 2, "verbatim": 2, "knowledge": 2, "retain": 2,
    "retain_verbatim": 1, "retain_knowledge": 1, "world": 1,
}  # fmt: skip


# Recorded answers that a process keeps: those of oracles and originals are part of every row.
KEPT = 64


def score(plan: Plan, store: Store, setting: LanguageSetting, method: Method) -> LanguageScores:
    """Return every number of a method's row; that of `nothing` holds the control `filter` too."""
    seeds = plan.experiment.seeds
    subjects = [plan.unlearned(method, seed) for seed in seeds]

    def models(jobs: Sequence[Job]) -> list[RecordedAnswers]:
        own = {job.key: plan.evidence(job) for job in jobs}
        return [_recorded(store, evidence, setting) for evidence in own.values()]

    oracles = models([plan.oracle(seed) for seed in seeds])
    row = MetricRow(setting.asked, models(subjects), oracles, models(originals(plan)))
    seed, behind = plan.experiment.seed, None
    if not method.steps:
        refusing = [
            RecordedAnswers(guarded(one.answers, row.sets, REFUSAL)) for one in row.original
        ]
        behind = judged(replace(row, subject=refusing), setting.known, seed)
    return replace(
        judged(row, setting.known, seed),
        cost=cost(plan, store, method, subjects),
        trace=path(row, [store.about(job).get("trace", []) for job in subjects]),
        filter=behind,
    )


@lru_cache(maxsize=KEPT)
def _recorded(store: Store, evidence: Job, setting: LanguageSetting) -> RecordedAnswers:
    return RecordedAnswers(read_answers(store, evidence, setting.asked))


def judged(row: MetricRow, known: Sequence[str], seed: int) -> LanguageScores:
    """Return all numbers of some models, next to both anchors; cost and trace are not known here.

    Args:
        row: the models.
        known: texts whose words are no gibberish.
        seed: of the experiment.
    """
    refuse_guesses(row)
    gauges, names = row.gauges(), {asked.name: asked for asked in row.sets}
    widths = {gauge.set: gauge.subject.shape[1] for gauge in gauges}
    if "holdout" in names:
        groups = names["holdout"].groups
        widths["holdout"] = len(set(groups)) if groups else len(names["holdout"].items)
    counts = (len(row.subject), len(row.oracle), len(row.original))
    draws = Draws.of(widths, counts, np.random.default_rng(derived("score", seed, "texts")))
    ratios = names["forget"].paraphrased and names["forget"].wrong
    return LanguageScores(
        distance=distance(gauges, draws),
        scores={gauge.name: scored(gauge, draws) for gauge in gauges},
        utility=utility(row),
        collapse=collapses(row, known),
        samples=samples(row),
        forget_quality=quality(row) if ratios else None,
        membership=membership(row, draws) if "holdout" in names else {},
    )


def refuse_guesses(row: MetricRow) -> None:
    """Refuse to judge who forgot the answers to questions that the original only guesses.

    Raises:
        BadEvidence: the original's share of right options is not surely above chance.
    """
    for asked in row.sets:
        if asked.side != "forget" or not asked.choices or asked.wrong is None:
            continue
        hits = np.mean([one.values(right_option, asked.name) for one in row.original], axis=0)
        chance = float(np.mean(1 / (1 + asked.wrong.counts)))
        # as many questions as there are, however many originals answered them
        known = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
        if known.low <= chance:
            raise BadEvidence(
                f"The original picks the right option in {hits.mean():.0%} of {len(hits)} "
                f"questions to be forgotten, and guessing in {chance:.0%}: it does not know what "
                "is to go, so that nothing can be ranked. Take a model that knows it, or a recipe "
                "that teaches it."
            )


def scored(gauge: Gauge, draws: Draws) -> GaugeScore:
    """Return a gauge of the row and of both anchors, each with its interval, and the gap."""

    def interval(value: float, drawn: np.ndarray, models: int) -> Score:
        low, high = limits(drawn, float(value))
        return Score(float(value), low, high, models, gauge.metric.unit)

    sides = {name: getattr(gauge, name) for name in ("subject", "oracle", "original")}
    drawn = {name: draws.means(table, gauge.set, name) for name, table in sides.items()}
    mine, oracle, original = (
        interval(table.mean(), drawn[name], len(table)) for name, table in sides.items()
    )
    gap, whole = mine.value - oracle.value, original.value - oracle.value
    return GaugeScore(
        metric=gauge.metric.name,
        set=gauge.set,
        side=gauge.side,
        **asdict(mine),
        oracle=oracle,
        original=original,
        gap=interval(gap, drawn["subject"] - drawn["oracle"], len(gauge.subject)),
        remaining=gap / whole if gauge.side == "forget" and gauge.counts else None,
    )


def quality(row: MetricRow) -> PairedForgetQuality:
    """Return TOFU's forget quality of each pair of models."""
    # one for each oracle: a single original stands for all members
    subjects = (list(row.subject) * len(row.oracle))[: len(row.oracle)]
    pairs = [
        forget_quality(mine.answers["forget"], theirs.answers["forget"])
        for mine, theirs in zip(subjects, row.oracle, strict=True)
    ]
    gaps = [pair.d for pair in pairs]
    legacy = float(np.median([pair.legacy_p for pair in pairs]))
    return PairedForgetQuality(float(np.mean(gaps)), min(gaps), max(gaps), legacy, len(pairs))


def utility(row: MetricRow) -> RetainUtility:
    """Return the harmonic mean of probability, ROUGE-L and truth ratio over all sets kept."""
    kept = [asked.name for asked in row.sets if asked.side == "retain"]

    def of(one: RecordedAnswers) -> float:
        return harmonic_mean(
            [
                float(one.values(metric, name).mean())
                for name in kept
                for metric in UTILITY
                if one.recorded(metric, name)
            ]
        )

    mine, theirs = [of(one) for one in row.subject], [of(one) for one in row.oracle]
    value, oracle = float(np.mean(mine)), float(np.mean(theirs))
    return RetainUtility(value, oracle, value - oracle, mine)


def collapses(row: MetricRow, known: Sequence[str]) -> dict[str, BrokenAnswers]:
    """Return the broken generations of each side, as the oracle hardly writes them."""
    found = {}
    for side in ("forget", "retain"):
        names = [asked.name for asked in row.sets if asked.side == side and asked.written]
        if names:
            mine, theirs = (_said(models, names) for models in (row.subject, row.oracle))
            found[side] = broken(mine, theirs, known)
    return found


def broken(mine: Sequence[str], theirs: Sequence[str], known: Sequence[str]) -> BrokenAnswers:
    """Return how many generations are blank, repetitive or gibberish; refusals are not."""
    rest = [text for text in mine if text != REFUSAL]
    refused = 1 - len(rest) / len(mine)
    if not rest:
        return BrokenAnswers(refused, 0.0, 0.0, 0.0, 0.0, {}, False, (), 0)
    found = collapse(rest, theirs, known)
    share, worst = found.share, [rest[place] for place in found.worst[:3]]
    return BrokenAnswers(
        refused, share.value, share.low, share.high, found.oracle, dict(found.reasons),
        found.collapsed, worst, len(rest),
    )  # fmt: skip


def _said(models: Sequence[RecordedAnswers], names: Sequence[str]) -> list[str]:
    return [
        text for one in models for name in names for text in one.answers[name].generations or ()
    ]


def samples(row: MetricRow) -> list[dict[str, Any]]:
    """Return a few questions with the first model's answers, the oracle's and the original's."""
    found = []
    for asked in row.sets:
        if not asked.written or asked.name not in SAMPLES:
            continue
        places = np.linspace(0, len(asked.items) - 1, SAMPLES[asked.name]).round().astype(int)
        for place in map(int, dict.fromkeys(places)):
            first = (row.subject[0], row.oracle[0], row.original[0])
            said = [(one.answers[asked.name].generations or ())[place] for one in first]
            found.append(
                {
                    "set": asked.name,
                    "question": asked.items[place].prompt,
                    "answer": asked.items[place].answer,
                    **dict(zip(("said", "oracle", "original"), said, strict=True)),
                }
            )
    return found
