"""A problem: what must be forgotten, from which model, and by which recipe it was trained."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from expunge.core.batch import (
    Data,
    Indexed,
    Joined,
    Subset,
    Tensors,
    all_targets,
    as_data,
    check_indices,
    holds_tokens,
)
from expunge.core.method import Method
from expunge.core.seeds import isolated
from expunge.errors import BadData, OffLimits, Unsupported, did_you_mean

OPEN_SETS = ("train", "forget", "retain", "val")


CLOSED_SETS = ("test", "holdout")


@dataclass(frozen=True, eq=False)
class Problem:
    """Named sets of examples with the model's architecture and training recipe.

    Args:
        name: what tables call it.
        sets: "train" = "forget" and "retain" together; "val", "test", "holdout" where there are.
        architecture: makes an untrained model; needed for oracles and for `Reset` of layers that
            cannot reset themselves.
        recipe: how the original was trained on the set "train"; needed for oracles.
        classes: the classes' names, where they have any.

    Raises:
        BadData: no forget or retain example, an example in both, or a set of an unknown name.
    """

    name: str
    sets: Mapping[str, Data]
    architecture: Callable[[], nn.Module] | None = None
    recipe: Method | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.sets:
            if name not in OPEN_SETS + CLOSED_SETS:
                hint = did_you_mean(name, OPEN_SETS + CLOSED_SETS)
                raise BadData(f"No set is called {name!r}.{hint}")
        for name in ("forget", "retain"):
            if name not in self.sets or len(self.sets[name]) == 0:
                raise BadData(f"The {name} set is empty; expected at least one example.")
        _refuse_overlap(self.sets["forget"], self.sets["retain"])

    @classmethod
    def of(cls, *, forget: Any, retain: Any, name: str = "mine", **rest: Any) -> Problem:
        """A problem from a forget and a retain set, each tensors (x, y), a Dataset or Data.

        `rest` may hold further sets (val, test, holdout), architecture, recipe and classes.
        """
        sets = {"forget": as_data(forget), "retain": as_data(retain)}
        sets["train"] = Joined(sets["retain"], sets["forget"])
        return cls(name, sets | _further_sets(rest), **rest)

    @classmethod
    def split(cls, train: Any, forget: Any, *, name: str = "mine", **rest: Any) -> Problem:
        """A problem from a training set and the rows of it that must be forgotten."""
        data = as_data(train)
        rows = check_indices(forget, len(data))
        kept = torch.ones(len(data), dtype=torch.bool)
        kept[rows] = False
        sets: dict[str, Data] = {"train": data, "forget": Subset(data, rows)}
        sets["retain"] = Subset(data, kept.nonzero().flatten())
        return cls(name, sets | _further_sets(rest), **rest)

    def data(self, name: str) -> Data:
        """A set that methods may see.

        Raises:
            OffLimits: the set is for measuring only.
            BadData: there is no such set.
        """
        if name in CLOSED_SETS:
            raise OffLimits(
                f"A method asked for the set {name!r}, which is for measuring only. "
                f"Methods may read {', '.join(n for n in OPEN_SETS if n in self.sets)}."
            )
        if name not in self.sets:
            hint = did_you_mean(name, self.sets)
            raise BadData(f"{self.name} has no set {name!r}; it has {', '.join(self.sets)}.{hint}")
        return self.sets[name]

    def with_sets(self, sets: Mapping[str, Data]) -> Problem:
        """The same problem with other sets."""
        return replace(self, sets=sets)

    @property
    def class_count(self) -> int:
        """One more than the largest class among the training examples, or the named classes."""
        return max(len(self.classes), int(all_targets(self.sets["retain"]).max()) + 1)

    @property
    def class_wise(self) -> bool:
        """Whether whole classes are to be forgotten: none of theirs is in the retain set."""
        gone, kept = (all_targets(self.sets[name]) for name in ("forget", "retain"))
        return not bool(torch.isin(gone, kept).any())

    def untrained(self, *names: object) -> nn.Module:
        """A freshly initialised model, drawn from the stream of these names."""
        if self.architecture is None:
            raise Unsupported(
                f"{self.name} has no architecture, so no model can be made from nothing. "
                "Give Problem an architecture: a function that returns an untrained model."
            )
        with isolated(*names):
            return self.architecture()


def _further_sets(rest: dict[str, Any]) -> dict[str, Data]:
    """The sets for measuring among some keywords; what is left are fields of a `Problem`."""
    sets = {}
    for known in ("val", *CLOSED_SETS):
        if (given := rest.pop(known, None)) is not None:
            sets[known] = as_data(given)
    fields = ("architecture", "recipe", "classes")
    for name in rest:
        if name not in fields:
            known_names = ("forget", "retain", "val", *CLOSED_SETS, *fields)
            raise BadData(
                f"A problem takes no {name!r}; it takes {', '.join(known_names)}."
                f"{did_you_mean(name, known_names)}"
            )
    return sets


def reinitialised(model: nn.Module, *names: object) -> nn.Module:
    """A copy of a model with every layer initialised again by its own `reset_parameters`.

    Raises:
        Unsupported: a layer with weights of its own cannot reset itself.
    """
    fresh = copy.deepcopy(model)
    with isolated(*names):
        for name, module in fresh.named_modules():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif own:
                raise Unsupported(
                    f"Layer {name or 'model'} ({type(module).__name__}) has no reset_parameters; "
                    "give Problem an architecture, and weights can be drawn from it."
                )
    return fresh


def _refuse_overlap(forget: Data, retain: Data) -> None:
    """Refuse an example in both sets: a text, an image with its class, or a row of one dataset.

    Raises:
        BadData: saying how many are in both.
    """
    if forget is retain or _examples(forget) is _examples(retain):
        raise BadData("The forget set and the retain set are the same object.")
    if keys := _texts(forget) & _texts(retain):
        raise BadData(
            f"{len(keys)} texts are in the forget set and in the retain set; what shall be "
            "forgotten cannot be retained. Take them out of one of the two."
        )
    if isinstance(forget, Subset) and isinstance(retain, Subset) and forget.base is retain.base:
        both = int(torch.isin(forget.index, retain.index).sum())
    else:
        both = len(_images(forget) & _images(retain))
    if both:
        raise BadData(
            f"{both} examples are in the forget set and in the retain set; what shall be "
            "forgotten cannot be retained. Take them out of one of the two."
        )


def _images(data: Data) -> frozenset[bytes]:
    """A digest of each image with its class, for tensors in memory; else empty.

    A dataset that is read by index is not read for it: it may be larger than memory.
    """
    if not isinstance(data, Tensors) or data.inputs.device.type != "cpu":
        return frozenset()
    signs = data.inputs.detach().reshape(len(data), -1).contiguous().view(torch.uint8).numpy()
    return frozenset(
        hashlib.blake2b(row.tobytes() + str(target).encode(), digest_size=16).digest()
        for row, target in zip(signs, data.targets.tolist(), strict=True)
    )


def _texts(data: Data) -> frozenset[object]:
    """A key of each text of a set in memory; empty for images."""
    if isinstance(data, Subset) and callable(whole := getattr(data.base, "keys", None)):
        found = whole()
        return frozenset(found[row] for row in data.index.tolist())
    keys = getattr(data, "keys", None)
    return frozenset(keys()) if holds_tokens(data) and callable(keys) else frozenset()


def _examples(data: Data) -> object:
    """What the examples are read from, the same object for two wrappers of one dataset."""
    if isinstance(data, Tensors):
        return data.inputs
    return data.dataset if isinstance(data, Indexed) else data


def network_spec(problem: Problem) -> str:
    """Describe a network as text: its layers, and for modules of a user's own what they answer.

    Two modules may hold the same layers and use them differently, and a repr does not say how. So
    an untrained network answers a few examples; rounded, since machines differ in the last digits.
    """
    network = problem.untrained("spec").eval()
    kinds = {type(module).__module__.partition(".")[0] for module in network.modules()}
    if kinds <= {"torch", "expunge"}:
        return repr(network)
    few = problem.sets["retain"].batch(torch.arange(min(len(problem.sets["retain"]), 4)))
    with torch.inference_mode():
        answers = few.logits(network)
    return f"{network!r} -> {[round(float(a), 2) for a in answers.flatten()[:64]]}"
