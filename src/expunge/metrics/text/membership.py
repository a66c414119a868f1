"""Membership inference on texts, read against the retrained model and never against 0.5.

Every score says "member" when it is high, as elsewhere in this package; open-unlearning's scores
have the opposite sign, its areas the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from expunge.core.evidence import Answers, Floats, Ragged, aligned
from expunge.errors import BadEvidence, ExpungeError
from expunge.metrics.agreement import Score
from expunge.metrics.text.measure import need_oracle, over_rows
from expunge.statistics.roc_area import auc

# Of the authors: Shi et al. take the lowest 20 % of tokens, MUSE and open-unlearning 40 %.
SHARE = 0.4

# A token whose probability is 1 has no spread; open-unlearning clamps the variance at 1e-6.
LEAST_SPREAD = 1e-3

Attack = Callable[[Answers], Floats]


def loss_attack(answers: Answers) -> Floats:
    """Return the mean log p of the answer's tokens, float64 [example].

    Source: Yeom et al. (1709.01604).
    """
    return answers.tokens("logprobs").means()


def zlib_attack(answers: Answers) -> Floats:
    """Return minus the loss over the bytes that zlib needs for the text, float64 [example].

    Source: Carlini et al. (2012.07805), section 5.2.
    """
    answers.need("references")
    sizes = [len(zlib.compress(one.encode())) for one in answers.references or ()]
    return loss_attack(answers) / np.array(sizes, dtype=np.float64)


def min_k_attack(answers: Answers, share: float = SHARE) -> Floats:
    """Return the mean log p of the least likely tokens, float64 [example]; of one at least.

    Args:
        answers: with `logprobs`.
        share: of the tokens that are averaged.

    Source: Shi et al., Min-K% Prob (2310.16789), equation 1.
    """
    return answers.tokens("logprobs").lowest(_a_share(share))


def min_k_plus_attack(answers: Answers, share: float = SHARE) -> Floats:
    """Return the mean of the lowest (log p - mean) / spread over tokens, float64 [example].

    Args:
        answers: with `logprobs`, and `means` and `spreads` over the vocabulary.
        share: of the tokens that are averaged.

    Source: Zhang et al., Min-K%++ (2404.02936); the spread is at least 0.001.
    """
    tokens, means = answers.tokens("logprobs"), answers.tokens("means")
    spreads = np.maximum(answers.tokens("spreads").flat, LEAST_SPREAD)
    standard = Ragged((tokens.flat - means.flat) / spreads, tokens.lengths)
    return standard.lowest(_a_share(share))


def gradient_attack(answers: Answers) -> Floats:
    """Return minus the norm of the loss's gradient, float64 [example].

    The norms must be those of a model in evaluation mode; dropout would make each one a draw.

    Source: Wang et al., Pandora's White-Box (2402.17012).
    """
    answers.need("norms")
    return -np.asarray(answers.norms, dtype=np.float64)


def reference_attack(reference: Answers) -> Attack:
    """Return the attack on log p less a reference model's log p, examples matched by index.

    Args:
        reference: answers of a model that is thought not to know, on members and others alike.

    Source: Carlini et al. (2012.07805), section 5.2.
    """

    def attack(answers: Answers) -> Floats:
        return loss_attack(answers) - loss_attack(reference.at(answers.index))

    return attack


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "loss": loss_attack,
        "zlib": zlib_attack,
        "min-k": min_k_attack,
        "min-k++": min_k_plus_attack,
        "gradient norm": gradient_attack,
    }
)


@dataclass(frozen=True, eq=False)
class Sides:
    """One model's answers on the forget set and on a holdout set that it never saw.

    Args:
        forget, holdout: with what the attack reads.
    """

    forget: Answers
    holdout: Answers

    def scores(self, attack: Attack) -> tuple[Floats, Floats]:
        """Return the attack's scores of both sets."""
        return attack(self.forget), attack(self.holdout)


