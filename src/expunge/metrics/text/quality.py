"""Metrics of language models: pure functions of recorded log-probabilities and texts, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.evidence import Answers, Floats, aligned
from expunge.errors import BadEvidence
from expunge.metrics.agreement import Score
from expunge.metrics.text.fluency import blanks, distinct_pairs, repetition
from expunge.metrics.text.likelihood import (
    Form,
    log_ratio,
    option_probability,
    paraphrased_probability,
    probability,
    right_option,
    true_better,
    truth_ratio_closer_to_1,
    truth_ratio_prob_mean,
    truth_ratio_true_better,
)
from expunge.metrics.text.measure import ExampleMetric, need_oracle, over_rows
from expunge.metrics.text.memorisation import (
    exact_memorisation,
    extraction_strength,
    knowledge_memorisation,
    rouge_f,
    rouge_recall,
    verbatim_memorisation,
)
from expunge.statistics.counts import compare_distributions
from expunge.statistics.result import Effect, finite_array

# A gap of this size between two distribution functions is taken to matter by default.
MARGIN = 0.2

PARTS = ("retain", "real_authors", "world_facts")


@dataclass(frozen=True)
class ForgetQuality:
    """How far apart the truth ratios of unlearned and retrained model are.

    Args:
        effect: D, the largest gap between the two distribution functions, 0 best, with its
            interval and tests; it does not grow with the number of examples.
    """

    effect: Effect

    @property
    def d(self) -> float:
        """Return D, to be read first: 0 as the oracle, 1 nothing in common."""
        return self.effect.value

    @property
    def legacy_p(self) -> float:
        """Return TOFU's "forget quality": the p-value of D, which falls as examples are added.

        Not comparable between forget01, 05 and 10 (40, 200 and 400 questions), and a large one
        says only that nothing was found. Print it next to D, never alone.
        """
        return self.effect.p


def forget_quality(
    subject: Answers, oracle: Answers | None, *, form: Form = "geometric",
    margin: float = MARGIN, alpha: float = 0.05,
) -> ForgetQuality:  # fmt: skip
    """Compare the truth ratios of one unlearned and one retrained model, on the same examples.

    Args:
        subject, oracle: answers on the forget set, with `wrong` and `paraphrased`.
        form: of the truth ratio; KS sees the difference.
        margin, alpha: as for `compare_distributions`.

    Raises:
        BadEvidence: no oracle, models asked about other examples, or nothing recorded.

    Source: Maini et al., TOFU (2401.06121), forget quality; the two-sample test of Smirnov (1939).
    """
    held = aligned(subject, need_oracle(oracle, "forget quality")[0])
    # Logarithms keep the order of the ratios, so D and p are those of the ratios themselves.
    first, second = log_ratio(subject, form), log_ratio(held, form)
    effect = compare_distributions(first, second, margin=margin, alpha=alpha, name="forget quality")
    return ForgetQuality(effect)


def harmonic_mean(parts: ArrayLike) -> float:
    """Return the harmonic mean of numbers that are not negative: 0 where one of them is 0.

    Raises:
        BadEvidence: a negative number, NaN, or none at all.
    """
    found = finite_array("parts", parts)
    if (found < 0).any():
        raise BadEvidence(f"Got {found.min()!r} for a harmonic mean; expected 0 or more.")
    return 0.0 if (found == 0).any() else float(len(found) / (1 / found).sum())


@dataclass(frozen=True)
class ModelUtility:
    """TOFU's model utility and the nine numbers that it is made of.

    Args:
        score: the harmonic mean with its interval over examples; questions of each set are drawn
            apart, the three numbers of one question together.
        parts: "retain probability" and so on -> mean over examples.
    """

    score: Score
    parts: Mapping[str, float]


def model_utility(
    retain: Answers, real_authors: Answers, world_facts: Answers, rng: np.random.Generator
) -> ModelUtility:
    """Return the harmonic mean of probability, ROUGE-L recall and truth ratio on three sets.

    Args:
        retain: with `logprobs`, `wrong`, `paraphrased`, `generations`, `references`.
        real_authors, world_facts: without `paraphrased`; their probability is a share of options.
        rng: draws for the interval.

    Raises:
        BadEvidence: something was not recorded, or a set has fewer than 3 examples.

    Source: Maini et al., TOFU (2401.06121), model utility; locuslab/tofu@bdc209e,
    aggregate_eval_stat.py; aim: as high as the retrained model's.
    """
    tables = [
        np.column_stack([chance(one), rouge_recall(one), true_better(log_ratio(one))])
        for chance, one in (
            (probability, retain),
            (option_probability, real_authors),
            (option_probability, world_facts),
        )
    ]
    return utility_of(tables, rng)


def utility_of(tables: list[Floats], rng: np.random.Generator) -> ModelUtility:
    """Return model utility from recorded numbers.

    Args:
        tables: float64 [example, 3] for retain, real authors and world facts: probability,
            ROUGE-L recall, max(0, 1 - R).
        rng: draws for the interval.

    Raises:
        BadEvidence: not three tables of three columns, or as for `harmonic_mean`.
    """
    if [one.shape[1:] for one in tables] != [(3,)] * 3:
        raise BadEvidence(
            f"Got tables of {[one.shape for one in tables]}; expected [example, 3] for each of "
            f"{', '.join(PARTS)}."
        )
    columns = ("probability", "ROUGE-L recall", "truth ratio")
    parts = {
        f"{name.replace('_', ' ')} {column}": float(table[:, place].mean())
        for name, table in zip(PARTS, tables, strict=True)
        for place, column in enumerate(columns)
    }
    statistic: Callable[..., float] = lambda *drawn: harmonic_mean(  # noqa: E731
        [one.mean(axis=0)[place] for one in drawn for place in range(3)]
    )
    score = over_rows(statistic, tables, rng, unit="harmonic mean of nine", bounds=(0.0, 1.0))
    return ModelUtility(score, MappingProxyType(parts))


# Every metric that is a mean over examples; the report prints those whose fields were recorded.
EXAMPLE_METRICS: tuple[ExampleMetric, ...] = (
    probability, paraphrased_probability, option_probability, truth_ratio_closer_to_1,
    truth_ratio_true_better, truth_ratio_prob_mean, rouge_recall, rouge_f, exact_memorisation,
    extraction_strength, verbatim_memorisation, knowledge_memorisation, distinct_pairs, blanks,
    repetition, right_option,
)  # fmt: skip
