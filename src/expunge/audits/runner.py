"""The runner: every audit on every model alike, each measurement cached where there is a store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from expunge.audits.audit import Audit, AuditedModel, Context, Measurement, P
from expunge.core.store import Corrupt, Job, Store
from expunge.core.vocabulary import key_name

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
