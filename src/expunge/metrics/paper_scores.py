"""The scores that papers report of an unlearned model, each by its written formula, in one table.

`PAPER_SCORES` lists them with paper, formula and range. Experiments compute ZRF and RF-JSD; the
others are for comparing with a paper. `metrics.agreement` holds tug of war, Jensen-Shannon
divergence and the L2 activation distance. Scores of the same name elsewhere are often other
numbers: logs are natural (nats) here, an activation distance is a mean of norms, accuracies are
shares and not per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence
from expunge.metrics.agreement import jensen_shannon, tug_of_war

Floats = NDArray[np.float64]

Ints = NDArray[np.integer]


def tug_of_war_mia(subject: Floats, oracle: Floats) -> float:
    """Return the product of 1 - |mean unlearned - mean retrained| over MIA, retain and test.

    Args:
        subject, oracle: float64 [model, 3]: success of one membership attack on the forget set (a
            share), accuracy on retain, accuracy on test. The attack must be the same for both.

    Raises:
        BadEvidence: other shapes, numbers outside [0, 1].

    Source: Zhao et al., RUM (2406.01257), ToW-MIA; kairanzhao/RUM.
    """
    for one in (subject, oracle):
        if one.ndim != 2 or one.shape[1] != 3 or one.size == 0:
            raise BadEvidence(f"Got {one.shape}; expected [model, 3]: MIA, retain, test.")
        _shares(one)
    return tug_of_war(subject, oracle)


def average_gap(subject: Floats, oracle: Floats) -> float:
    """Return the mean over metrics of |mean unlearned - mean retrained|.

    Args:
        subject, oracle: float64 [model, metric]: 1 - forget accuracy, retain accuracy, test
            accuracy and MIA-efficacy in the papers, as shares (theirs are per cent).

    Raises:
        BadEvidence: different metrics, none, or no model.

    Source: Fan et al., SalUn (2310.12508), table 1, Avg. Gap.
    """
    if subject.ndim != 2 or oracle.shape[1:] != subject.shape[1:] or not subject.size * oracle.size:
        raise BadEvidence(
            f"Got {subject.shape} and {oracle.shape}; expected [model, metric], the same metrics."
        )
    return float(np.abs(subject.mean(axis=0) - oracle.mean(axis=0)).mean())


def completeness(first: Ints, second: Ints) -> Floats:
    """Return the share of examples that get the same answer, right or wrong.

    Args:
        first, second: integers [..., example], predicted classes.

    Returns:
        float64 [...], from 0 to 1; papers print per cent.

    Raises:
        BadEvidence: different shapes, or no example.

    Source: Cao and Yang (2015), completeness.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim == 0 or first.size == 0:
        raise BadEvidence(
            f"Got predictions {first.shape} and {second.shape}; expected the same examples."
        )
    return np.asarray((first == second).mean(axis=-1), dtype=np.float64)


def layer_distances(
    first: Mapping[str, NDArray[np.floating]], second: Mapping[str, NDArray[np.floating]]
) -> dict[str, float]:
    """Return the L2 distance of each weight or buffer of two models, by name.

    Two retrained models lie far apart too: read it against theirs.

    Args:
        first, second: name -> array, the same names and shapes.

    Raises:
        BadEvidence: other names or shapes, values that are not finite.

    Source: Tarun et al. (2111.08947), layer-wise distance.
    """
    if first.keys() != second.keys() or not first:
        odd = sorted(first.keys() ^ second.keys())
        raise BadEvidence(f"The models do not have the same layers: {', '.join(odd) or 'none'}.")
    found = {}
    for name, one in first.items():
        if one.shape != second[name].shape:
            raise BadEvidence(f"{name} has shapes {one.shape} and {second[name].shape}.")
        away = np.linalg.norm(np.ravel(one.astype(np.float64) - second[name].astype(np.float64)))
        if not np.isfinite(away):
            raise BadEvidence(f"{name} holds NaN or infinite values.")
        found[name] = float(away)
    return found


def activation_distance_l1(first: Floats, second: Floats) -> Floats:
    """Return the L1 norm of the difference of two probability vectors [..., class] -> [...].

    Source: meghdadk/SCRUB (98ffb11), `activations_distance`. The bad teacher's is L2, `agreement`;
    pedroandreou/supreme-unlearning (commit 9d776fd) prints the root of the mean *squared* L2 norm.
    """
    found: Floats = np.abs(first - second).sum(axis=-1)
    return found


