"""What an audit of classifiers is, and how its values of all models are compared."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from expunge.audits.audit import (
    ASKING,
    ORACLE,
    ORIGINAL,
    Audit,
    AuditedModel,
    Context,
    Measurement,
    Measurements,
    distinct,
    fingerprint,
    run_audits,
)
from expunge.audits.finding import Finding, judge, unfit
from expunge.core.batch import Batch, Data, Subset, Tokens, all_targets, holds_tokens
from expunge.core.problem import Problem
from expunge.core.seeds import isolated
from expunge.engine.check import refuse_broken
from expunge.engine.run import frozen, shapes
from expunge.errors import BadData, BadEvidence, Diverged, Unsupported

CHUNK = 512


ImageContext = Context[Problem]


class ClassifierAudit(Audit[Problem]):
    """An audit of classifiers that ends in one number; abstract.

    It gets a private copy in evaluation mode, on which anything may be done, and draws from a
    stream of its own. One that needs nothing but probabilities `reads_texts` too.
    """

    reads_texts: ClassVar[bool] = False

    @abstractmethod
    def measure(self, model: nn.Module, context: ImageContext) -> float:
        """The number of one model; the model is the audit's own to change."""

    def grain(self, context: ImageContext) -> float:
        """What the number is rounded to, by its nature; 0 for none."""
        return 0.0

    def mismatch(self, problem: Problem) -> str:
        """Why the audit makes no sense on a problem, as a clause; empty if it does."""
        return ""

    def unfit(self, context: ImageContext) -> str:
        """Why the audit cannot run here, as a clause; empty if it can.

        It is tried on the original, so that one audit without its set does not end all others.
        """
        if holds_tokens(examples(context, "forget")) and not self.reads_texts:
            return "it reads classes, and texts have none"
        if reason := self.mismatch(context.problem):
            return reason
        try:
            self(AuditedModel("original", context.original), context)
        except (BadData, Unsupported) as fault:
            return str(fault).rstrip(".")
        return ""

    def __call__(self, model: AuditedModel, context: ImageContext) -> Measurement:
        """Measure a copy of one model; the global generator is left as it was.

        Raises:
            BadEvidence: the number is not finite.
        """
        copy = frozen(model.model) if self.family == ASKING else model.copy()
        # The same draws for every model: what a model draws at random must not tell them apart.
        with isolated("audit", context.seed, repr(self)):
            value = float(self.measure(copy, context))
        if not math.isfinite(value):
            raise BadEvidence(
                f"{self!r} gives {value} for a model; its answers became infinite or not a number. "
                "Lower the learning rate of the audit, or leave the model out."
            )
        whole = np.array([value]), np.zeros(1, np.int64), ("forget set",)
        return Measurement(*whole, grain=self.grain(context))


def measure(audit: ClassifierAudit, model: nn.Module, context: ImageContext) -> float:
    """The number of one model; the model is copied."""
    return audit(AuditedModel("model", model), context).mean


def examples(context: ImageContext, name: str) -> Data:
    """Any set of the problem, off-limits ones too: audits only measure.

    Raises:
        BadData: there is no such set, or it holds no example.
    """
    data = context.problem.sets.get(name)
    if data is None or len(data) == 0:
        there = ", ".join(context.problem.sets)
        raise BadData(
            f"The audit reads the set {name!r}, which is missing or empty in "
            f"{context.problem.name}; there are {there}."
        )
    return data


def split_forget(context: ImageContext, share: float) -> tuple[Subset, Subset]:
    """Two disjoint parts of the forget set: a random share that is taught, and the rest.

    With a share of 1 both are the whole set. Audits of one share and seed split it alike.

    Raises:
        BadData: one of the parts would be empty.
    """
    forget = examples(context, "forget")
    order = torch.randperm(len(forget), generator=context.stream("parts", share))
    if share == 1:
        return Subset(forget, order), Subset(forget, order)
    count = round(share * len(forget))
    if count == len(forget) or (count == 0 and share > 0):
        raise BadData(
            f"A share of {share} of {len(forget)} forget examples leaves one part empty; "
            "forget more examples, or take another share."
        )
    return Subset(forget, order[:count].sort().values), Subset(forget, order[count:])


