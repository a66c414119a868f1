"""Multiple-choice accuracy from the log-probabilities of the options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from expunge.core.evidence import Answers, Floats, Nested, Ragged
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.agreement import Score
from expunge.metrics.text.measure import mean_score, per_example

Weighing = Literal["sum", "token", "byte"]


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Accuracy with its anchor from below.

    Args:
        score: share of questions, with its interval over them.
        chance: what guessing gives: the mean of 1 / options.
    """

    score: Score
    chance: float


def choice_scores(
    options: Nested, weighing: Weighing = "sum", texts: Sequence[Sequence[str]] | None = None
) -> Ragged:
    """Return one score an option, [question][option], in a published form by name.

    Args:
        options: [question][option][token], log p of each option's tokens; of its letter alone
            where letters are asked for, and then all weighings agree.
        weighing: "sum" of log p (lm-evaluation-harness: acc), the mean per "token", or the sum
            over the option's "byte"s (acc_norm), which no tokenizer changes.
        texts: [question][option], the options; needed for "byte".

    Raises:
        ExpungeError: a weighing that is not known.
        BadEvidence: texts that are missing or do not fit.

    Source: Gao et al., lm-evaluation-harness, task_guide.md (acc and acc_norm).
    """
    sums = options.tokens.sums()
    if weighing == "sum":
        return Ragged(sums, options.counts)
    if weighing == "token":
        return options.means()
    if weighing != "byte":
        raise ExpungeError(f"Got weighing={weighing!r}; expected 'sum', 'token' or 'byte'.")
    if texts is None or [len(one) for one in texts] != options.counts.tolist():
        raise BadEvidence("Weighing by bytes needs the text of every option of every question.")
    sizes = np.array([len(text.encode()) for one in texts for text in one], dtype=np.float64)
    if (sizes == 0).any():
        raise BadEvidence("Some options are empty texts; leave those questions out.")
    return Ragged(sums / sizes, options.counts)


def choice_hits(scores: Ragged, right: NDArray[np.int64]) -> Floats:
    """Return how often the highest-scored option is right, float64 [question].

    Options that tie share the hit: a model that says the same to everything is at chance, not at
    the share of questions whose first option happens to be right.

    Args:
        scores: [question][option].
        right: int64 [question], the right option, counted from 0.

    Raises:
        BadEvidence: other numbers of questions, or a right option that does not exist.
    """
    if len(right) != len(scores) or (right < 0).any() or (right >= scores.lengths).any():
        raise BadEvidence(
            f"Got {len(right)} right options for {len(scores)} questions; expected one each, "
            "counted from 0, below the number of options."
        )
    best = np.repeat(np.maximum.reduceat(scores.flat, scores.starts), scores.lengths)
    tied = Ragged((scores.flat == best).astype(np.float64), scores.lengths)
    return tied.flat[tied.starts + right] / tied.sums()


@per_example(
    unit="share of questions", aim="oracle", needs=("logprobs", "wrong"), bounds=(0.0, 1.0)
)
def right_option(answers: Answers) -> Floats:
    """1 where the right option is the likeliest of all by its sum of log p; ties share the hit.

    Source: Gao et al., lm-evaluation-harness, task_guide.md (acc).
    """
    wrong = answers.wrong
    assert wrong is not None
    right, others = answers.tokens("logprobs").sums(), Ragged(wrong.tokens.sums(), wrong.counts)
    rows = [[mine, *theirs] for mine, theirs in zip(right, others.rows(), strict=True)]
    return choice_hits(Ragged.of(rows), np.zeros(len(rows), dtype=np.int64))


def choice_accuracy(
    scores: Ragged, right: NDArray[np.int64], rng: np.random.Generator
) -> ChoiceAccuracy:
    """Return multiple-choice accuracy next to chance.

    Args:
        scores: [question][option], from `choice_scores`.
        right: int64 [question].
        rng: draws for the interval.

    Raises:
        BadEvidence: fewer than 3 questions, or as for `choice_hits`.
    """
    hits = choice_hits(scores, right)
    score = mean_score(hits[None], rng, unit="share of questions", bounds=(0.0, 1.0))
    return ChoiceAccuracy(score, float((1 / scores.lengths).mean()))


Form = Literal["geometric", "arithmetic"]

UNIT = (0.0, 1.0)


@per_example(unit="probability", aim="oracle", needs=("logprobs",), bounds=UNIT)
def probability(answers: Answers) -> Floats:
    """Probability of the true answer, length-normalised: exp of the mean log p of its tokens.

    Source: Maini et al., TOFU (2401.06121), P(a|q)^(1/|a|); locuslab/
    open-unlearning@d3d7cf9, evals/metrics/memorization.py.
    """
    return np.exp(answers.tokens("logprobs").means())


@per_example(unit="probability", aim="oracle", needs=("paraphrased",), bounds=UNIT)
def paraphrased_probability(answers: Answers) -> Floats:
    """Probability of a paraphrase of the answer, length-normalised; the mean over paraphrases.

    Source: as `probability`, on TOFU's paraphrased answers.
    """
    rows = answers.several("paraphrased")
    return Ragged(np.exp(rows.flat), rows.lengths).means()


@per_example(unit="probability", aim="oracle", needs=("logprobs", "wrong"), bounds=UNIT)
def option_probability(answers: Answers) -> Floats:
    """Share of the true answer in the probability of it and of all wrong answers together.

    Source: Maini et al., TOFU (2401.06121), real authors and world facts.
    """
    return option_share(answers.tokens("logprobs").means(), answers.several("wrong"))