def zero_retrain_forgetting(unlearned: Floats, random: Floats) -> float:
    """Return ZRF = 1 - mean over examples of JS(unlearned(x), random(x)), in nats.

    JS in nats is at most ln 2, so ZRF lies between 0.307 and 1; with logs to base 2 it would lie
    between 0 and 1. A 0.99-confident answer against a uniform one gives 0.501 at 10 classes and
    0.363 at 100. Code that descends from the paper's reverses the divergences and averages over
    classes (0.90 and 0.98 for the same), so printed values do not compare.

    Args:
        unlearned, random: probabilities [..., class] on the forget set, of the unlearned model and
            of one with random weights.

    Raises:
        BadEvidence: different shapes, or rows that are not distributions.

    Source: Chundawat et al. (2205.08096), ZRF.
    """
    _distributions(unlearned, random)
    return 1.0 - float(jensen_shannon(unlearned, random).mean())


def retrain_free_divergence(
    unlearned: Floats, targets: Ints, original: Floats, unseen_targets: Ints
) -> float:
    """Return RF-JSD: JS of class-mean answers, unlearned on forget and original on unseen, nats.

    The mean over the classes of the forget set of the true JS. cspartalis/LoTUS, eval.py (commit
    35ae25e), reverses the divergences and divides by the number of classes twice. A substitute for
    an oracle it is not: the authors' correlation with the average gap is 0.38 to 0.87.

    Args:
        unlearned: probabilities [example, class] of the unlearned model on the forget set.
        targets: integers [example], its classes.
        original: probabilities [example, class] of the original on examples it never saw.
        unseen_targets: integers [example], their classes.

    Raises:
        BadEvidence: shapes that do not match, rows that are not distributions, a class of the
            forget set that no unseen example has.

    Source: Spartalis et al., LoTUS (2503.18314), RF-JSD.
    """
    means = []
    present = np.unique(targets)
    for answers, classes in ((unlearned, targets), (original, unseen_targets)):
        _distributions(answers, answers)
        if answers.ndim != 2 or np.shape(classes) != answers.shape[:1]:
            raise BadEvidence(f"Got answers {answers.shape} and targets {np.shape(classes)}.")
        missing = np.setdiff1d(present, classes)
        if len(missing):
            raise BadEvidence(f"No unseen example is of class {missing[0]}, which is forgotten.")
        belongs = (np.asarray(classes)[None, :] == present[:, None]).astype(np.float64)
        means.append(belongs @ answers / belongs.sum(axis=1, keepdims=True))
    return float(jensen_shannon(*means).mean())


def unlearning_score_random(test: float, forget: float, original_test: float) -> float:
    """Return AUS for random forget sets: (1 - (a_original - a_test)) / (1 + |a_forget - a_test|).

    Args:
        test, forget: accuracies of the unlearned model, shares.
        original_test: test accuracy of the original.

    Raises:
        BadEvidence: a number outside [0, 1].

    Source: Cotogni et al., DUCK (2312.02052); OcraM17/DUCK, main_def.py (commit 0961e3a), "HR".
    """
    _shares(np.array([test, forget, original_test]))
    return (1 - (original_test - test)) / (1 + abs(forget - test))


def unlearning_score_class(test: float, forget: float, original_test: float) -> float:
    """Return AUS for whole classes: (1 - (a_original - a_test)) / (1 + a_forget).

    Args:
        test, forget: accuracies of the unlearned model on test examples of the classes that stay
            and of those that go, shares.
        original_test: accuracy of the original on the classes that stay.

    Raises:
        BadEvidence: a number outside [0, 1].

    Source: as for `unlearning_score_random`, "CR".
    """
    _shares(np.array([test, forget, original_test]))
    return (1 - (original_test - test)) / (1 + forget)


def run_time_efficiency(retrain: float, unlearn: float, *, precompute: float) -> float:
    """Return RTE: seconds to retrain over seconds to unlearn, what is computed before included.

    Args:
        retrain, unlearn: seconds.
        precompute: seconds for what a method needs before the request comes (importances, noise,
            saliency); 0 where there is nothing, but it must be said.

    Raises:
        BadEvidence: a negative time, or nothing that took any.

    Source: Cadet et al., Deep Unlearn (2410.01276); xcadet/deepunlearn,
    run_time_efficiency.py (commit 6830ff6), without pre-computation there.
    """
    if min(retrain, unlearn, precompute) < 0 or not unlearn + precompute > 0:
        raise BadEvidence(f"Got {retrain}, {unlearn} and {precompute} seconds; expected above 0.")
    return retrain / (unlearn + precompute)


def symmetric_error(first: float, second: float) -> float:
    """Return SAPE, 100 |a - b| / (|a| + |b|) per cent; 0 where both are 0.

    Source: xcadet/deepunlearn, symmetric_absolute_percentage_error.py (commit 6830ff6), which
    divides by 0 there.
    """
    total = abs(first) + abs(second)
    return 100 * abs(first - second) / total if total else 0.0


