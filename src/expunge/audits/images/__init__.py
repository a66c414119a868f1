"""Audits of classifiers: what is left beneath the answers."""

from __future__ import annotations

from expunge.audits.images.answers import (
    AdversarialNeighbours,
    DamageNearBoundary,
    ForgetConfidence,
    InterclassConfusion,
    LabelExposure,
    NoisyInputs,
    OverUnlearning,
    PatternExposure,
)
from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.audits.images.probe import IllusionGap, LinearProbe, NearestClassCentre, Probe
from expunge.audits.images.relearn import (
    Anamnesis,
    PrototypeRelearn,
    Prune,
    Quantise,
    RecoveryArea,
    Relearn,
)

__all__ = [
    "AdversarialNeighbours",
    "Anamnesis",
    "ClassifierAudit",
    "DamageNearBoundary",
    "ForgetConfidence",
    "IllusionGap",
    "InterclassConfusion",
    "LabelExposure",
    "LinearProbe",
    "NearestClassCentre",
    "NoisyInputs",
    "OverUnlearning",
    "PatternExposure",
    "Probe",
    "PrototypeRelearn",
    "Prune",
    "Quantise",
    "RecoveryArea",
    "Relearn",
]