def batches(data: Data) -> list[Batch]:
    """A whole set in minibatches, in order."""
    return [data.batch(rows) for rows in torch.arange(len(data)).split(CHUNK)]


@torch.no_grad()
def logits_on(model: nn.Module, data: Data) -> Tensor:
    """Logits of a model on a whole set in evaluation mode, float32 [n, k], on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    found = [batch.to(device).logits(model).float().cpu() for batch in batches(data)]
    return torch.cat(found)


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest logit is that of their class."""
    return float((logits.argmax(-1) == targets).double().mean())


def confidence(logits: Tensor, targets: Tensor) -> float:
    """Mean probability of the right class."""
    return float((logits.double().softmax(-1) * one_hot(targets, logits.shape[-1])).sum(-1).mean())


def accuracy_on(model: nn.Module, data: Data) -> float:
    """Share of a set that a model answers correctly."""
    return accuracy(logits_on(model, data), all_targets(data))


def confidence_on(model: nn.Module, data: Data) -> float:
    """Mean probability of the right class on a set; of texts, of the answers' tokens."""
    if holds_tokens(data):
        # transformers is not loaded for audits of images
        from expunge.engine.inference import likelihoods
        from expunge.metrics.text.likelihood import probability

        return float(probability(likelihoods([model], data).answers(0)).mean())
    return confidence(logits_on(model, data), all_targets(data))


Models = Sequence[nn.Module]


def run_audit(
    audit: ClassifierAudit,
    subjects: Models,
    oracles: Models,
    originals: Models,
    problem: Problem,
    *,
    seed: int = 0,
    margin: float | None = None,
    alpha: float = 0.05,
) -> Finding:
    """Return what one audit finds in one group of models.

    Args:
        audit: a word of this room.
        subjects: unlearned models, one a seed.
        oracles: models retrained without the forget set; the first is set aside for the audit to
            look at, and the others, at least two, are compared with.
        originals: models trained on all; one, or one a seed.
        problem: gives the sets, off-limits ones too.
        seed: all that the audit draws follows from it.
        margin: the smallest effect that matters; the audit's own unless given.
        alpha: level of the tests.

    Raises:
        BadEvidence: too few models, models that do not fit each other, a value that is not finite.
        Diverged: a model with NaN or infinite weights.
    """
    rows = {"subjects": subjects}
    found = audit_rows(
        (audit,), rows, oracles, originals, problem, seed=seed, margin=margin, alpha=alpha
    )
    return found["subjects"][0]


def audit_rows(
    audits: Sequence[ClassifierAudit],
    rows: Mapping[str, Models],
    oracles: Models,
    originals: Models,
    problem: Problem,
    *,
    seed: int = 0,
    margin: float | None = None,
    alpha: float = 0.05,
) -> dict[str, tuple[Finding, ...]]:
    """Return what several audits find in several groups: a method and its controls, alike.

    Args:
        audits: no two alike.
        rows: name -> models, such as {"retrain": held-out retrained models, "nothing": originals,
            "sham": ..., "finetune": ...}; oracles and originals are measured once for all.
        oracles, originals, problem, seed, margin, alpha: as for `run_audit`.

    Returns:
        Name of a group -> one finding an audit, in their order.

    Raises:
        BadEvidence, Diverged: as for `run_audit`.
    """
    check_models({"oracles": oracles, "originals": originals, **rows}, problem)
    oracle, *others = distinct(oracles)
    context = ImageContext(problem, frozen(originals[0]), frozen(oracle), seed)
    groups = {ORACLE: others, ORIGINAL: distinct(originals)}
    groups |= {f"row {name}": distinct(models) for name, models in rows.items()}
    models = {
        f"{role} {number}": AuditedModel(f"{role} {number}", model)
        for role, group in groups.items()
        for number, model in enumerate(group, 1)
    }
    found: dict[str, list[Finding]] = {name: [] for name in rows}
    for one in run_audits(audits, models, context):
        for name, findings in found.items():
            findings.append(_finding(one, f"row {name}", margin, alpha))
    return {name: tuple(findings) for name, findings in found.items()}