def indiscernibility(mia: float) -> float:
    """Return 1 - |MIA - 1/2| / (1/2) of the success of a membership attack, a share.

    1 at 0.5; but retrained models are not at 0.5 either, so compare with theirs.

    Raises:
        BadEvidence: a number outside [0, 1].

    Source: Cadet et al., Deep Unlearn (2410.01276); xcadet/deepunlearn, indiscernibility.py.
    """
    _shares(np.array([mia]))
    return 1 - abs(mia - 0.5) / 0.5


def retention(unlearned: float, retrained: float) -> float:
    """Return accuracy unlearned over accuracy retrained, of one set (retain, forget or test).

    Raises:
        BadEvidence: a number outside [0, 1], or retrained models that are never right.

    Source: Cadet et al., Deep Unlearn (2410.01276); xcadet/deepunlearn, retention.py.
    """
    _shares(np.array([unlearned, retrained]))
    if retrained == 0:
        raise BadEvidence("The retrained models are never right: no ratio.")
    return unlearned / retrained


def _shares(values: Floats) -> None:
    """Refuse numbers outside [0, 1]: per cent, NaN."""
    if not ((values >= 0) & (values <= 1)).all():
        raise BadEvidence(f"Got {values.tolist()}; expected shares from 0 to 1, not per cent.")


def _distributions(first: Floats, second: Floats) -> None:
    """Refuse arrays that are not probabilities of one shape."""
    if first.shape != second.shape or first.ndim < 1 or first.size == 0:
        raise BadEvidence(
            f"Got probabilities {first.shape} and {second.shape}; expected one shape."
        )
    for one in (first, second):
        if not (one >= 0).all() or not np.allclose(one.sum(axis=-1), 1.0, atol=1e-4):
            raise BadEvidence("Some rows are no probabilities: negative, NaN, or not summing to 1.")


@dataclass(frozen=True)
class PaperScore:
    """One line of the table of scores.

    Args:
        name: as papers print it.
        paper: that defines it.
        formula: in short; u is the unlearned, r the retrained, o the original model.
        low, high: the ends of its range.
        as_retrained: its value where the unlearned model answers as the retrained one does; None
            where no retrained model enters.
        function: computes it.
    """

    name: str
    paper: str
    formula: str
    low: float
    high: float
    as_retrained: float | None
    function: Callable[..., Any]


PAPER_SCORES: tuple[PaperScore, ...] = (
    PaperScore(
        "ToW-MIA", "Zhao et al. (2406.01257)", "product over MIA, retain, test of 1 - |u - r|",
        0.0, 1.0, 1.0, tug_of_war_mia,
    ),
    PaperScore(
        "average gap", "Fan et al. (2310.12508)", "mean over metrics of |u - r|",
        0.0, math.inf, 0.0, average_gap,
    ),
    PaperScore(
        "completeness", "Cao and Yang (2015)", "share of examples with u(x) = r(x)",
        0.0, 1.0, 1.0, completeness,
    ),
    PaperScore(
        "layer-wise distance", "Tarun et al. (2111.08947)", "L2 norm of u - r, weight by weight",
        0.0, math.inf, 0.0, layer_distances,
    ),
    PaperScore(
        "L1 activation distance", "Kurmanji et al. (2302.09880), code", "L1 norm of p_u - p_r",
        0.0, 2.0, 0.0, activation_distance_l1,
    ),
    PaperScore(
        "ZRF", "Chundawat et al. (2205.08096)", "1 - mean JS(p_u, p_random)",
        1 - math.log(2), 1.0, None, zero_retrain_forgetting,
    ),
    PaperScore(
        "RF-JSD", "Spartalis et al. (2503.18314)", "mean over classes of JS(mean p_u, mean p_o)",
        0.0, math.log(2), None, retrain_free_divergence,
    ),
    PaperScore(
        "AUS, random", "Cotogni et al. (2312.02052)", "(1 - (o_test - u_test)) / (1 + |gap|)",
        0.0, 2.0, None, unlearning_score_random,
    ),
    PaperScore(
        "AUS, class", "Cotogni et al. (2312.02052)", "(1 - (o_test - u_test)) / (1 + u_forget)",
        0.0, 2.0, None, unlearning_score_class,
    ),
    PaperScore(
        "RTE", "Cadet et al. (2410.01276)", "seconds to retrain / seconds to unlearn",
        0.0, math.inf, 1.0, run_time_efficiency,
    ),
    PaperScore(
        "SAPE", "Cadet et al. (2410.01276)", "100 |u - r| / (|u| + |r|)",
        0.0, 100.0, 0.0, symmetric_error,
    ),
    PaperScore(
        "indiscernibility", "Cadet et al. (2410.01276)", "1 - |MIA - 1/2| / (1/2)",
        0.0, 1.0, None, indiscernibility,
    ),
    PaperScore(
        "retention", "Cadet et al. (2410.01276)", "accuracy of u / accuracy of r",
        0.0, math.inf, 1.0, retention,
    ),
)  # fmt: skip
