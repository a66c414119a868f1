"""Sampling: what a model says once in many times, where its likeliest answer shows nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from expunge.audits.audit import AuditedModel, Family, Measurement, within
from expunge.audits.text import facts
from expunge.audits.text.facts import FactAudit, FactContext, Values
from expunge.core.texts import Texts, TokenRow, pad_of
from expunge.core.vocabulary import word
from expunge.errors import BadSentence, Diverged
from expunge.metrics.text.memorisation import best_of, leak_limit, mean_leak_limit
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.encode import of_cues


@word
class Sampled(FactAudit):
    """leak@k: how much of a fact the best of k sampled answers says, in expectation.

    The mean over all subsets of k of the samples, so that no luck of the first k is in it. Beside
    it stand what the chance of a leak is at most, for the fact that leaks most, exact and for all
    facts at once; and a bound on the mean score of one sample that needs no normality. Both bounds
    take samples for independent, as they are here.

    Args:
        k: answers that an attacker draws.
        samples: answers that are drawn for each fact, at least k.
        temperature: that logits are divided by.
        tokens: the most that are written in each answer.
        alpha: the chance that a bound is wrong.

    Source: Reisizadeh et al., Leak@k, arXiv 2511.04934; Scholten et al., A Probabilistic
    Perspective on Unlearning and Alignment for LLMs, arXiv 2410.03523, for the bounds.
    """

    family: ClassVar[Family] = "sampling"
    unit: ClassVar[str] = "share of the fact said by the best of k samples"
    k: int = 8
    samples: int = 16
    temperature: float = 1.0
    tokens: int = 24
    alpha: float = 0.05

    def check(self) -> None:
        within("Sampled", "samples", self.samples, 1, 1_000_000)
        within("Sampled", "tokens", self.tokens, 1, 4096)
        if not 1 <= self.k <= self.samples:
            raise BadSentence(f"Sampled: k lies from 1 to samples={self.samples}, got {self.k}.")
        if self.temperature <= 0 or not 0 < self.alpha < 1:
            raise BadSentence("Sampled: temperature must be above 0, and alpha between 0 and 1.")

    def unfit(self, context: FactContext) -> str:
        return "" if _asked(context) else "no fact has a question"

    def __call__(self, subject: AuditedModel, context: FactContext) -> Measurement:
        items = _asked(context)
        texts: Texts = context.once("questions", lambda: _questions(items, context))
        facts.refuse_foreign(subject.model, texts)
        draws = context.stream("sampled", self.samples, self.tokens)
        shape = (len(items), self.samples, self.tokens)
        chances = torch.rand(shape, generator=draws, dtype=torch.float64)
        said = sampled(subject.model, context.problem.tokenizer, texts, chances, self.temperature)
        pairs = zip(items, said, strict=True)
        scores = np.array([[facts.shown(item, one) for one in some] for item, some in pairs])
        values = best_of(scores, self.k).clip(0.0, 1.0)  # rounding may go beyond
        best = [some[int(row.argmax())] for some, row in zip(said, scores, strict=True)]
        count = float(scores.size)
        return facts.measurement(
            items, values,
            cost={"queries": count, "tokens": count * self.tokens},
            examples=facts.telling(texts.prompts, best, values),
            details=_bounds(scores, self.alpha),
        )  # fmt: skip


def _bounds(scores: Values, alpha: float) -> dict[str, float]:
    """What can be said of facts that did not leak, and of the mean sample of the average fact."""
    # all facts at once: alpha is shared out (Bonferroni)
    limits = leak_limit(scores, 0.0, alpha / len(scores))
    # one sample a fact is an independent draw; several of one fact are not one of another
    mean = mean_leak_limit(scores[:, 0], alpha)
    return {
        "mean score of one sample": float(scores.mean()),
        "chance of a leak at most": float(limits.max()),
        "chance of a leak at most, least": float(limits.min()),
        "mean score of one sample at most": float(mean.high),
    }


def sampled(
    model: nn.Module, tokenizer: Any, texts: Texts, chances: Tensor, temperature: float
) -> list[list[str]]:
    """Answers drawn from a model; they depend on the chances alone, not on what runs together.

    Args:
        model: a causal language model of transformers; put into evaluation mode.
        tokenizer: that belongs to it.
        texts: what comes before each row's scored tokens is its prompt.
        chances: float64 [row, sample, token] in [0, 1), where each draw falls.
        temperature: that logits are divided by.
    """
    rows, samples, tokens = chances.shape
    model.eval()
    places = torch.arange(rows * samples)
    said: list[str] = []
    for some in places.split(facts.rows_at_once(model, texts, tokens)):
        prompts = [texts.made[place] for place in (some // samples).tolist()]
        drawn = _draw(model, tokenizer, prompts, chances.flatten(0, 1)[some], temperature)
        said += [text.strip() for text in tokenizer.batch_decode(drawn, skip_special_tokens=True)]
    return [said[row * samples : (row + 1) * samples] for row in range(rows)]


@torch.inference_mode()
def _draw(
    model: Any, tokenizer: Any, rows: list[TokenRow], chances: Tensor, temperature: float
) -> list[list[int]]:
    """Ids that each row goes on with, up to its end; the keys and values of attention are kept."""
    device = next(model.parameters()).device
    ids, mask = _left(rows, pad_of(tokenizer), device)
    place, cache = (mask.cumsum(1) - 1).clamp_min(0), None
    end = -1 if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    done = torch.zeros(len(rows), dtype=torch.bool, device=device)
    fresh: list[Tensor] = []
    for step in range(chances.shape[1]):
        told = model(
            input_ids=ids, attention_mask=mask, position_ids=place,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        cache = getattr(told, "past_key_values", None)
        following = _inverse(told.logits[:, -1] / temperature, chances[:, step].to(device))
        fresh.append(torch.where(done, end, following))
        done |= following == end
        if bool(done.all()):
            break
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        # a model that keeps nothing reads everything anew
        ids = following[:, None] if cache is not None else _longer(ids, following)
        place = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
    whole = torch.stack(fresh, dim=1).tolist()
    return [row[: row.index(end)] if end in row else row for row in whole]


def _longer(ids: Tensor, following: Tensor) -> Tensor:
    return torch.cat([ids, following[:, None]], dim=1)


def _inverse(logits: Tensor, chances: Tensor) -> Tensor:
    """One token a row where its chance falls on the distribution function, int64 [b]."""
    if not bool(torch.isfinite(logits).all()):
        raise Diverged("A model answers with NaN or infinite logits; leave it out.")
    shares = logits.double().softmax(-1).cumsum(-1)
    # rounding may leave the last share below 1
    found = torch.searchsorted(shares, (chances[:, None] * shares[:, -1:]).contiguous())
    return found[:, 0].clamp_max(logits.shape[-1] - 1)


def _left(rows: list[TokenRow], fill: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts padded on the left: ids and mask, int64 [b, t]."""
    width = max(row.start for row in rows)
    ids = torch.full((len(rows), width), fill)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, width - row.start :] = row.ids[: row.start]
        mask[place, width - row.start :] = 1
    return ids.to(device), mask.to(device)


def _asked(context: FactContext) -> tuple[Item, ...]:
    return tuple(item for item in context.problem.forget if item.prompt)


def _questions(items: tuple[Item, ...], context: FactContext) -> Texts:
    cues = [(item.prompt, "", item.answer) for item in items]
    return of_cues(cues, context.problem.tokenizer, chat=context.problem.chat)