@dataclass(frozen=True)
class TextMembership:
    """An attack on the unlearned model, next to the same attack on the retrained one.

    Args:
        subject, oracle: the area under the ROC curve, forget set against holdout; 1 where all
            forget examples look like members, 0.5 where nothing tells them apart.
        gap: subject less oracle, with an interval over examples that pairs them. 0 is forgotten.
    """

    subject: Score
    oracle: Score
    gap: Score

    @property
    def likeness(self) -> float:
        """Return 1 - min(|gap| / oracle, 1): 1 as the oracle; the form that aggregates average.

        Source: Dorna et al., OpenUnlearning (2506.12618), s_MIA.
        """
        if self.oracle.value == 0:
            return float(self.gap.value == 0)
        return 1 - min(abs(self.gap.value) / self.oracle.value, 1.0)


def membership(
    attack: Attack, subject: Sides, oracle: Sides | None, rng: np.random.Generator
) -> TextMembership:
    """Attack an unlearned and a retrained model, on the same examples.

    The oracle is not at 0.5 as a rule: forget and holdout texts differ in more than membership.

    Args:
        attack: one of `ATTACKS`, or `reference_attack(...)`.
        subject, oracle: answers of each model on both sets.
        rng: draws for the intervals.

    Raises:
        BadEvidence: no oracle, other examples, fewer than 3 of a set, or nothing recorded.
    """
    if oracle is None:
        need_oracle(None, "membership inference")
        raise BadEvidence("There is no retrained model.")
    held = Sides(aligned(subject.forget, oracle.forget), aligned(subject.holdout, oracle.holdout))
    tables = [
        np.column_stack(pair)
        for pair in zip(subject.scores(attack), held.scores(attack), strict=True)
    ]

    def area(column: int) -> Callable[..., float]:
        return lambda ones, zeros: float(auc(ones[:, column], zeros[:, column]))

    mine, theirs = (
        over_rows(area(column), tables, rng, unit="AUC", bounds=(0.0, 1.0)) for column in (0, 1)
    )
    gap = over_rows(
        lambda *drawn: area(0)(*drawn) - area(1)(*drawn), tables, rng,
        unit="AUC", bounds=(-1.0, 1.0),
    )  # fmt: skip
    return TextMembership(mine, theirs, gap)


def privleak(subject_auc: float, oracle_auc: float | None) -> float:
    """Return PrivLeak, per cent: the legacy form of `Membership.gap`.

    100 (a - b) / b with a = 1 - AUC of the unlearned model and b = 1 - AUC of the retrained one:
    below 0 too little was forgotten, above 0 too much. It has no upper bound (a thousand and more
    where the retrained model's AUC is near 1), so read the gap first.

    Args:
        subject_auc: forget set against holdout, 1 where forget looks like members.
        oracle_auc: the same of the retrained model; there is no default, since with 0.5 in its
            place the retrained model itself would leak (23.5 % on TOFU, 8.2 % on MUSE Books).

    Raises:
        BadEvidence: no oracle, or one at exactly 1, where the ratio has no value.
        ExpungeError: an area outside [0, 1].

    Source: Shi et al., MUSE (2407.06460); swj0419/muse_bench@fcd6651, whose areas are 1 - AUC;
    open-unlearning@d3d7cf9, privacy.py, which falls back to 0.5.
    """
    if oracle_auc is None:
        need_oracle(None, "PrivLeak")
        raise BadEvidence("There is no retrained model.")
    for area in (subject_auc, oracle_auc):
        if not 0 <= area <= 1:
            raise ExpungeError(f"Got an area of {area!r}; expected 0 to 1.")
    if oracle_auc == 1:
        raise BadEvidence(
            "The retrained model's AUC is 1: forget and holdout differ in more than membership, "
            "and PrivLeak would divide by 0. Choose a holdout set like the forget set."
        )
    return 100 * (oracle_auc - subject_auc) / (1 - oracle_auc)


def _a_share(share: float) -> float:
    """Refuse a share outside (0, 1]."""
    if not 0 < share <= 1:
        raise ExpungeError(f"Got share={share!r}; expected above 0 and at most 1.")
    return share