def _finding(one: Measurements, row: str, margin: float | None, alpha: float) -> Finding:
    """What one audit found in one group."""
    if one.reason:
        return unfit(one.audit, one.reason)
    names = one.role(row), one.role(ORACLE), one.role(ORIGINAL)
    subject, oracle, original = ([one.models[name].mean for name in some] for some in names)
    grain = one.models[names[0][0]].grain
    return judge(one.audit, subject, oracle, original, grain=grain, margin=margin, alpha=alpha)


def check_models(groups: Mapping[str, Models], problem: Problem) -> None:
    """Refuse models that cannot be compared, or that cannot answer the problem's examples.

    Raises:
        BadEvidence: an empty group, fewer than three distinct oracles, other layers than the
            first original's, answers that are not one score a class.
        Diverged: NaN or infinite weights.
    """
    for name, models in groups.items():
        if not len(models):
            raise BadEvidence(f"The group {name!r} holds no model; expected at least one.")
    _check_oracles(groups)
    first = shapes(groups["originals"][0])
    for name, models in groups.items():
        for place, model in enumerate(models):
            who = f"Model {place} of {name!r}"
            refuse_broken(model, who)
            if shapes(model) != first:
                raise BadEvidence(
                    f"{who} has other layers than the first original: "
                    f"{_difference(first, shapes(model))}. An audit compares models of one kind."
                )
    _check_answers(groups["originals"][0], problem)


def _check_oracles(groups: Mapping[str, Models]) -> None:
    """Refuse too few oracles, and subjects that are oracles."""
    oracles = {fingerprint(model) for model in groups["oracles"]}
    if len(oracles) < 3:
        raise BadEvidence(
            f"Got {len(oracles)} distinct oracles; expected at least 3: one is the yardstick, and "
            "the spread of the others is what a difference is held against."
        )
    for name, models in groups.items():
        if name != "oracles" and any(fingerprint(model) in oracles for model in models):
            raise BadEvidence(
                f"A model of {name!r} is one of the oracles, and would be compared with itself; "
                "expected held-out retrained models, with seeds of their own."
            )


def _check_answers(model: nn.Module, problem: Problem) -> None:
    """Refuse a model whose answers are not [b, k] with all classes of the problem among k.

    Of texts, whose classes are all tokens, answers must only be finite.
    """
    few = problem.sets["retain"].batch(torch.arange(min(len(problem.sets["retain"]), 2)))
    with torch.no_grad():
        answers = few.to(next(model.parameters()).device).logits(frozen(model))
    if not torch.isfinite(answers).all():
        raise Diverged("The original answers with NaN or infinite logits.")
    if isinstance(few, Tokens):
        return
    classes = max(problem.class_count, int(all_targets(problem.sets["forget"]).max()) + 1)
    if answers.ndim != 2 or answers.shape[1] < classes:
        raise BadEvidence(
            f"The models answer with shape {tuple(answers.shape)} to {len(few)} examples of a "
            f"problem of {classes} classes; expected one score a class."
        )


def _difference(first: Mapping[str, torch.Size], other: Mapping[str, torch.Size]) -> str:
    """The first tensor that two models do not share."""
    names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
    there, here = first.get(names[0]), other.get(names[0])
    said = [tuple(shape) if shape is not None else "missing" for shape in (there, here)]
    return f"{names[0]} is {said[1]} for {said[0]}"