@per_example(unit="ratio", aim="oracle", needs=("paraphrased", "wrong"), bounds=UNIT)
def truth_ratio_closer_to_1(answers: Answers) -> Floats:
    """min(R, 1/R): 1 where wrong answers are as likely as the paraphrased right one.

    R is geometric (`wrong_over_right`); on the forget set. No epsilon in a denominator: R is
    computed from logarithms, so that a collapsed model's ratio is its own.

    Source: open-unlearning@d3d7cf9, truth_ratio, aggregator closer_to_1_better.
    """
    return closer_to_1(log_ratio(answers))


@per_example(unit="ratio", aim="high", needs=("wrong",), bounds=UNIT)
def truth_ratio_true_better(answers: Answers) -> Floats:
    """max(0, 1 - R): 1 where wrong answers are impossible; on sets that must be known.

    R is geometric. Where there is no paraphrase, as for real authors, the answer is used.

    Source: open-unlearning@d3d7cf9, truth_ratio, aggregator true_better.
    """
    return true_better(log_ratio(answers))


@per_example(unit="probability", aim="oracle", needs=("wrong",), bounds=UNIT)
def truth_ratio_prob_mean(answers: Answers) -> Floats:
    """1 / (1 + R) = right / (right + wrong), R geometric: above 0.5 where truth is likelier.

    Source: open-unlearning@d3d7cf9, truth_ratio, aggregator prob_mean (pull request 163).
    """
    return prob_mean(log_ratio(answers))


def truth_ratio(answers: Answers, form: Form = "geometric") -> Floats:
    """Return R = wrong / right of each example, the raw ratio that forget quality compares.

    Two published forms: "arithmetic", of TOFU's equation, is the mean of the wrong answers'
    probabilities; "geometric", of TOFU's logs and of open-unlearning, takes exp of their mean log.
    TOFU's script inverts the geometric one (right / wrong): KS does not see an inversion, and does
    see which mean was taken.

    Args:
        answers: with `wrong`, and `paraphrased` (else `logprobs` is used).
        form: which mean over wrong answers.

    Source: Maini et al., TOFU (2401.06121), truth ratio; locuslab/tofu@bdc209e, evaluate_util.py
    (geometric), utils.py (arithmetic), aggregate_eval_stat.py (geometric, inverted).
    """
    return np.exp(log_ratio(answers, form))


def log_ratio(answers: Answers, form: Form = "geometric") -> Floats:
    """Return log R of each example: the log of `truth_ratio`, without overflow.

    Raises:
        BadEvidence: wrong answers were not recorded, nor any right one.
    """
    wrong = answers.several("wrong")
    if answers.paraphrased is None:
        right = answers.tokens("logprobs").means()
    else:
        # Several paraphrases: the geometric mean, as for wrong answers.
        right = answers.several("paraphrased").means()
    return wrong_over_right(right, wrong, form)


def wrong_over_right(right: Floats, wrong: Ragged, form: Form = "geometric") -> Floats:
    """Return log R from mean log-probabilities, as per-item logs publish them.

    Args:
        right: float64 [example], mean log p per token of the (paraphrased) right answer, nats.
        wrong: [example][k], the same of each wrong answer.
        form: "geometric" or "arithmetic" mean over the wrong answers.

    Raises:
        BadEvidence: other numbers of examples on the two sides.
        ExpungeError: a form that is not known.
    """
    if len(right) != len(wrong):
        raise BadEvidence(f"Got {len(right)} right and {len(wrong)} wrong; expected as many.")
    if form == "geometric":
        return wrong.means() - right
    if form == "arithmetic":
        return log_sum_exp(wrong) - np.log(wrong.lengths) - right
    raise ExpungeError(f"Got form={form!r}; expected 'geometric' or 'arithmetic'.")


def closer_to_1(log_ratios: Floats) -> Floats:
    """Return min(R, 1/R) from log R."""
    return np.exp(-np.abs(log_ratios))


def true_better(log_ratios: Floats) -> Floats:
    """Return max(0, 1 - R) from log R."""
    return -np.expm1(np.minimum(log_ratios, 0.0))


def prob_mean(log_ratios: Floats) -> Floats:
    """Return 1 / (1 + R) from log R."""
    return np.exp(-np.logaddexp(0.0, log_ratios))


def option_share(right: Floats, wrong: Ragged) -> Floats:
    """Return p(right) / (p(right) + sum of p(wrong)) from mean log-probabilities.

    Args:
        right: float64 [example], mean log p per token, nats.
        wrong: [example][k], the same of each wrong answer.
    """
    if len(right) != len(wrong):
        raise BadEvidence(f"Got {len(right)} right and {len(wrong)} wrong; expected as many.")
    return np.exp(-np.logaddexp(0.0, log_sum_exp(wrong) - right))


def log_sum_exp(rows: Ragged) -> Floats:
    """Return log of the sum of exp of each row, without overflow."""
    tops = np.maximum.reduceat(rows.flat, rows.starts) if len(rows) else np.empty(0)
    scaled = np.exp(rows.flat - np.repeat(tops, rows.lengths))
    return np.log(Ragged(scaled, rows.lengths).sums()) + tops


def perplexity(answers: Answers) -> float:
    """Return exp of the mean loss over all tokens of a set: a rough gauge of general language.

    Every token weighs the same, so the number does not change with batches or padding.

    Source: Jelinek et al. (1977).
    """
    tokens = answers.tokens("logprobs")
    return math.exp(-float(tokens.flat.sum()) / int(tokens.lengths.sum()))
