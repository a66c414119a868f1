"""What an audit is, and the one runner that asks it of every model alike."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.audits.controls import bare
from expunge.core.seeds import stream
from expunge.core.store import Corrupt, Job, Store
from expunge.core.vocabulary import key_name
from expunge.engine.run import frozen
from expunge.errors import BadEvidence, BadSentence

More = Literal["knows more", "knows less", "is more damaged", "hides more"]


# Kinds of audits; an audit of no family has no say in a verdict.
Family = Literal["asking", "relearning", "transforms", "sampling", "inside", "traces", ""]


ASKING = "asking"


# What was to be forgotten and kept: a `Problem` of images, or the facts of a language model.
P = TypeVar("P")


class AuditedModel:
    """One model under audit; it is never changed, and what is read from it once is shared.

    Args:
        name: what measurements and reports call it.
        model: the model; a filter around it answers audits that only ask.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name, self.model = name, model
        self._read: dict[Any, Any] = {}

    def copy(self) -> nn.Module:
        """A private frozen copy of the weights, without a filter around; it may be changed."""
        return frozen(self.bare)

    @property
    def bare(self) -> nn.Module:
        """The weights as their holder sees them, without a filter around; to be read only."""
        return bare(self.model)

    def once(self, key: object, read: Callable[[nn.Module], Any]) -> Any:
        """What is read from the model as it is, such as its hidden states; read once."""
        if key not in self._read:
            self._read[key] = read(self.model)
        return self._read[key]


