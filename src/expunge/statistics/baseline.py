"""The blind baseline: what an attack achieves that never sees the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.errors import BadEvidence
from expunge.statistics.decision import Decision, decide
from expunge.statistics.result import Effect, Floats, check_fraction, finite_array
from expunge.statistics.roc_area import compare_auc

FOLDS = 2

RIDGE = 1.0

FEWEST = 8


@dataclass(frozen=True)
class BlindBaseline:
    """Whether members and non-members can be distinguished without the model.

    Args:
        void: they can, so whatever an attack on the model shows of them shows nothing.
        effects: the area under the ROC curve less 0.5, for each part that was judged.
        verdict: "found" says void; "excluded" says that a leak of the margin is excluded.
    """

    void: bool
    effects: tuple[Effect, ...]
    verdict: Decision

    @property
    def reason(self) -> str:
        """What follows for the attack, in a sentence."""
        said = {
            "found": "The attack is void: without the model, too, members differ from non-members.",
            "excluded": "The attack is valid: without the model it is at chance.",
            "inconclusive": "The attack may be valid: no leak is shown, nor is one excluded.",
        }
        return f"{said[self.verdict.word]} {self.verdict.reason}"


def blind_baseline(
    scores: ArrayLike, member: ArrayLike, *, margin: float = 0.05, alpha: float = 0.05
) -> BlindBaseline:
    """Judge the scores that an attack gives when it is shown no model.

    Args:
        scores: float [example], from labels, lengths, dates or the images alone.
        member: bool [example], the truth that the attack is after.
        margin: the smallest distance of the area from 0.5 that would matter.
        alpha: level of each test.

    Raises:
        BadEvidence: shapes that do not match, fewer than 4 examples of a kind.
        ExpungeError: alpha outside (0, 1), a margin that is not above 0.

    Source: Das, Zhang and Tramer (2024), BlindBaseline baselines beat membership inference attacks.
    """
    found = finite_array("scores", scores)
    truth = _members(member, len(found))
    effect = compare_auc(
        found[truth], found[~truth], margin=margin, alpha=alpha, name="blind attack"
    )
    return _judge((effect,), alpha)


def blind_baseline_on_features(
    features: ArrayLike, member: ArrayLike, rng: np.random.Generator, *, margin: float = 0.05,
    alpha: float = 0.05,
) -> BlindBaseline:  # fmt: skip
    """Judge what was known before training by a classifier that is fitted to it.

    A ridge regression of membership on the features is fitted on one half of the examples and
    judged on the other, and the other way round; the two tests share alpha by Holm. It sees
    differences of means only: add squares or one-hot labels as features to look for more.

    Args:
        features: float [example, feature], such as one-hot labels and statistics of the images.
        member: bool [example].
        rng: draws the halves.
        margin, alpha: as for `blind`.

    Raises: as for `blind`; BadEvidence for fewer than 8 examples of a kind.

    Source: as for `blind`; Meeus et al. (2024), SoK: membership inference on large models.
    """
    check_fraction("alpha", alpha)
    found = finite_array("features", features, axes=(2,))
    truth = _members(member, len(found), FEWEST)
    fold = _folds(truth, rng)
    effects = []
    for at in range(FOLDS):
        here = fold == at
        scores = _fitted(found[~here], truth[~here], found[here])
        effects.append(
            compare_auc(
                scores[truth[here]], scores[~truth[here]], margin=margin, alpha=alpha,
                name=f"blind half {at + 1}",
            )
        )  # fmt: skip
    return _judge(tuple(effects), alpha)


def _judge(effects: tuple[Effect, ...], alpha: float) -> BlindBaseline:
    """Void where an effect is found; one that is shown to be below the margin is let pass."""
    verdict = decide(effects, alpha=alpha)
    return BlindBaseline(verdict.word == "found", effects, verdict)


def _members(member: ArrayLike, examples: int, least: int = 4) -> NDArray[np.bool_]:
    """Check who is a member."""
    truth = np.asarray(member)
    if truth.dtype != np.bool_ or truth.shape != (examples,):
        raise BadEvidence(
            f"Got members of type {truth.dtype} and shape {truth.shape}; "
            f"expected bool ({examples},)."
        )
    if min(truth.sum(), (~truth).sum()) < least:
        raise BadEvidence(
            f"Got {int(truth.sum())} members of {examples} examples; "
            f"expected at least {least} members and {least} others."
        )
    return truth


def _folds(truth: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold for each example, with as many members in each as can be."""
    fold = np.empty(len(truth), dtype=np.int64)
    for kind in (truth, ~truth):
        fold[kind] = rng.permutation(int(kind.sum())) % FOLDS
    return fold


def _fitted(known: Floats, truth: NDArray[np.bool_], asked: Floats) -> Floats:
    """Ridge regression on scaled features: the score of each example that is asked."""
    centre, spread = known.mean(axis=0), known.std(axis=0)
    # A feature that never moves says nothing, and must not be divided by 0.
    scale = np.where(spread > 0, spread, 1.0)
    inputs, wanted = (known - centre) / scale, truth - truth.mean()
    # The smaller of both systems: as many unknowns as features, or as examples.
    if inputs.shape[1] <= len(inputs):
        gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram, inputs.T @ wanted)
    else:
        gram = inputs @ inputs.T + RIDGE * np.eye(len(inputs))
        weights = inputs.T @ np.linalg.solve(gram, wanted)
    scores: Floats = ((asked - centre) / scale) @ weights
    return scores
