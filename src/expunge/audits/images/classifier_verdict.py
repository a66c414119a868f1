"""The verdict on classifiers: what is tried, what it costs, and whether a model is broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from expunge.audits.finding import Finding
from expunge.audits.images.answers import ForgetConfidence, NoisyInputs
from expunge.audits.images.classifier_audit import (
    ClassifierAudit,
    ImageContext,
    Models,
    audit_rows,
    logits_on,
)
from expunge.audits.images.probe import LinearProbe, NearestClassCentre
from expunge.audits.images.relearn import (
    Anamnesis,
    PrototypeRelearn,
    Prune,
    Quantise,
    RecoveryArea,
    Relearn,
)
from expunge.audits.verdict import AuditEffect, Verdict, conclude
from expunge.core.batch import all_targets
from expunge.core.problem import Problem
from expunge.engine.run import frozen
from expunge.metrics.agreement import lost_half
from expunge.statistics.recovered import Groups, excludable_recovered
from expunge.statistics.result import Effect

# What every verdict on a classifier rests on, with its budget; what a report prints.
PANEL: tuple[ClassifierAudit, ...] = (
    ForgetConfidence(),
    NoisyInputs(),
    RecoveryArea(Relearn(steps=25, share=0.5)),
    Quantise(bits=4),
    Prune(),
    LinearProbe(),
)


def judge_models(
    rows: Mapping[str, Models],
    oracles: Models,
    originals: Models,
    problem: Problem,
    *,
    audits: Sequence[ClassifierAudit] = PANEL,
    seed: int = 0,
    alpha: float = 0.05,
) -> dict[str, Verdict]:
    """Return a verdict on each row of classifiers: unlearned models of one method.

    Args:
        rows: name -> models.
        oracles: models retrained without the forget set, three at least; the first is a yardstick.
        originals: models trained on all.
        problem: gives the sets, closed ones too.
        audits: what is tried; `ForgetConfidence`, plain asking, among them.
        seed: all that the audits draw follows from it.
        alpha: level of the tests.

    Raises:
        BadEvidence, Diverged: as for `run_audits`; BadEvidence without plain asking.
    """
    found = audit_rows(audits, rows, oracles, originals, problem, seed=seed, alpha=alpha)
    context = ImageContext(problem, frozen(originals[0]), frozen(oracles[0]), seed)
    grains = [audit.grain(context) for audit in audits]
    return {
        name: conclude(
            effects_of(audits, found[name], grains, alpha=alpha),
            collapse=broken(models, oracles, problem),
            alpha=alpha,
        )
        for name, models in rows.items()
    }


def effects_of(
    audits: Sequence[ClassifierAudit],
    findings: Sequence[Finding],
    grains: Sequence[float],
    *,
    alpha: float = 0.05,
) -> list[AuditEffect]:
    """Return what each audit with a say in the verdict says.

    Args:
        audits, findings: what was tried, and what each found.
        grains: what the values of each are rounded to.
        alpha: level of the tests.
    """
    return [
        _effect_of(audit, finding, grain, alpha)
        for audit, finding, grain in zip(audits, findings, grains, strict=True)
        if evidence(audit)
    ]


def evidence(audit: ClassifierAudit) -> bool:
    """Whether an audit has a say in the verdict: it has an anchor in the original, and a family."""
    return audit.anchored and bool(audit.family)


def _effect_of(audit: ClassifierAudit, finding: Finding, grain: float, alpha: float) -> AuditEffect:
    """What one audit says; without power if retrained models themselves would not pass it."""
    effect, powered = finding.effect, False
    if isinstance(effect, Effect):
        groups = Groups(finding.subject, finding.oracle, finding.original, grain)
        powered = excludable_recovered(groups, alpha=alpha) <= effect.margin
    return AuditEffect(
        repr(audit), audit.family, effect, cost_of(audit), plain=audit.plain, powered=powered
    )


def cost_of(audit: ClassifierAudit) -> str:
    """What an audit of a classifier takes, in words; its sentence says the rest."""
    if isinstance(audit, RecoveryArea | Anamnesis):
        return cost_of(audit.relearn)
    if isinstance(audit, Relearn):
        return f"{audit.steps} steps of training on {audit.share:.0%} of the forget set"
    if isinstance(audit, Quantise):
        return f"weights rounded to {audit.bits} bits, once"
    if isinstance(audit, Prune):
        return f"{audit.share:.0%} of the weights set to 0, once"
    if isinstance(audit, LinearProbe | NearestClassCentre):
        return f"a linear classifier on features, with {audit.share:.0%} of the forget set"
    if isinstance(audit, PrototypeRelearn):
        return f"{audit.count} images of each class"
    if isinstance(audit, NoisyInputs):
        return f"{audit.draws} queries an example"
    return "1 query an example"


def broken(models: Models, oracles: Models, problem: Problem) -> str:
    """How the models are broken, as a sentence; empty where they are not, as `breakage` says."""
    data = problem.sets[looked_at(problem)]
    mine, theirs = (
        [kept_accuracy(logits_on(model, data), problem) for model in some]
        for some in (models, oracles)
    )
    return breakage(mine, theirs, problem)


def looked_at(problem: Problem) -> str:
    """The set that tells whether a model is broken: unseen examples, or else the retain set."""
    return "test" if "test" in problem.sets and len(problem.sets["test"]) else "retain"


def kept_accuracy(logits: Tensor, problem: Problem) -> float:
    """Share of the examples of kept classes that are answered rightly.

    Args:
        logits: of one model on the set that is `looked_at`, [n, k].
        problem: gives the classes.
    """
    targets, kept = _kept(problem)
    return float((logits.argmax(-1) == targets)[kept].double().mean())


def breakage(mine: Sequence[float], theirs: Sequence[float], problem: Problem) -> str:
    """How models are broken, as a sentence; empty where they are not.

    They are where, on unseen examples of kept classes (or else on the retain set), they gain less
    than half of what retrained models gain over the best constant answer.

    Args:
        mine, theirs: `kept_accuracy` of each model, and of each retrained one.
        problem: gives the set.
    """
    targets, kept = _kept(problem)
    constant = float(targets[kept].bincount().max() / int(kept.sum()))
    own, usual = sum(mine) / len(mine), sum(theirs) / len(theirs)
    if not lost_half(own, usual, constant):
        return ""
    return (
        f"The model is broken: it answers {own:.1%} of the {looked_at(problem)} set rightly, "
        f"retrained models {usual:.1%}, and one answer to everything {constant:.1%}."
    )


def _kept(problem: Problem) -> tuple[Tensor, Tensor]:
    """The classes of the set that is looked at, and which of its examples are of kept ones."""
    targets = all_targets(problem.sets[looked_at(problem)])
    return targets, torch.isin(targets, all_targets(problem.sets["retain"]).unique())