@dataclass(frozen=True, eq=False)
class Context(Generic[P]):
    """What an audit may read besides the model: the same for all models of one audit.

    Args:
        problem: what was to be forgotten and kept, with the sets that methods may not see.
        original: one model from before unlearning; thresholds and distances are measured from it.
        oracle: one retrained model that is not among those compared.
        seed: all that audits draw follows from it, and not from the model.
        streams: the name that all random streams share.
        cache: what was computed once for all models.
    """

    problem: P
    original: nn.Module
    oracle: nn.Module
    seed: int = 0
    streams: str = "audit"
    cache: dict[Any, Any] = field(default_factory=dict)

    def stream(self, *names: object) -> torch.Generator:
        """A generator for one purpose, the same for every model."""
        return stream(self.streams, self.seed, *names)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What depends on the context alone, computed for the first model and cached."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one audit measures of one model: one number, or one for each fact.

    Args:
        values: float64 [fact]; of a classifier, one number for the whole forget set.
        index: int64 [fact], the number of each fact; the same for every model of a context.
        groups: str [fact], the subject of each; facts of one subject are not independent.
        cost: what it took, name -> number ("steps", "queries", "tokens").
        examples: (prompt, what the model wrote) of a few facts, the most telling first.
        curve: (cost, mean value) along the way, for an audit that goes on step by step.
        details: other numbers worth printing, name -> number, such as bounds.
        grain: what values are rounded to, by their nature; 0 for none.

    Raises:
        BadEvidence: no value, lengths that differ, NaN or infinite values.
    """

    values: NDArray[np.float64]
    index: NDArray[np.int64]
    groups: tuple[str, ...]
    cost: dict[str, float] = field(default_factory=dict)
    examples: tuple[tuple[str, str], ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    details: dict[str, float] = field(default_factory=dict)
    grain: float = 0.0

    def __post_init__(self) -> None:
        sizes = {len(self.values), len(self.index), len(self.groups)}
        if len(sizes) != 1 or not len(self.values):
            raise BadEvidence(
                f"Got {len(self.values)} values, {len(self.index)} indices and "
                f"{len(self.groups)} groups; expected one of each for every fact, and a fact."
            )
        if not np.isfinite(self.values).all():
            raise BadEvidence("Some values are NaN or infinite; the model's answers broke down.")

    @property
    def mean(self) -> float:
        """The mean of all values; of a classifier, its one number."""
        return float(self.values.mean())


class Audit(ABC, Generic[P]):
    """An experiment on one model that ends in a measurement; abstract.

    It may change any copy of the model, never the model itself, and its budget is in its fields.
    The runner calls it on every model alike and compares what it measures.

    `unit` is what a value counts, and `more` what a larger one says of a model. `family` groups
    audits of one kind. An `anchored` audit is read between retrained models (0) and the original
    (1), and `margin` is the share of that gap that matters; any other is compared with retrained
    models alone, and `margin` is in its own unit. `decisive` is False for an audit that can make a
    model say what it never knew, as a soft prompt can: it is shown, and is never evidence by
    itself. `plain` is True for the one audit of a modality that asks as any user would.
    """

    unit: ClassVar[str]
    family: ClassVar[Family] = ""
    more: ClassVar[More] = "knows more"
    anchored: ClassVar[bool] = True
    decisive: ClassVar[bool] = True
    plain: ClassVar[bool] = False
    margin: ClassVar[float] = 0.1

    @abstractmethod
    def __call__(self, model: AuditedModel, context: Context[P]) -> Measurement:
        """What the audit measures of one model."""

    def unfit(self, context: Context[P]) -> str:
        """Why the audit makes no sense in a context, as a clause; empty if it does."""
        return ""


def within(owner: str, name: str, value: float, low: float, high: float) -> None:
    """Refuse an argument outside [low, high]."""
    if not low <= value <= high:
        raise BadSentence(f"{owner}: {name} must lie between {low:g} and {high:g}, got {value:g}.")


# The roles that models have in every audit; several of one role are numbered: "oracle 1".
SUBJECT, ORIGINAL, ORACLE = "subject", "original", "oracle"


# What a measurement took, cached beside it: never part of what was measured.
SECONDS = "processor seconds"


# What a store calls the fields of a measurement that have another name here.
STORED = {"examples": "drawn", "details": "also"}


@dataclass(frozen=True, eq=False)
class Measurements:
    """What one audit measured of all models.

    Args:
        audit: which.
        models: name of a model -> its measurement; empty where the audit does not fit.
        reason: why it does not fit, as a clause; empty where it does.
    """

    audit: Audit[Any]
    models: Mapping[str, Measurement]
    reason: str = ""

    def role(self, role: str) -> list[str]:
        """The names of the models of one role: the role itself, or the role and a number."""
        return [name for name in self.models if name == role or name.rpartition(" ")[0] == role]

    @property
    def oracles(self) -> list[str]:
        """The names of the retrained models."""
        return self.role(ORACLE)


Measure = Callable[[Audit[P], AuditedModel, Context[P]], Measurement]


def run_audits(
    audits: Sequence[Audit[P]],
    models: Mapping[str, AuditedModel],
    context: Context[P],
    measure: Measure[P] = lambda audit, model, context: audit(model, context),
) -> Iterator[Measurements]:
    """Run audits one after the other on all models alike, and yield what each measured.

    Args:
        audits: no two alike.
        models: name -> model: "subject", "original", "oracle 1" ... and any control.
        context: the same for all of them.
        measure: how one measurement is made, such as a `MeasurementCache`.
    """
    for audit in audits:
        if reason := audit.unfit(context):
            yield Measurements(audit, {}, reason)
            continue
        yield Measurements(
            audit, {name: measure(audit, model, context) for name, model in models.items()}
        )


@dataclass(frozen=True, eq=False)
class MeasurementCache:
    """Measurements in a store, so that an interrupted audit resumes.

    Args:
        store: where they lie.
        key: what a measurement depends on besides the model, the audit and the seed.
    """

    store: Store
    key: str

    def __call__(self, audit: Audit[P], model: AuditedModel, context: Context[P]) -> Measurement:
        """One measurement, from the store where it is there."""
        job = self.job(audit, model, context.seed)
        if self.store.has(job):
            try:
                return restored(self.store.about(job))
            except Corrupt:
                pass  # it has been set aside, and is made again
        begun = time.process_time()
        found = audit(model, context)
        self.store.write(job, about={**stored(found), SECONDS: time.process_time() - begun})
        return found

    def job(self, audit: Audit[Any], model: AuditedModel, seed: int) -> Job:
        """The product that holds one measurement: a filter's is not that of the weights inside."""
        sentence = repr(audit).replace(type(audit).__name__, key_name(audit), 1)
        filtered = getattr(model.model, "looked_for", None) is not None
        spec = repr((sentence, fingerprint(model.bare).hex(), filtered, self.key))
        return Job("reading", spec, seed)

    def seconds(
        self, audits: Sequence[Audit[Any]], model: AuditedModel, seed: int
    ) -> dict[str, float]:
        """Processor seconds that each cached measurement of a model took, by audit."""
        jobs = {repr(audit): self.job(audit, model, seed) for audit in audits}
        there = {name: self.store.about(job) for name, job in jobs.items() if self.store.has(job)}
        return {name: float(about.get(SECONDS, 0.0)) for name, about in there.items()}


def stored(found: Measurement) -> dict[str, object]:
    """A measurement as JSON holds it."""
    plain = {"values": found.values.tolist(), "index": found.index.tolist()}
    names = ("groups", "cost", "examples", "curve", "details")
    return {**plain, **{STORED.get(name, name): getattr(found, name) for name in names}}


def restored(about: Mapping[str, Any]) -> Measurement:
    """The measurement that JSON held."""
    return Measurement(
        np.array(about["values"], np.float64),
        np.array(about["index"], np.int64),
        tuple(about["groups"]),
        about["cost"],
        tuple((prompt, text) for prompt, text in about["drawn"]),
        tuple((at, mean) for at, mean in about["curve"]),
        about["also"],
    )


def distinct(models: Sequence[nn.Module]) -> list[nn.Module]:
    """The models without those that equal one before bit for bit: a copy is no second model."""
    seen: dict[bytes, nn.Module] = {}
    for model in models:
        seen.setdefault(fingerprint(model), model)
    return list(seen.values())


def fingerprint(model: nn.Module) -> bytes:
    """A hash of all weights and buffers: equal models have equal ones."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.digest()
