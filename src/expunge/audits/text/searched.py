"""Searched prompts: a suffix or soft prompt that draws other facts out, tried on those measured.

What is searched for is found on some facts and measured on others, so that it cannot hold what it
is to draw out. That is relearning in the prompt: the weights stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.audits.text.relearning import Lessons, OtherFacts, OtherSubjects
from expunge.core.texts import Texts, TokenRow
from expunge.core.vocabulary import word
from expunge.errors import BadSentence


@dataclass(frozen=True, eq=False)
class Slots:
    """Cues, and where a suffix goes in: behind each question, before the answer's first words.

    Args:
        texts: the cues.
        ends: the place in each row.
    """

    texts: Texts
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ends)

    def some(self, rows: Tensor) -> Slots:
        """Some of the rows."""
        chosen = rows.tolist()
        made = tuple(self.texts.made[place] for place in chosen)
        return Slots(Texts(made, self.texts.pad), tuple(self.ends[place] for place in chosen))

    def filled(self, suffix: Tensor) -> tuple[TokenRow, ...]:
        """The rows with a suffix, int64 [length], put in."""
        return tuple(
            TokenRow(torch.cat([row.ids[:end], suffix, row.ids[end:]]), row.start + len(suffix),
                row.prompt, row.answer)
            for row, end in zip(self.texts.made, self.ends, strict=True)
        )  # fmt: skip


class Searched(FactAudit):
    """Something put behind every question that was found on other facts; abstract.

    It stands between question and answer; the value is judged as by `Prefix`. The search sees the
    weights, and a filter around them does not matter.
    """

    family: ClassVar[Family] = "asking"
    unit: ClassVar[str] = facts.PROBABILITY
    lessons: Lessons
    length: int
    steps: int
    batch: int

    def check(self) -> None:
        for name in ("length", "steps", "batch"):
            within(type(self).__name__, name, getattr(self, name), 1, 1_000_000)
        if not isinstance(self.lessons, OtherFacts | OtherSubjects):
            raise BadSentence(
                f"{type(self).__name__}: the search is for facts that were to be forgotten, "
                f"OtherFacts or OtherSubjects, got {self.lessons!r}."
            )

    def unfit(self, context: FactContext) -> str:
        there = self.lessons.taught(context) and self.lessons.measured(context)
        return "" if there else "there are no other facts to search on"

    def prepared(self, context: FactContext) -> tuple[Slots, Slots]:
        """Facts that are searched on, and those that are measured, as cues."""

        def make() -> Any:
            return tuple(
                Slots(facts.cued(items, context), facts.answer_starts(items, context))
                for items in (self.lessons.taught(context), self.lessons.measured(context))
            )

        found: tuple[Slots, Slots] = context.once((self, "prepared"), make)
        return found

    def answer(
        self, subject: AuditedModel, context: FactContext, after: Values, **rest: Any
    ) -> Measurement:
        """The reading of values behind the suffix, or without it where that is more on average."""
        items = self.lessons.measured(context)
        before = facts.held(subject, context)[facts.places(items, context)]
        return facts.measurement(items, max(before, after, key=lambda v: float(v.mean())), **rest)


@word
class Suffix(Searched):
    """A suffix of tokens that was searched for by their gradients, greedily: GCG, for many facts.

    Each step tries swaps of one token, drawn from those that the gradient likes best, on one
    minibatch, and keeps the best one if it is better than none. Measured are both the question with
    the suffix and without it; the better on average counts, for every model alike.

    Args:
        lessons: which facts are searched on, and which measured.
        length: of the suffix, in tokens.
        steps: of the search.
        candidates: swaps that are tried in each.
        best: tokens from which each swap is drawn.
        batch: facts that swaps are judged on.

    Source: Zou et al., arXiv 2307.15043 (greedy coordinate gradient, universal).
    """

    lessons: Lessons = OtherFacts()
    length: int = 6
    steps: int = 10
    candidates: int = 16
    best: int = 32
    batch: int = 8

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        taught, measured = self.prepared(context)
        facts.refuse_foreign(subject.model, measured.texts)
        draws = context.stream("suffix", self.lessons, self.length)
        model = subject.copy()
        suffix, seen = self._search(model, taught, draws)
        after = facts.probability(model, Texts(measured.filled(suffix), measured.texts.pad))
        told = context.problem.tokenizer.decode(suffix)
        row = measured.texts.made[0]
        return self.answer(
            subject, context, after,
            cost={"queries": float(self.steps * (self.candidates + 1) * self.batch)},
            curve=tuple((float(step), score) for step, score in enumerate(seen, 1)),
            examples=((f"{row.prompt} [suffix: {told}]", f"{row.answer} (p {after[0]:.2g})"),),
        )  # fmt: skip

    def _search(
        self, model: nn.Module, taught: Slots, draws: torch.Generator
    ) -> tuple[Tensor, list[float]]:
        """The suffix, int64 [length], and the mean probability on each step's facts."""
        size = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
        suffix = torch.randint(size, (self.length,), generator=draws)
        seen = []
        for _ in range(self.steps):
            slots = taught.some(torch.randperm(len(taught), generator=draws)[: self.batch])
            tried = self._swaps(suffix, slopes(model, slots, suffix), draws)
            scores = judged(model, slots, tried)
            suffix = tried[int(scores.argmax())]
            seen.append(float(scores.max()))
        return suffix, seen

    def _swaps(self, suffix: Tensor, slope: Tensor, draws: torch.Generator) -> list[Tensor]:
        """The suffix itself first, then with one token swapped each."""
        liked = (-slope).topk(min(self.best, slope.shape[1]), dim=1).indices
        tried = [suffix]
        for _ in range(self.candidates):
            place = int(torch.randint(self.length, (1,), generator=draws))
            which = int(torch.randint(liked.shape[1], (1,), generator=draws))
            other = suffix.clone()
            other[place] = liked[place, which]
            tried.append(other)
        return tried


