"""Relearning: what comes back when a little is taught that does not say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.core.machine import peft
from expunge.core.seeds import isolated
from expunge.core.texts import Texts
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Diverged, Unsupported
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.people import split_facts


class Trained(ABC):
    """Which weights an attacker trains; abstract."""

    @abstractmethod
    def free(self, model: Any, context: FactContext) -> tuple[nn.Module, list[nn.Parameter]]:
        """The model as it is trained, and the weights that may move."""


@word
class AllWeights(Trained):
    """All weights."""

    def free(self, model: Any, context: FactContext) -> tuple[nn.Module, list[nn.Parameter]]:
        return model, list(model.requires_grad_(True).parameters())


@word
class LowRank(Trained):
    """A low-rank adapter in all linear layers but the last; the weights stay.

    Args:
        rank: of the two factors; their product is doubled (alpha is twice the rank).

    Source: Hu et al., LoRA, arXiv 2106.09685; huggingface/peft.
    """

    rank: int = 8

    def check(self) -> None:
        within("LowRank", "rank", self.rank, 1, 100_000)

    def free(self, model: Any, context: FactContext) -> tuple[nn.Module, list[nn.Parameter]]:
        output = model.get_output_embeddings()
        named = model.named_modules()
        chosen = [n for n, m in named if isinstance(m, nn.Linear) and m is not output]
        if not chosen:
            raise Unsupported("The model has no linear layer to put an adapter into.")
        library = peft()
        config = library.LoraConfig(
            r=self.rank, lora_alpha=2 * self.rank, target_modules=chosen, lora_dropout=0.0
        )
        with isolated("text audit", context.seed, "adapter"):
            adapted = library.LoraModel(model, config, "default")
        return adapted, [weight for weight in adapted.parameters() if weight.requires_grad]


def turns(count: int, batch: int, steps: int, draws: torch.Generator) -> list[Tensor]:
    """Which of `count` rows each step reads, int64 [<= batch]; each row once before any twice."""
    found: list[Tensor] = []
    while len(found) < steps:
        found += torch.randperm(count, generator=draws).split(batch)
    return found[:steps]


@torch.enable_grad()
def training(
    model: nn.Module,
    weights: Sequence[nn.Parameter],
    texts: Texts,
    rows: Sequence[Tensor],
    lr: float,
) -> Iterator[int]:
    """Train in place with AdamW, without weight decay; yield the number of steps so far, from 1.

    The model stays in evaluation mode: dropout would draw from the global generator. Training ends
    early where the loss is no number any more.
    """
    optimiser = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0)
    device = next(model.parameters()).device
    for step, chosen in enumerate(rows, 1):
        batch = texts.batch(chosen).to(device)
        logits = batch.logits(model.eval())
        loss = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)
        if not torch.isfinite(loss):
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield step


# (steps, values) of one course of lessons, from before the first one on.
Course = list[tuple[int, Values]]


class Lessons(ABC):
    """What is taught, and which forget facts are measured, none of which is told; abstract."""

    @abstractmethod
    def taught(self, context: FactContext) -> tuple[Item, ...]:
        """The items that are taught; empty where a case has none."""

    @abstractmethod
    def measured(self, context: FactContext) -> tuple[Item, ...]:
        """The forget facts that are measured."""


@word
class OtherFacts(Lessons):
    """A part of the facts of each subject; its other facts are measured.

    For facts that do not imply one another, as those of invented people; where they do, take
    `OtherSubjects`.

    Args:
        share: of each subject's facts that are taught.

    Source: Deeb and Roger, Do Unlearning Methods Remove Information from Language Model Weights?,
    arXiv 2410.08827.
    """

    share: float = 0.5

    def check(self) -> None:
        within("OtherFacts", "share", self.share, 1e-9, 1 - 1e-9)

    def taught(self, context: FactContext) -> tuple[Item, ...]:
        return self._parts(context)[0]

    def measured(self, context: FactContext) -> tuple[Item, ...]:
        return self._parts(context)[1]

    def _parts(self, context: FactContext) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
        """Facts of subjects that have one only are left out."""
        subjects = [item.subject for item in context.problem.forget]
        several = [
            item
            for item in context.problem.forget
            if item.subject and subjects.count(item.subject) > 1
        ]
        return split_facts(several, self.share, context.seed) if several else ((), ())


@word
class OtherSubjects(Lessons):
    """All facts of some subjects; those of the others are measured.

    Args:
        share: of the subjects that are taught; items about nobody are a subject each.
    """

    share: float = 0.5

    def check(self) -> None:
        within("OtherSubjects", "share", self.share, 1e-9, 1 - 1e-9)

    def taught(self, context: FactContext) -> tuple[Item, ...]:
        chosen = self._chosen(context)
        return tuple(item for item in context.problem.forget if _about(item) in chosen)

    def measured(self, context: FactContext) -> tuple[Item, ...]:
        chosen = self._chosen(context)
        return tuple(item for item in context.problem.forget if _about(item) not in chosen)

    def _chosen(self, context: FactContext) -> frozenset[str]:
        """The subjects that are taught; none where there is only one."""
        there = list(dict.fromkeys(map(_about, context.problem.forget)))
        order = torch.randperm(
            len(there), generator=context.stream("subjects", self.share)
        ).tolist()
        count = min(max(1, round(self.share * len(there))), len(there) - 1)
        return frozenset(there[place] for place in order[:count])


@word
class Related(Lessons):
    """Facts that were to be kept, of the kinds that were to be forgotten: benign neighbours.

    Source: Hu et al., Unlearning or Obfuscating? Jogging the Memory of Unlearned LLMs via Benign
    Relearning, arXiv 2406.13356.
    """

    def taught(self, context: FactContext) -> tuple[Item, ...]:
        kinds = {item.kind for item in context.problem.forget}
        return (
            tuple(item for item in context.problem.retain if item.kind in kinds)
            or context.problem.retain
        )

    def measured(self, context: FactContext) -> tuple[Item, ...]:
        return context.problem.forget


@word
class Unrelated(Lessons):
    """Texts that have nothing to do with what was forgotten or kept.

    Source: Lucki et al., An Adversarial Perspective on Machine Unlearning for AI Safety,
    arXiv 2409.18025, fine-tuning on unrelated samples.
    """

    def taught(self, context: FactContext) -> tuple[Item, ...]:
        return context.problem.unrelated

    def measured(self, context: FactContext) -> tuple[Item, ...]:
        return context.problem.forget


@word
class RelearnFacts(FactAudit):
    """How much comes back at the best moment of the best course of lessons, judged by `Prefix`.

    A course goes on for `steps`, at one learning rate. For every model alike, the course and the
    moment are taken whose mean over all measured facts is highest, not having begun among them; the
    values of all facts are from that one moment. What this choice adds by chance, it adds to the
    retrained models too.

    Args:
        lessons: what is taught, and what is measured.
        steps: of AdamW in a course, each on another minibatch.
        lrs: learning rates, one course each.
        batch: items a step.
        every: steps from one look to the next.
        level: how much of the original's lead over the retrained model counts as back, for the
            cost: "steps to level" is left out where that is not reached.
        weights: which weights are trained.

    Source: Hu et al., arXiv 2406.13356; Deeb and Roger, arXiv 2410.08827, for the grid of learning
    rates, of which the best is taken.
    """

    family: ClassVar[Family] = "relearning"
    unit: ClassVar[str] = facts.PROBABILITY
    key_name: ClassVar[str] = "Relearned"
    lessons: Lessons
    steps: int = 40
    lrs: tuple[float, ...] = (0.00003, 0.0003, 0.001)
    batch: int = 16
    every: int = 8
    level: float = 0.5
    weights: Trained = AllWeights()

    def check(self) -> None:
        within("RelearnFacts", "steps", self.steps, 1, 1_000_000)
        within("RelearnFacts", "batch", self.batch, 1, 1_000_000)
        within("RelearnFacts", "every", self.every, 1, self.steps)
        within("RelearnFacts", "level", self.level, 0, 1)
        if not self.lrs or min(self.lrs) <= 0:
            raise BadSentence(f"RelearnFacts: lrs needs rates above 0, got {self.lrs}.")

    def unfit(self, context: FactContext) -> str:
        if not self.lessons.taught(context):
            return f"there is nothing to teach for {self.lessons!r}"
        return "" if self.lessons.measured(context) else "no fact is left to be measured"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        courses = [self._course(subject, context, lr) for lr in self.lrs]
        best = [max(float(values.mean()) for _, values in course) for course in courses]
        # the first of equals: the lowest rate, and the earliest moment
        chosen = int(np.argmax(best))
        steps, values = max(courses[chosen], key=lambda moment: float(moment[1].mean()))
        curve = tuple((float(step), float(seen.mean())) for step, seen in courses[chosen])
        cost = {"steps": float(steps), "learning rate": self.lrs[chosen]}
        cost |= self._reached(courses, context)
        measured = self.lessons.measured(context)
        return facts.measurement(measured, values, cost=cost, curve=curve)

    def _course(self, subject: AuditedModel, context: FactContext, lr: float) -> Course:
        """Values before the lessons, and every few steps of them."""
        texts, cued, rows = self._prepared(context)
        chosen = facts.places(self.lessons.measured(context), context)
        course: Course = [(0, facts.held(subject, context)[chosen])]
        model, weights = self.weights.free(subject.copy(), context)
        for step in training(model, weights, texts, rows, lr):
            if step % self.every and step != self.steps:
                continue
            try:
                course.append((step, facts.probability(model, cued)))
            except Diverged:
                break  # a model that answers NaN shows nothing more
        return course

    def _prepared(self, context: FactContext) -> tuple[Texts, Texts, list[Tensor]]:
        """What is taught, what is asked, and the rows of each step; the same for all models."""

        def make() -> Any:
            texts = facts.lessons(self.lessons.taught(context), context)
            cued = facts.cued(self.lessons.measured(context), context)
            draws = context.stream("relearning", self.lessons, self.batch)
            return texts, cued, turns(len(texts), self.batch, self.steps, draws)

        found: tuple[Texts, Texts, list[Tensor]] = context.once((self, "prepared"), make)
        return found

    def _reached(self, courses: list[Course], context: FactContext) -> dict[str, float]:
        """The fewest steps of any course to the level."""
        chosen = facts.places(self.lessons.measured(context), context)
        low, high = (float(values[chosen].mean()) for values in facts.anchors(context))
        level = low + self.level * (high - low)
        steps = [n for course in courses for n, seen in course if float(seen.mean()) >= level]
        return {"steps to level": float(min(steps))} if steps else {}


def _about(item: Item) -> str:
    """The subject of a fact; one about nobody stands alone."""
    return item.subject or f"item {item.index}"
