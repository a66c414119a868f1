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
from expunge.audits.text.lens import LogitLens, TunedProbe
from expunge.audits.text.patching import Patched
from expunge.audits.text.relearning import OtherFacts, Related, Relearned, Unrelated
from expunge.audits.text.sampling import Sampled
from expunge.audits.text.searched import SoftPrompt, Suffix
from expunge.audits.text.traces import Aligned, Detected, Fallen, Guessed
from expunge.audits.text.transforms import Continued, Interpolated, Rounded, Trimmed

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
    Relearned(OtherFacts()),
    Relearned(Related()),
    Relearned(Unrelated()),
    Rounded(bits=8),
    Rounded(bits=4),
    Trimmed(),
    Continued(),
    Interpolated(),
    Suffix(),
    SoftPrompt(),
    LogitLens(),
    TunedProbe(),
    Patched(),
    Ablated(),
    SetDifference(),
    Sampled(),
    Fallen(),
    Guessed(),
    Aligned(),
    Detected(),
)
