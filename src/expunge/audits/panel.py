"""The standard audits of classifiers and of language models, and reading audits from sentences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from expunge.audits import images, text
from expunge.audits.images.answers import (
    AdversarialNeighbours,
    DamageNearBoundary,
    ForgetConfidence,
    OverUnlearning,
)
from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.audits.images.probe import IllusionGap, LinearProbe, NearestClassCentre
from expunge.audits.images.relearn import PrototypeRelearn, Prune, Quantise, RecoveryArea, Relearn
from expunge.audits.text.ablation import Ablated, Patched, SetDifference
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
from expunge.audits.text.relearning import OtherFacts, Related, RelearnFacts, Unrelated
from expunge.audits.text.sampling import Sampled
from expunge.audits.text.searched import SoftPrompt, Suffix
from expunge.audits.text.states import LogitLens, ProbeFacts
from expunge.audits.text.traces import Aligned, Detected, Fallen, Guessed
from expunge.audits.text.transforms import Continued, Interpolated, PruneLayers, QuantiseLayers
from expunge.core.sentence import OldWord, Words, parse, words_in
from expunge.errors import BadSentence, did_you_mean
from expunge.methods.sentences import method_words

# What is asked of every method: no word twice, and none that another one implies. At its authors'
# blend of a half PrototypeRelearn passes a last layer that was only pushed down, at 0.9 not.
STANDARD: tuple[ClassifierAudit, ...] = (
    ForgetConfidence(),
    Relearn(),
    RecoveryArea(),
    LinearProbe(),
    NearestClassCentre(),
    IllusionGap(),
    PrototypeRelearn(blend=0.9),
    Quantise(bits=4),
    Prune(),
    AdversarialNeighbours(),
    DamageNearBoundary(),
    OverUnlearning(),
)


# Words that have another name than before; each knows its old one as `key_name`.
RENAMED = (QuantiseLayers, PruneLayers, RelearnFacts, ProbeFacts)


EVERY = "standard"


FEWEST = 2


LONGEST_SHOWN = 80


def asked(said: Any, origin: str) -> tuple[ClassifierAudit, ...]:
    """Return audits from sentences; "standard" stands for `STANDARD`.

    Args:
        said: a list of sentences, such as ["standard"] or ["Relearn(share=0.2)", "Prune()"].
        origin: the file that says so, for messages.

    Raises:
        BadSentence: no list of sentences, a sentence that cannot be read, or one that is no audit.
    """
    if not isinstance(said, list | tuple) or not all(isinstance(one, str) for one in said):
        raise BadSentence(
            f'{origin}: audits must be a list of sentences, such as ["{EVERY}"] or '
            f'["Relearn(share=0.2)", "Prune()"], got {_short(repr(said))}.'
        )
    return tuple(audit for one in said for audit in _read(one.strip(), origin))


def check_audits(audits: Sequence[ClassifierAudit], audited: int) -> None:
    """Refuse what is no audit, an audit that is there twice, and too few models.

    Raises:
        BadSentence: as above.
    """
    if audited < FEWEST:
        raise BadSentence(
            f"audited = {audited}: expected {FEWEST} models of each kind or more; 8 is usual."
        )
    for audit in audits:
        if not isinstance(audit, ClassifierAudit):
            raise BadSentence(f"{_short(repr(audit))} is no audit; expected one such as Relearn().")
        if audits.count(audit) > 1:
            raise BadSentence(f"The audit {audit!r} is there twice; name each once.")


@cache
def audit_words() -> Words:
    """Every word that the sentence of an audit may use, by name; those of methods, too."""
    old = {str(kind.key_name): OldWord(str(kind.key_name), kind) for kind in RENAMED}
    return {**method_words(), **words_in(images, text), **old}


def _read(sentence: str, origin: str) -> tuple[ClassifierAudit, ...]:
    """The audits of one sentence; a bare word is taken for a name without its brackets."""
    if sentence == EVERY:
        return STANDARD
    names = [
        EVERY,
        *(
            name
            for name, kind in audit_words().items()
            if isinstance(kind, type) and issubclass(kind, ClassifierAudit)
        ),
    ]
    if sentence.isidentifier():
        hint = did_you_mean(sentence, names)
        if sentence in names:
            hint = f" Write {sentence}(), or what it takes between the brackets."
        raise BadSentence(f"{origin}: {_short(repr(sentence))} is no audit.{hint}")
    found = parse(sentence, audit_words())
    if isinstance(found, tuple):
        raise BadSentence(
            f"{origin}: {_short(repr(sentence))} is {len(found)} sentences; write each by itself."
        )
    if not isinstance(found, ClassifierAudit):
        known = ", ".join(names)
        raise BadSentence(f"{origin}: {_short(repr(sentence))} is no audit; there are {known}.")
    return (found,)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


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
