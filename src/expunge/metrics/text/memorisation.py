"""What leaks when a model is sampled many times, where greedy decoding shows nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from expunge.core.evidence import Answers, Floats
from expunge.core.scripts import words_of
from expunge.errors import BadEvidence, ExpungeError, Unsupported
from expunge.metrics.agreement import Score
from expunge.metrics.text.measure import mean_score, per_example
from expunge.statistics.counts import dkw_band, upper_limit
from expunge.statistics.result import Interval, check_fraction, finite_array


def best_of(scores: ArrayLike, k: int) -> Floats:
    """Return the expected best score of k samples for each prompt, float64 [prompt]; unbiased.

    The mean over all subsets of k of the n samples, not the best of the first k. With hits of 0
    and 1 it is pass@k.

    Args:
        scores: float [prompt, sample], such as ROUGE-L of each sample with the truth.
        k: samples that an attacker draws, at most n.

    Raises:
        ExpungeError: k below 1 or above n.
        BadEvidence: not [prompt, sample], or scores that are not finite.

    Source: Reisizadeh et al., Leak@k (2511.04934); Chen et al. (2107.03374), equation 1.
    """
    rising = np.sort(finite_array("scores", scores, axes=(2,)), axis=1)
    n = rising.shape[1]
    if not 1 <= k <= n:
        raise ExpungeError(f"Got k={k!r} of {n} samples; expected 1 to {n}.")
    # The i-th smallest is the best of C(i - 1, k - 1) of the C(n, k) subsets.
    ranks = np.arange(k, n + 1)
    found: Floats = rising[:, k - 1 :] @ np.exp(_log_choose(ranks - 1, k - 1) - _log_choose(n, k))
    return found


def leak_at_k(scores: ArrayLike, ks: Sequence[int], rng: np.random.Generator) -> dict[int, Score]:
    """Return leak@k for several k: the mean over prompts, with its interval over prompts.

    A leak grows with k for every model that can say anything; compare with the retrained one's.

    Args:
        scores: float [prompt, sample] in [0, 1].
        ks: how many samples an attacker draws.
        rng: draws for the intervals.

    Raises:
        BadEvidence: fewer than 3 prompts, scores outside [0, 1], or as for `best_of`.
    """
    found = _shares(scores)
    return {
        k: mean_score(best_of(found, k)[None], rng, unit="score", bounds=(0.0, 1.0)) for k in ks
    }


def leak_limit(scores: ArrayLike, threshold: float, alpha: float = 0.05) -> Floats:
    """Return what the chance of a leak is at most, for each prompt, float64 [prompt].

    A sample leaks where its score is above the threshold. Exact for independent samples, each
    prompt by itself; for all prompts at once give alpha divided by their number.

    Args:
        scores: float [prompt, sample].
        threshold: above which a sample leaks.
        alpha: the chance that a limit is too low.

    Raises:
        BadEvidence, ExpungeError: as for `best_of` and `upper_limit`.

    Source: Scholten et al. (2410.03523), binary leakage; Clopper and Pearson (1934).
    """
    found = finite_array("scores", scores, axes=(2,))
    return upper_limit((found > threshold).sum(axis=1), found.shape[1], alpha)


def mean_leak_limit(scores: ArrayLike, alpha: float = 0.05) -> Interval:
    """Return the mean score of one prompt's samples with an interval that needs no normality.

    The area above a band around the distribution function; for scores in [0, 1].

    Args:
        scores: float [sample] in [0, 1], independent.
        alpha: the chance that the mean lies outside.

    Raises:
        BadEvidence: scores outside [0, 1] or not [sample].

    Source: Scholten et al. (2410.03523), general leakage; Anderson (1969); Massart (1990).
    """
    band = dkw_band(_shares(scores, axes=(1,)), alpha)
    # E[X] is the integral of 1 - F over [0, 1]; F is flat between the sorted scores.
    widths = np.diff(np.concatenate([[0.0], band.at, [1.0]]))

    def area(edge: Floats, first: float) -> float:
        return float((widths * (1 - np.concatenate([[first], edge]))).sum())

    # Below the smallest score the band reaches from 0 up to its half width.
    half = math.sqrt(math.log(2 / alpha) / (2 * len(band.at)))
    value = area(band.value, 0.0)
    return Interval(value, area(band.high, min(half, 1.0)), area(band.low, 0.0), alpha,
                    len(band.at))  # fmt: skip


def score_quantile_limit(scores: ArrayLike, share: float, alpha: float = 0.05) -> float:
    """Return a level that at least this share of samples stays below, but for alpha: 1 if unknown.

    Args:
        scores: float [sample] in [0, 1], independent.
        share: of samples, such as 0.99.
        alpha: the chance that more samples are above the level than 1 - share.

    Raises:
        BadEvidence, ExpungeError: as for `mean_leak_limit`, a share outside (0, 1).

    Source: Dvoretzky, Kiefer and Wolfowitz (1956); Massart (1990).
    """
    check_fraction("share", share)
    band = dkw_band(_shares(scores, axes=(1,)), alpha)
    above = np.flatnonzero(band.low >= share)
    return float(band.at[above[0]]) if len(above) else 1.0


def _shares(scores: ArrayLike, axes: tuple[int, ...] = (2,)) -> Floats:
    """Scores in [0, 1], on which all bounds rest."""
    found = finite_array("scores", scores, axes=axes)
    if found.min() < 0 or found.max() > 1:
        raise BadEvidence(
            f"Got scores from {found.min():g} to {found.max():g}; expected 0 to 1, as ROUGE gives."
        )
    return found


def _log_choose(n: int | np.ndarray, k: int) -> Floats:
    """Log of the number of ways to choose k of n."""
    found: Floats = gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(np.asarray(n) - k + 1)
    return found


Part = Literal["recall", "precision", "fmeasure"]

UNIT = (0.0, 1.0)

# Where a few-shot answer ends and the model begins to ask its own questions.
ENDS = ("\n\n", "\nQuestion", "Question:")


@per_example(unit="share of tokens", aim="oracle", needs=("hits",), bounds=UNIT)
def exact_memorisation(answers: Answers) -> Floats:
    """Share of the answer's tokens that are the argmax, each after the true tokens before it.

    All tokens count. open-unlearning drops the last one "to ignore EOS", also where there is none.

    Source: Tirumala et al. (2205.10770); open-unlearning@d3d7cf9, exact_memorization.
    """
    return answers.tokens("hits").means()


@per_example(unit="share of tokens", aim="oracle", needs=("hits",), bounds=UNIT)
def extraction_strength(answers: Answers) -> Floats:
    """Share of the answer that comes back by itself: 1 - k/n, k the shortest prefix that does it.

    The suffix behind the first k tokens is right throughout, teacher-forced, which is greedy
    decoding. Nothing right at the end: 0, where open-unlearning's loop stops one early and says
    1/n, the more the shorter the answer.

    Source: Carlini et al. (2012.07805); Wang et al. (2406.09179); open-unlearning@d3d7cf9.
    """
    rows = answers.tokens("hits")
    return np.array([_run_at_the_end(row) / len(row) for row in rows.rows()], dtype=np.float64)


@per_example(unit="ROUGE-L recall", aim="oracle", needs=("generations", "references"), bounds=UNIT)
def rouge_recall(answers: Answers) -> Floats:
    """Longest common subsequence of words, as a share of the true answer's words; stemmed.

    Source: Lin (2004), ROUGE-L; TOFU (2401.06121); rouge-score, use_stemmer=True.
    """
    return rouge_l(*answers.texts(), part="recall", stemmed=True)


@per_example(unit="ROUGE-L F1", aim="oracle", needs=("generations", "references"), bounds=UNIT)
def rouge_f(answers: Answers) -> Floats:
    """Longest common subsequence of words: harmonic mean of recall and precision; stemmed.

    Source: as `rouge_recall`; open-unlearning@d3d7cf9 names it rougeL_f1.
    """
    return rouge_l(*answers.texts(), part="fmeasure", stemmed=True)


@per_example(unit="ROUGE-L F1", aim="oracle", needs=("generations", "references"), bounds=UNIT)
def verbatim_memorisation(answers: Answers) -> Floats:
    """ROUGE-L F1 of a greedy continuation of a passage with the passage itself; not stemmed.

    The authors generate 128 tokens and cut the true passage to as many; record both so.

    Source: Shi et al., MUSE (2407.06460); swj0419/muse_bench@fcd6651, verbmem.py.
    """
    return rouge_l(*answers.texts(), part="fmeasure", stemmed=False)


@per_example(unit="ROUGE-L F1", aim="oracle", needs=("generations", "references"), bounds=UNIT)
def knowledge_memorisation(answers: Answers) -> Floats:
    """ROUGE-L F1 of a few-shot answer, cut where the model begins a new question; not stemmed.

    The authors generate 32 tokens.

    Source: Shi et al., MUSE (2407.06460); swj0419/muse_bench@fcd6651, knowmem.py.
    """
    generations, references = answers.texts()
    short = tuple(cut(one) for one in generations)
    return rouge_l(short, references, part="fmeasure", stemmed=False)


def rouge_l(
    generations: tuple[str, ...], references: tuple[str, ...], *, part: Part, stemmed: bool
) -> Floats:
    """Return ROUGE-L of each pair of texts, float64 [example].

    Args:
        generations: what was written; may be empty, and then scores 0.
        references: what is true; none without a word.
        part: recall, precision or their harmonic mean.
        stemmed: whether endings are cut off before words are compared (Porter's stemmer).

    Raises:
        BadEvidence: other numbers of texts, or a reference without a letter or digit.
        Unsupported: the package rouge-score is not installed.

    Source: Lin (2004); the package rouge-score, whose words are runs of a-z and 0-9. Words with
    other letters are whole words here; there those letters fall out of them.
    """
    if len(generations) != len(references):
        raise BadEvidence(f"Got {len(generations)} texts for {len(references)} references.")
    scorer = _scorer(stemmed)
    for place, one in enumerate(references):
        if not words_of(one):
            raise BadEvidence(
                f"Reference {place}, {one[:40]!r}, has no letter and no digit, and ROUGE compares "
                "words; leave it out or use probability metrics."
            )
    found = [
        getattr(scorer.score(right, said)["rougeL"], part)
        for said, right in zip(generations, references, strict=True)
    ]
    return np.array(found, dtype=np.float64)


@cache
def _scorer(stemmed: bool) -> Any:
    """The package's scorer; made once, since it builds a stemmer."""
    try:
        from rouge_score import rouge_scorer, tokenizers
    except ImportError:
        raise Unsupported(
            "ROUGE needs the package rouge-score: pip install 'expunge[lm]'."
        ) from None

    class AnyScript(tokenizers.Tokenizer):  # type: ignore[misc]
        """The package's own words of English, and whole words where there are other letters."""

        own = tokenizers.DefaultTokenizer(stemmed)

        def tokenize(self, text: str) -> list[str]:
            each = (self.own.tokenize(one) if one.isascii() else [one] for one in words_of(text))
            return [word for found in each for word in found]

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=AnyScript())


def cut(text: str, ends: tuple[str, ...] = ENDS) -> str:
    """Return the text before the first sign that another question begins."""
    for end in ends:
        text = text.split(end)[0]
    return text


def _run_at_the_end(hits: Floats) -> int:
    """Return how many hits lie in a row at the end."""
    misses = np.flatnonzero(hits == 0)
    return len(hits) - 1 - int(misses[-1]) if len(misses) else len(hits)
