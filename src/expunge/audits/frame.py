"""The frame of audits: every model measured alike, on a copy, and compared with retrained ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from expunge.audits.audit import Audit, Scene
from expunge.audits.finding import Finding, judge, unfit
from expunge.core.batch import Tokens, all_targets, holds_tokens
from expunge.core.problem import Problem
from expunge.core.seeds import isolated
from expunge.engine.check import refuse_broken
from expunge.engine.run import frozen, shapes
from expunge.errors import BadData, BadEvidence, Diverged, Unsupported

Models = Sequence[nn.Module]


def run_audit(
    audit: Audit,
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
        subjects: unlearned models, one a member.
        oracles: models retrained without the forget set; the first is set aside as the yardstick
            that audits may look at, and the others, at least two, are compared with.
        originals: models trained on all; one, or one a member.
        problem: gives the sets, closed ones too.
        seed: all that the audit draws follows from it.
        margin: the smallest effect that matters; the audit's own unless given.
        alpha: level of the tests.

    Raises:
        BadEvidence: too few models, models that do not fit each other, a value that is not finite.
        Diverged: a model with NaN or infinite weights.
    """
    rows = {"subjects": subjects}
    found = run_audits(
        (audit,), rows, oracles, originals, problem, seed=seed, margin=margin, alpha=alpha
    )
    return found["subjects"][0]


def run_audits(
    audits: Sequence[Audit],
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
    groups = {"oracles": oracles, "originals": originals, **rows}
    check_models(groups, problem)
    yardstick, *others = map(frozen, distinct(oracles))
    original, own = frozen(originals[0]), distinct(originals)
    subjects = {name: distinct(models) for name, models in rows.items()}
    found: dict[str, list[Finding]] = {name: [] for name in rows}
    for audit in audits:
        scene = Scene(problem, original, yardstick, seed)
        if reason := why_not(audit, scene):
            for name in rows:
                found[name].append(unfit(audit, reason))
            continue
        anchors = measured(audit, others, scene), measured(audit, own, scene)
        for name, models in subjects.items():
            values = measured(audit, models, scene)
            kept = {"grain": audit.grain(scene), "margin": margin, "alpha": alpha}
            found[name].append(judge(audit, values, *anchors, **kept))  # type: ignore[arg-type]
    return {name: tuple(findings) for name, findings in found.items()}


def why_not(audit: Audit, scene: Scene) -> str:
    """Why an audit cannot be carried out here, as a clause; empty if it can.

    Tried on the scene's original, so that one audit without its set does not end all others.
    """
    if holds_tokens(scene.data("forget")) and not audit.reads_texts:
        return "it reads classes, and texts have none"
    if reason := audit.unfit(scene.problem):
        return reason
    try:
        measure(audit, scene.original, scene)
    except (BadData, Unsupported) as fault:
        return str(fault).rstrip(".")
    return ""


def measured(audit: Audit, models: Models, scene: Scene) -> tuple[float, ...]:
    """The number of each model, from a copy of its own.

    Raises:
        BadEvidence: a number that is not finite.
    """
    return tuple(measure(audit, model, scene) for model in models)


def measure(audit: Audit, model: nn.Module, scene: Scene) -> float:
    """The number of one model; the model is copied, and the global generator left as it was.

    Raises:
        BadEvidence: the number is not finite.
    """
    # The same draws for every model: what a model draws at random must not tell them apart.
    with isolated("audit", scene.seed, repr(audit)):
        value = float(audit.measure(frozen(model), scene))
    if not math.isfinite(value):
        raise BadEvidence(
            f"{audit!r} gives {value} for a model; its answers became infinite or not a number. "
            "Lower the learning rate of the audit, or leave the model out."
        )
    return value


def distinct(models: Models) -> list[nn.Module]:
    """The models without those that equal one before in every bit: a copy is no second witness."""
    seen: dict[bytes, nn.Module] = {}
    for model in models:
        seen.setdefault(fingerprint(model), model)
    return list(seen.values())


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


def fingerprint(model: nn.Module) -> bytes:
    """A hash of all weights and buffers: equal models have equal ones."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.digest()
