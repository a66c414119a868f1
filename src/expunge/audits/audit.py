"""What an audit is: called with a model and a context, it gives a measurement, for any modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.audits.controls import bare
from expunge.core.seeds import stream
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
