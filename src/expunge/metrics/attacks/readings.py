"""What attacks read of a group of models: computed once, then judged in many ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.agreement import accuracies
from expunge.metrics.attacks import population, signals
from expunge.metrics.attacks.population import mia_efficacy
from expunge.statistics.roc_area import auc

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

# Its cost grows with the square of these, and it learns from one feature: 100 of each are plenty.
SVC_EXAMPLES = 100

# Of sets other than the forget set: evenly spread, so that large ones take no minutes.
MOST_EXAMPLES = 5000

WEAK: Mapping[str, Callable[[signals.Logits, signals.Targets], Floats]] = {
    "loss": population.loss_attack,
    "entropy": population.entropy_attack,
    "modified entropy": population.modified_entropy_attack,
}


SVC = "SVC"


@dataclass(frozen=True, eq=False)
class Readings:
    """Signals of a group of models.

    Args:
        phi: set -> logit-scaled confidences, float64 [model, example]; of sets other than the
            forget set at most 5,000 examples are read.
        places: set -> which of its examples these are, int64 [example].
        soft: RMIA's confidences on "forget" and on the unseen set, the same shape.
        weak: population attack -> its success on each model, float64 [model].
        refused: population attack -> why it could not be run.
        accuracy: set -> share of right answers, float64 [model].
        unseen: the set that no model was trained on; "" where there is none.
        classes: number of classes.
    """

    phi: Mapping[str, Floats]
    places: Mapping[str, Ints]
    soft: Mapping[str, Floats]
    weak: Mapping[str, Floats]
    refused: Mapping[str, str]
    accuracy: Mapping[str, Floats]
    unseen: str
    classes: int

    def __len__(self) -> int:
        return len(self.phi["forget"])

    def thinned(self, examples: int) -> Readings:
        """The same models on at most so many examples of each set, evenly spread."""
        rows = {name: spread_rows(len(each), examples) for name, each in self.places.items()}
        phi, soft = (
            {name: each[:, rows[name]] for name, each in held.items()}
            for held in (self.phi, self.soft)
        )
        places = {name: each[rows[name]] for name, each in self.places.items()}
        return replace(self, phi=phi, soft=soft, places=places)


def read_answers(evidence: Evidence, *, unseen: str = "test") -> Readings:
    """Work out all signals of a group of models.

    Args:
        evidence: answers on "forget", and where there are any on "retain" and the unseen set.
        unseen: a set that neither the models nor the method have seen; where the evidence lacks
            it, attacks that need one are refused.

    Raises:
        BadEvidence: no forget set, an empty set, or logits that cannot be read.
    """
    known = unseen if unseen in evidence.sets else ""
    places = {name: _places(evidence, name) for name in evidence.sets}
    sides = {name: _side(evidence, name, places[name]) for name in places}
    phi = {
        name: signals.scaled_confidence(side.logits, side.targets) for name, side in sides.items()
    }
    soft = {
        name: signals.taylor_soft_margin(sides[name].logits, sides[name].targets)
        for name in ("forget", known)
        if name
    }
    weak, refused = _weak(sides, phi, known)
    right = {name: accuracies(side, name) for name, side in sides.items()}
    return Readings(phi, places, soft, weak, refused, right, known, evidence.logits.shape[2])


def spread_rows(count: int, most: int) -> Ints:
    """At most so many rows, evenly spread: the same for every group of models."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _places(evidence: Evidence, name: str) -> Ints:
    """The examples of a set that are read: all of the forget set."""
    count = len(evidence.on(name).targets)
    return spread_rows(count, count if name == "forget" else MOST_EXAMPLES)


def _side(evidence: Evidence, name: str, places: Ints) -> Evidence:
    side = evidence.on(name)
    if len(places) == len(side.targets):
        return side  # no copy
    return Evidence(side.logits[:, places], side.targets[places], {name: slice(0, len(places))})


def _weak(
    sides: Mapping[str, Evidence], phi: Mapping[str, Floats], unseen: str
) -> tuple[dict[str, Floats], dict[str, str]]:
    """The success of each population attack on each model: one number a model."""
    names = (*WEAK, SVC)
    if not unseen:
        return {}, dict.fromkeys(names, "There is no set of examples that no model has seen.")
    asked, others = sides["forget"], sides[unseen]
    found, refused = {}, {}
    for name, attack in WEAK.items():
        scores = [attack(side.logits, side.targets) for side in (asked, others)]
        found[name] = auc(scores[0].T, scores[1].T)
    try:
        found[SVC] = _efficacy(phi, unseen)
    except BadEvidence as fault:
        refused[SVC] = str(fault)
    return found, refused


def _efficacy(phi: Mapping[str, Floats], unseen: str) -> Floats:
    """MIA-efficacy with as many retained as unseen examples."""
    if "retain" not in phi:
        raise BadEvidence("There is no retain set to learn from.")
    count = min(SVC_EXAMPLES, phi["retain"].shape[1], phi[unseen].shape[1])
    retain, rest = (
        signals.confidence(phi[name][:, spread_rows(phi[name].shape[1], count)])
        for name in ("retain", unseen)
    )
    asked = phi["forget"][:, spread_rows(phi["forget"].shape[1], 4 * SVC_EXAMPLES)]
    return mia_efficacy(signals.confidence(asked), retain, rest)