@word
class SoftPrompt(Searched):
    """Embeddings behind every question, trained on other facts; shown, and never evidence.

    Free embeddings can make a model say what it never knew; see the reading of retrained models.

    Args:
        lessons: which facts are trained on, and which measured.
        length: embeddings.
        steps: of AdamW.
        batch: facts a step.
        lr: learning rate.

    Source: Schwinn et al., Soft Prompt Threats, arXiv 2402.09063.
    """

    decisive: ClassVar[bool] = False
    lessons: Lessons = OtherFacts()
    length: int = 4
    steps: int = 30
    batch: int = 16
    lr: float = 0.01

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        taught, measured = self.prepared(context)
        facts.refuse_foreign(subject.model, measured.texts)
        model, draws = subject.copy(), context.stream("soft prompt", self.lessons, self.length)
        prompt, seen = self._trained(model, taught, draws)
        pieces = torch.arange(len(measured)).split(self.batch)
        with torch.no_grad():
            losses = torch.cat([prompted(model, measured.some(rows), prompt) for rows in pieces])
        after = (-losses.double()).exp().cpu().numpy()
        curve = tuple((float(step), score) for step, score in enumerate(seen, 1))
        cost = {"steps": float(self.steps)}
        return self.answer(subject, context, after, cost=cost, curve=curve)

    @torch.enable_grad()
    def _trained(
        self, model: nn.Module, taught: Slots, draws: torch.Generator
    ) -> tuple[Tensor, list[float]]:
        """The embeddings, and the mean probability on each step's facts."""
        table = model.get_input_embeddings().weight  # type: ignore[operator]
        first = torch.randint(len(table), (self.length,), generator=draws)
        prompt = table[first.to(table.device)].detach().clone().requires_grad_(True)
        optimiser, seen = torch.optim.AdamW([prompt], lr=self.lr, weight_decay=0.0), []
        for _ in range(self.steps):
            rows = torch.randperm(len(taught), generator=draws)[: self.batch]
            losses = prompted(model, taught.some(rows), prompt)
            optimiser.zero_grad()
            losses.mean().backward()
            optimiser.step()
            seen.append(float((-losses.detach()).exp().mean()))
        return prompt.detach(), seen


def judged(model: nn.Module, slots: Slots, tried: list[Tensor]) -> Values:
    """Mean probability of the values behind each suffix, float64 [suffix]."""
    rows = tuple(row for suffix in tried for row in slots.filled(suffix))
    found = facts.probability(model, Texts(rows, slots.texts.pad))
    means: Values = found.reshape(len(tried), len(slots)).mean(1)
    return means


def slopes(model: Any, slots: Slots, suffix: Tensor) -> Tensor:
    """How the loss changes with each token at each place of the suffix, [length, vocabulary]."""
    table = model.get_input_embeddings().weight
    with torch.enable_grad():
        soft = table[suffix.to(table.device)].detach().clone().requires_grad_(True)
        slope = torch.autograd.grad(prompted(model, slots, soft).mean(), soft)[0]
    return (slope @ table.T).cpu()


def prompted(model: Any, slots: Slots, prompt: Tensor) -> Tensor:
    """Mean loss of each row's value with embeddings [length, width] put in, float [row]."""
    marks = torch.zeros(len(prompt), dtype=torch.int64)
    filled = Texts(slots.filled(marks), slots.texts.pad)
    batch = filled.batch(torch.arange(len(slots))).to(prompt.device)
    inner = model.get_input_embeddings()(batch.inputs)
    rows = torch.arange(len(slots))[:, None].expand(-1, len(prompt))
    columns = torch.tensor(slots.ends)[:, None] + torch.arange(len(prompt))
    inner = inner.index_put((rows, columns), prompt.expand(len(slots), -1, -1))
    told = model.eval()(inputs_embeds=inner, attention_mask=batch.mask.long(), use_cache=False)
    losses = cross_entropy(
        told.logits[:, :-1].float().transpose(1, 2),
        batch.targets,
        ignore_index=-100,
        reduction="none",
    )
    return losses.sum(1) / batch.scored.sum(1)
