"""Traces: that something was unlearned, and what; findings on exposure, no evidence of a fact.

A model from which everything is gone leaves traces too: whoever holds the model from before, or
asks both, sees what fell. Retraining is no exception, so that its reading stands beside.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.controls import bare
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.audits.weights import refuse_other_shapes
from expunge.core.texts import Texts
from expunge.core.vocabulary import word
from expunge.engine.inference import likelihoods
from expunge.problems.text.benchmarks.files import Item

SMALLEST = 1e-12


@word
class Fallen(FactAudit):
    """Which facts lost most from before to after: facts to be forgotten among facts kept.

    An attacker who asks the model before and after ranks facts by how far the log-probability of
    their values fell. A value is the share of kept facts that fell less, half of those that fell
    alike, so that the mean is the area under the ROC curve: 0.5 tells nothing, 1 tells all.

    Args:
        kept: how many kept facts are ranked with, of the same kinds where there are enough.

    Source: Chen et al., When Machine Unlearning Jeopardizes Privacy, arXiv 2005.02205, for the
    attack on the pair of models.
    """

    family: ClassVar[Family] = "traces"
    unit: ClassVar[str] = "share of kept facts that fell less"
    decisive: ClassVar[bool] = False
    kept: int = 200

    def check(self) -> None:
        within("Fallen", "kept", self.kept, 1, 1_000_000)

    def unfit(self, context: FactContext) -> str:
        return "" if context.problem.retain else "no fact was to be kept"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        texts = kept_cues(context, self.kept)
        before = context.once(
            (self, "kept"), lambda: facts.probability(bare(context.original), texts)
        )
        after = facts.probability(subject.model, texts)
        fell = _fall(facts.anchors(context)[1], facts.known(subject, context))
        values = ranked(fell, _fall(before, after))
        cost = {"queries": 2.0 * (len(fell) + len(texts))}
        prompts = [item.prompt for item in context.problem.forget]
        told = [f"{halves[1]} fell by {by:.2g} nats a token" for halves, by in _with(context, fell)]
        return facts.measurement(
            context.problem.forget, values, cost=cost, examples=facts.telling(prompts, told, values)
        )


@word
class Guessed(FactAudit):
    """Which of several values the pair of models gives away: the true one among wrong ones.

    Of all candidate answers to a question, an attacker takes the one whose likelihood fell most. A
    value is the share of wrong answers that fell less, half of those that fell alike.

    Args:
        wrong: the most wrong answers of each fact, in the order of `Item.wrong`.

    Source: as for `Fallen`; candidates as in Maini et al., TOFU, arXiv 2401.06121.
    """

    family: ClassVar[Family] = "traces"
    unit: ClassVar[str] = "share of wrong values that fell less"
    decisive: ClassVar[bool] = False
    wrong: int = 5

    def check(self) -> None:
        within("Guessed", "wrong", self.wrong, 1, 1000)

    def unfit(self, context: FactContext) -> str:
        return (
            ""
            if any(item.wrong for item in context.problem.forget)
            else "no fact has wrong answers"
        )

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        items = [item for item in context.problem.forget if item.wrong]
        sizes = [len(self._candidates(item)) for item in items]
        texts: Texts = context.once((self, "texts"), lambda: self._texts(items, context))
        before = context.once(
            (self, "before"), lambda: facts.probability(bare(context.original), texts)
        )
        facts.refuse_foreign(subject.model, texts)
        fell = _fall(before, facts.probability(subject.model, texts))
        parts = np.split(fell, np.cumsum(sizes)[:-1])
        values = [float(ranked(part[:1], part[1:])[0]) for part in parts]
        return facts.measurement(items, values, cost={"queries": 2.0 * len(fell)})

    def _candidates(self, item: Item) -> tuple[str, ...]:
        """The true answer first, in the form of the wrong ones where there is one."""
        truth = item.paraphrases[0] if item.paraphrases else item.answer
        return (truth, *item.wrong[: self.wrong])

    def _texts(self, items: Sequence[Item], context: FactContext) -> Texts:
        said = [
            Item(place, item.prompt, answer)
            for place, item in enumerate(items)
            for answer in self._candidates(item)
        ]
        return facts.lessons(said, context)


@word
class Aligned(FactAudit):
    """Which facts the change of weights goes against: facts to be forgotten among facts kept.

    An attacker who holds the weights before and after ranks facts by how far, to first order, the
    change raised their loss: the sum of loss gradients, at the original, times the change. A value
    is the share of kept facts of a smaller rise. Beside it stands where the change lies.

    Args:
        kept: how many kept facts are ranked with; each costs a backward pass.
        top: share of the weights that changed most, of which the share of the change is told.
    """

    family: ClassVar[Family] = "traces"
    unit: ClassVar[str] = "share of kept facts whose loss rose less"
    decisive: ClassVar[bool] = False
    kept: int = 60
    top: float = 0.01

    def check(self) -> None:
        within("Aligned", "kept", self.kept, 1, 1_000_000)
        within("Aligned", "top", self.top, 1e-9, 1)

    def unfit(self, context: FactContext) -> str:
        return "" if context.problem.retain else "no fact was to be kept"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        change = changed(subject, context)
        texts: Texts = context.once("cued", lambda: facts.cued(context.problem.forget, context))
        rose = rises(bare(context.original), texts, change)
        kept = rises(bare(context.original), kept_cues(context, self.kept), change)
        cost = {"gradients": float(len(rose) + len(kept))}
        values = ranked(rose, kept)
        return facts.measurement(
            context.problem.forget, values, cost=cost, details=_where(change, self.top)
        )


@word
class Detected(FactAudit):
    """Whether a classifier tells the model from a retrained one by how it answers.

    A logistic regression reads what both models make of a fact's value: mean and least
    log-probability, mean entropy, and the share of tokens that come first. It is trained on facts
    of some subjects and asked of others', in turns. A value is the share of right guesses between
    the two models on that fact: 0.5 tells nothing.

    Args:
        folds: parts that subjects are dealt into.

    Source: Chen et al., Unlearning Isn't Invisible, arXiv 2506.14003, for detection from outputs.
    """

    family: ClassVar[Family] = "traces"
    unit: ClassVar[str] = "share of right guesses"
    decisive: ClassVar[bool] = False
    folds: int = 5

    def check(self) -> None:
        within("Detected", "folds", self.folds, 2, 1000)

    def unfit(self, context: FactContext) -> str:
        count = len({item.subject for item in context.problem.forget})
        return "" if count >= self.folds else f"{count} subjects do not fill {self.folds} folds"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        texts: Texts = context.once(
            "answers", lambda: facts.lessons(context.problem.forget, context)
        )
        facts.refuse_foreign(subject.model, texts)
        theirs = context.once("features", lambda: features(bare(context.oracle), texts))
        ours = np.asarray(subject.once(("features", context), lambda m: features(m, texts)))
        values = self._guessed(ours, np.asarray(theirs), context)
        return facts.measurement(context.problem.forget, values, cost={"queries": 2.0 * len(texts)})

    def _guessed(self, ours: Values, theirs: Values, context: FactContext) -> Values:
        """Of each fact, the share of right guesses, float64 [fact]."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        fold = self._dealt(context)
        right = np.zeros(len(ours))
        for part in range(self.folds):
            seen, asked = fold != part, fold == part
            learnt = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            target = np.repeat([1, 0], int(seen.sum()))
            learnt.fit(np.concatenate([ours[seen], theirs[seen]]), target)
            hits = (learnt.predict(ours[asked]) == 1) * 1.0 + (learnt.predict(theirs[asked]) == 0)
            right[asked] = hits / 2
        return right

    def _dealt(self, context: FactContext) -> NDArray[np.int64]:
        """The part of each fact, int64 [fact]; facts of one subject are in one."""
        there = list(dict.fromkeys(item.subject for item in context.problem.forget))
        order = torch.randperm(len(there), generator=context.stream("folds")).tolist()
        part = {there[place]: turn % self.folds for turn, place in enumerate(order)}
        return np.array([part[item.subject] for item in context.problem.forget], dtype=np.int64)


