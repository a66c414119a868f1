"""Audits of language models: what is left beneath the answers, family by family."""

from __future__ import annotations

from expunge.audits.text.ablation import Ablated, Patched, SetDifference
from expunge.audits.text.asking import (
    Asking,
    Backwards,
    FewShot,
    Opened,
    OtherLanguage,
    Paraphrase,
    Prefilled,
    Prefix,
    Question,
    RolePlay,
)
from expunge.audits.text.facts import FactAudit, FactContext, FactProblem
from expunge.audits.text.relearning import (
    AllWeights,
    Lessons,
    LowRank,
    OtherFacts,
    OtherSubjects,
    Related,
    RelearnFacts,
    Trained,
    Unrelated,
)
from expunge.audits.text.sampling import Sampled
from expunge.audits.text.searched import Searched, SoftPrompt, Suffix
from expunge.audits.text.states import LogitLens, ProbeFacts
from expunge.audits.text.traces import Aligned, Detected, Fallen, Guessed
from expunge.audits.text.transforms import (
    Continued,
    Interpolated,
    PruneLayers,
    QuantiseLayers,
    Transform,
)

__all__ = [
    "Ablated",
    "Aligned",
    "AllWeights",
    "Asking",
    "Backwards",
    "Continued",
    "Detected",
    "FactAudit",
    "FactContext",
    "FactProblem",
    "Fallen",
    "FewShot",
    "Guessed",
    "Interpolated",
    "Lessons",
    "LogitLens",
    "LowRank",
    "Opened",
    "OtherFacts",
    "OtherLanguage",
    "OtherSubjects",
    "Paraphrase",
    "Patched",
    "Prefilled",
    "Prefix",
    "ProbeFacts",
    "PruneLayers",
    "QuantiseLayers",
    "Question",
    "Related",
    "RelearnFacts",
    "RolePlay",
    "Sampled",
    "Searched",
    "SetDifference",
    "SoftPrompt",
    "Suffix",
    "Trained",
    "Transform",
    "Unrelated",
]
