"""Audits of language models: what is left beneath the answers, family by family."""

from __future__ import annotations

from expunge.audits.text.ablation import Ablated, SetDifference
from expunge.audits.text.asking import (
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
from expunge.audits.text.facts import FactAudit
from expunge.audits.text.lens import LogitLens, ProbeFacts
from expunge.audits.text.patching import Patched
from expunge.audits.text.relearning import OtherFacts, Related, RelearnFacts, Unrelated
from expunge.audits.text.sampling import Sampled
from expunge.audits.text.searched import SoftPrompt, Suffix
from expunge.audits.text.traces import Aligned, Detected, Fallen, Guessed
from expunge.audits.text.transforms import Continued, Interpolated, PruneLayers, QuantiseLayers

# What is asked of every model. Budgets are those of a small model; the fields say them.
STANDARD_TEXT: tuple[FactAudit, ...] = (
    Question(),
    Paraphrase(),
    Prefix(),
    Prefilled(),
    Opened(),
    RolePlay(),
    FewShot(),
    Backwards(),
    OtherLanguage(),
    RelearnFacts(OtherFacts()),
    RelearnFacts(Related()),
    RelearnFacts(Unrelated()),
    QuantiseLayers(bits=8),
    QuantiseLayers(bits=4),
    PruneLayers(),
    Continued(),
    Interpolated(),
    Suffix(),
    SoftPrompt(),
    LogitLens(),
    ProbeFacts(),
    Patched(),
    Ablated(),
    SetDifference(),
    Sampled(),
    Fallen(),
    Guessed(),
    Aligned(),
    Detected(),
)