def kept_cues(context: FactContext, count: int) -> Texts:
    """Kept facts as cues; the same for all models."""
    found: Texts = context.once(
        ("kept", count), lambda: facts.cued(kept_facts(context, count), context)
    )
    return found


def kept_facts(context: FactContext, count: int) -> tuple[Item, ...]:
    """Kept facts, of the kinds that were to be forgotten first; the same for all models."""
    kinds = {item.kind for item in context.problem.forget}
    there = [item for item in context.problem.retain if item.prompt] or list(context.problem.retain)
    order = torch.randperm(len(there), generator=context.stream("kept", count)).tolist()
    drawn = sorted((there[place] for place in order), key=lambda item: item.kind not in kinds)
    return tuple(drawn[:count])


def ranked(forget: Values, kept: Values) -> Values:
    """For each forget fact the share of kept ones below it, half of those alike, float64 [fact]."""
    below = (kept[None] < forget[:, None]).mean(1)
    alike: Values = (kept[None] == forget[:, None]).mean(1)
    return np.asarray(below + alike / 2, dtype=np.float64)


def changed(subject: AuditedModel, context: FactContext) -> dict[str, torch.Tensor]:
    """The weights after, less those before."""
    before, after = dict(bare(context.original).named_parameters()), subject.bare.named_parameters()
    refuse_other_shapes(subject.bare, context.original)
    return {name: (weight - before[name].to(weight)).detach() for name, weight in after}


