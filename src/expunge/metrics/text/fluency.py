"""Collapse shown as collapse: gibberish, blanks and repetition are not forgetting.

Simple statistics of written text that anyone can recount by eye. What counts as broken is what the
retrained model's own generations hardly ever do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from expunge.core.evidence import Answers, Floats
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.agreement import lost_half
from expunge.metrics.text.measure import per_example
from expunge.statistics.counts import clopper_pearson
from expunge.statistics.result import Interval

# Letters and digits of any script; every other sign that is no blank is a word of its own.
WORDS = re.compile(r"\w+|[^\w\s]")

UNIT = (0.0, 1.0)

# The share of the oracle's own generations that may be called broken, each statistic by itself.
RARE = 0.01


def words(text: str) -> list[str]:
    """Return the words and signs of a text, in lower case."""
    return WORDS.findall(text.lower())


def distinct_share(text: str, n: int = 2) -> float:
    """Return the share of runs of n words that differ from all others (distinct-n); 0 if none.

    A text of fewer than n words but at least one says nothing twice: 1.

    Source: Li et al. (1510.03055), distinct-1 and distinct-2.
    """
    found = words(text)
    runs = [tuple(found[at : at + n]) for at in range(len(found) - n + 1)]
    return len(set(runs)) / len(runs) if runs else float(bool(found))


def blank_share(text: str) -> float:
    """Return the share of white space among the characters; 1 for an empty text.

    Invisible and control characters count as blanks: nobody can read them.
    """
    seen = sum(letter.isprintable() and not letter.isspace() for letter in text)
    return 1 - seen / len(text) if text else 1.0


def longest_repeat(text: str) -> float:
    """Return the share of words in the longest stretch that says one phrase again and again.

    A phrase is 1 to 8 words long, and its first time does not count: "no no no no" gives 3/4, a
    text that repeats nothing back to back gives 0.
    """
    found = words(text)
    longest = 0
    for period in range(1, min(8, len(found) - 1) + 1):
        run = 0
        for at in range(period, len(found)):
            run = run + 1 if found[at] == found[at - period] else 0
            # A chance echo of part of a phrase is no repetition: the whole of it must recur.
            longest = max(longest, run if run >= period else 0)
    return longest / len(found) if found else 0.0


def unknown_share(text: str, known: frozenset[str]) -> float:
    """Return the share of words that are not in a vocabulary; 0 for a text without words.

    Args:
        text: what was written.
        known: words in lower case, such as those of all prompts, true answers and the oracle's
            generations; see `vocabulary`.
    """
    found = words(text)
    return sum(word not in known for word in found) / len(found) if found else 0.0


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """Return the words of some texts, in lower case."""
    return frozenset(word for text in texts for word in words(text))


@per_example(unit="share of pairs", aim="oracle", needs=("generations",), bounds=UNIT)
def distinct_pairs(answers: Answers) -> Floats:
    """Share of word pairs in each generation that differ from all others (distinct-2)."""
    return _each(distinct_share, answers)


@per_example(unit="share of characters", aim="oracle", needs=("generations",), bounds=UNIT)
def blanks(answers: Answers) -> Floats:
    """Share of white space in each generation; 1 where nothing is written."""
    return _each(blank_share, answers)


@per_example(unit="share of words", aim="oracle", needs=("generations",), bounds=UNIT)
def repetition(answers: Answers) -> Floats:
    """Share of each generation in its longest back-to-back repetition."""
    return _each(longest_repeat, answers)


@dataclass(frozen=True)
class Collapse:
    """How many generations are broken, next to how many of the oracle's are by the same rule.

    Args:
        share: of the subject's generations, with its exact interval.
        oracle: share of the oracle's own.
        reasons: "blanks", "repetition" ... -> share of the subject's generations.
        collapsed: whether more than half are broken beyond chance.
        worst: the places of broken generations, at most 5, for the report to show.
    """

    share: Interval
    oracle: float
    reasons: Mapping[str, float]
    collapsed: bool
    worst: tuple[int, ...]


def collapse(
    subject: Sequence[str], oracle: Sequence[str] | None, known: Iterable[str] = (), *,
    rare: float = RARE,
) -> Collapse:  # fmt: skip
    """Return how many generations are blank, repetitive or gibberish, as the oracle's hardly are.

    A generation is broken where one of four statistics lies beyond what all but a rare share of
    the oracle's generations reach: blanks, repetition, few distinct pairs, unknown words.

    Args:
        subject, oracle: generations for the same prompts.
        known: texts whose words are no gibberish: prompts and true answers.
        rare: the share of the oracle's generations that may lie beyond, each statistic by itself.

    Raises:
        BadEvidence: no oracle, or no generations.
        ExpungeError: a share outside [0, 1).
    """
    # The oracle's own words are known only where they are said: its names must not be gibberish.
    return _collapse(subject, oracle, (*known, *(oracle or ())), rare)


def collapse_of_guesses(
    subject: Sequence[str], oracle: Sequence[str] | None, known: Iterable[str] = (), *,
    rare: float = RARE,
) -> Collapse:  # fmt: skip
    """As `collapse`, for prompts whose answers the oracle never learnt, so that it guesses.

    Another model's guesses are other words: the oracle's are no vocabulary here, and how many of
    them are unknown is what is usual.

    Args, Raises: as for `collapse`.
    """
    return _collapse(subject, oracle, tuple(known), rare)


def _collapse(
    subject: Sequence[str],
    oracle: Sequence[str] | None,
    known: Sequence[str],
    rare: float,
) -> Collapse:
    """How many generations are broken, by the oracle's and the words of some texts."""
    if not 0 <= rare < 1:
        raise ExpungeError(f"Got rare={rare!r}; expected a share below 1.")
    if not subject or not oracle:
        raise BadEvidence(
            f"Got {len(subject)} generations and {len(oracle or ())} of a retrained model; what "
            "is broken is told by how that model writes. Record its generations as well."
        )
    vocab = vocabulary(known)
    rules: dict[str, Callable[[str], float]] = {
        "blanks": blank_share,
        "repetition": longest_repeat,
        "few distinct pairs": lambda text: 1 - distinct_share(text),
        "unknown words": lambda text: unknown_share(text, vocab),
    }
    mine, theirs = {}, {}
    for name, rule in rules.items():
        usual = np.array([rule(text) for text in oracle])
        # The largest that is seen often enough: a rule that flags a common text flags the oracle.
        most = float(np.quantile(usual, 1 - rare, method="higher"))
        mine[name] = np.array([rule(text) for text in subject]) > most
        theirs[name] = usual > most
    broken = np.any(list(mine.values()), axis=0)
    share = clopper_pearson(int(broken.sum()), len(subject))
    reasons = {name: float(flags.mean()) for name, flags in mine.items()}
    return Collapse(
        share, float(np.any(list(theirs.values()), axis=0).mean()), MappingProxyType(reasons),
        lost_half(1 - share.low, 1.0), tuple(int(place) for place in np.flatnonzero(broken)[:5]),
    )  # fmt: skip


def _entropy(text: str, n: int) -> float:
    """Entropy of the runs of n words, bits."""
    found = words(text)
    counts = Counter(tuple(found[at : at + n]) for at in range(len(found) - n + 1))
    total = sum(counts.values())
    return -sum(one / total * math.log2(one / total) for one in counts.values()) if total else 0.0


def _each(rule: Callable[[str], float], answers: Answers) -> Floats:
    """A rule of text for every generation."""
    return np.array([rule(text) for text in answers.generations or ()], dtype=np.float64)