def rises(model: nn.Module, texts: Texts, change: dict[str, torch.Tensor]) -> Values:
    """How far a change of weights raises each row's mean loss, to first order, float64 [row].

    The sum of the loss's gradients times the change. The model is not changed.
    """
    private = copy.deepcopy(model).requires_grad_(True)
    named, found = dict(private.named_parameters()), []
    device = next(private.parameters()).device
    for row in range(len(texts)):
        with torch.enable_grad():
            batch = texts.batch(torch.tensor([row])).to(device)
            logits, targets = batch.logits(private)[0], batch.targets[0]
            loss = nn.functional.cross_entropy(logits, targets, ignore_index=-100)
            weights = list(named.values())
            slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
        parts = [(slope * change[name]).sum() for slope, name in zip(slopes, named, strict=True)]
        found.append(float(torch.stack(parts).sum()))
    return np.array(found, dtype=np.float64)


def features(model: nn.Module, texts: Texts) -> Values:
    """What a model makes of each row: log-probabilities, entropy, hits, float64 [row, 4]."""
    found = likelihoods([model], texts, batch=facts.rows_at_once(model, texts))
    count = found.scored.sum(1)
    least = np.where(found.scored, found.logprobs[0], np.inf).min(1)
    means = [part[0].sum(1) / count for part in (found.logprobs, found.means, found.hits)]
    return np.stack([*means, least], axis=1).astype(np.float64)


def _fall(before: Values, after: Values) -> Values:
    """How far log-probabilities fell, nats a token, float64 [fact]."""
    return np.asarray(np.log(before + SMALLEST) - np.log(after + SMALLEST), dtype=np.float64)


def _with(context: FactContext, fell: Values) -> list[tuple[tuple[str, str], float]]:
    return [
        (facts.halves(item), float(by))
        for item, by in zip(context.problem.forget, fell, strict=True)
    ]


def _where(change: dict[str, torch.Tensor], top: float) -> dict[str, float]:
    """Where a change of weights lies: in how few weights, and in how few matrices."""
    sizes = torch.cat([part.double().square().flatten() for part in change.values()])
    whole = float(sizes.sum()) or 1.0
    count = max(1, round(top * len(sizes)))
    parts = [float(part.double().square().sum()) / whole for part in change.values()]
    return {
        "length of the change": float(sizes.sum().sqrt()),
        f"share of the change in {top:g} of the weights": float(sizes.topk(count).values.sum())
        / whole,
        "share of the change in one tensor": max(parts),
    }
