"""Guards: what one must have, the receipt that nothing was removed, and the assistant (ULD)."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.core.problem import Problem
from expunge.core.receipt import ReceiptCounts
from expunge.core.schedules import AdamW, Warmup
from expunge.core.view import blocks
from expunge.core.vocabulary import word
from expunge.engine.check import check_texts
from expunge.engine.training import Train
from expunge.engine.unlearning import unlearn
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.methods.losses.answers import CE, Uniform
from expunge.methods.steps.adapter import LoRA


@dataclass(frozen=True)
class GuardSetting:
    """What a guard is made from.

    Args:
        model: the model that is guarded; it must stay as it is.
        problem: gives the sets.
        tokenizer: that belongs to the model; None where nobody gave one.
        seed: all random numbers follow from it.
        counts: where the guard writes which examples it reads.
    """

    model: nn.Module
    problem: Problem
    tokenizer: Any
    seed: int
    counts: ReceiptCounts = field(default_factory=ReceiptCounts)


class Mechanism(nn.Module):
    """What a guard does to each question; abstract."""

    @abstractmethod
    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        """Answer with guard.

        Args:
            base: the guarded model.
            inputs: token ids, int64 [b, t].
            mask: where there is a token, bool [b, t].

        Returns:
            Logits, float [b, t, k]. Those at one token depend on no later one, so that answers that
            are scored and answers that are written agree.
        """


class Guard(ABC):
    """A word for one kind of guard; abstract."""

    @abstractmethod
    def made(self, setting: GuardSetting) -> Mechanism:
        """Make the mechanism, fitted where it has something to learn."""


@dataclass(frozen=True)
class Notice:
    """The receipt of a guard.

    Args:
        guard: its sentence.
        seed: that its random numbers follow from.
        seconds: wall-clock seconds that making the guard took.
        examples: name of a set -> examples read to make it.
        weights: how many weights the model has; all of them are as they were.
        removed: never true. What the model knew is in it.
    """

    guard: str
    seed: int
    seconds: float
    examples: dict[str, int]
    weights: int
    removed: bool = False

    def __str__(self) -> str:
        read = ", ".join(f"{count} of {name}" for name, count in self.examples.items()) or "none"
        return (
            f"{self.guard}\n  suppression: nothing was removed. All {self.weights:,} weights are "
            "as they were, bit for bit; who takes the guard off has the original. Examples read: "
            f"{read}; took {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class GuardedAnswers:
    """What a model of transformers returns, as far as it is used here: logits [b, t, k]."""

    logits: Tensor


class Guarded(nn.Module):
    """A language model behind a guard; call it like a causal model of transformers.

    It answers and writes (greedily) as they do. It cannot be saved: the guard is no weight.

    Args:
        base: the model, as it was.
        guard: what changes its answers.
    """

    def __init__(self, base: nn.Module, guard: Mechanism) -> None:
        super().__init__()
        self.base, self.guard, self.config = base, guard, base.config

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.base.parameters()).device

    def get_input_embeddings(self) -> nn.Module:
        """Return the model's embedding, which has the size of the vocabulary."""
        return self.base.get_input_embeddings()  # type: ignore[operator]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any
    ) -> GuardedAnswers:
        """Answer with guard; positions and caches are the guard's own business."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return GuardedAnswers(self.guard(self.base, input_ids, mask.bool()))

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any, **others: Any
    ) -> Tensor:
        """Write after prompts, always the likeliest token.

        Args:
            input_ids: prompts, padded on the left, int64 [b, t].
            attention_mask: where there is a token, [b, t].
            generation_config: of transformers: its length and its tokens for end and padding.
            others: ignored.

        Returns:
            The prompts with what was written, int64 [b, t'].

        Raises:
            Unsupported: anything but greedy decoding is asked for.
        """
        if generation_config.do_sample or (generation_config.num_beams or 1) > 1:
            raise Unsupported("A guarded model writes greedily; leave out sampling and beams.")
        fill = generation_config.pad_token_id
        ends = torch.as_tensor(generation_config.eos_token_id, device=input_ids.device)
        ids, mask = input_ids, attention_mask
        open_ = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        for _ in range(generation_config.max_new_tokens):
            said = self(ids, mask).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, torch.where(open_, said, fill)[:, None]], 1)
            mask = torch.cat([mask, open_[:, None].to(mask)], 1)
            open_ = open_ & ~torch.isin(said, ends)
            if not bool(open_.any()):
                break
        return ids

    def save_pretrained(self, folder: Any, **others: Any) -> None:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            "A guarded model cannot be saved: the guard is no weight, and the folder would hold "
            "the original, which knows everything. Save the original, and guard it where it is "
            "asked."
        )


@dataclass(frozen=True, eq=False)
class Suppressed:
    """A guarded model, in evaluation mode, and the receipt that nothing was removed from it."""

    model: Guarded
    receipt: Notice


def suppress(
    model: nn.Module, guard: Guard, problem: Problem, *, tokenizer: Any = None, seed: int = 0
) -> Suppressed:
    """Hide what a language model knows behind a guard; its weights stay as they are.

    Args:
        model: of transformers; it is held, not copied, and put into evaluation mode.
        guard: such as ECO() or KeywordFilter(("Potter",)).
        problem: the sets, of which a guard may read some.
        tokenizer: that belongs to the model, for guards that hold text.
        seed: all random numbers follow from it.

    Raises:
        BadSentence: `guard` is no guard.
        BadData: the guard changed the model, which is a fault of the guard.
        Unsupported: the model is no language model, or the guard cannot work with it.
    """
    if not isinstance(guard, Guard):
        raise BadSentence(
            f"Expected a guard such as ECO(), got {guard!r}; `unlearn` takes methods."
        )
    check_texts(model, problem, ("forget", "retain"))
    model.eval()
    before, start = digest(model), time.perf_counter()
    setting = GuardSetting(model, problem, tokenizer, seed)
    mechanism = guard.made(setting).to(next(model.parameters()).device).eval()
    spent = time.perf_counter() - start
    if digest(model) != before:
        raise BadData(f"{guard!r} changed the model that it guards; it must leave it as it is.")
    count = sum(weight.numel() for weight in model.parameters())
    notice = Notice(repr(guard), seed, spent, dict(setting.counts.examples), count)
    return Suppressed(Guarded(model, mechanism).eval().requires_grad_(False), notice)


def digest(model: nn.Module) -> str:
    """Hash every weight and buffer of a model, bit for bit."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def asked(model: nn.Module, mask: Tensor, **inputs: Tensor) -> Tensor:
    """Return a model's answers to ids or embeddings, in single precision or better, [b, t, k].

    Args:
        mask: where there is a token, bool [b, t].
        inputs: `input_ids` [b, t] or `inputs_embeds` [b, t, d].
    """
    named: dict[str, Any] = {**inputs, "attention_mask": mask.long(), "use_cache": False}
    places = (mask.cumsum(1) - 1).clamp_min(0)
    usual = torch.arange(mask.shape[1], device=mask.device).expand_as(places)
    if not torch.equal(places[mask], usual[mask]):  # padding before, or a token that is hidden
        named["position_ids"] = places
    logits: Tensor = model(**named).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def embedding_of(model: nn.Module) -> nn.Module:
    """Return the layer in which a language model looks its tokens up."""
    found: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return found


def need_tokenizer(owner: Guard, setting: GuardSetting) -> Any:
    """Return the tokenizer.

    Raises:
        BadData: nobody gave one.
    """
    if setting.tokenizer is None:
        raise BadData(f"{owner!r} holds text; give suppress(...) the model's tokenizer.")
    return setting.tokenizer


@word
class ULD(Guard):
    """Subtract the logits of an assistant that was trained to remember the forget set alone.

    The assistant is a copy of the first layers with an adapter, trained on the forget set, and to
    answer evenly on the retain set. Answers are base - weight * assistant, where the base gives a
    token at least `floor` times the probability of its likeliest one; elsewhere those of the base.

    Args:
        train: how the assistant is trained; the authors' training by default.
        layers: of the model, from the first on, that the assistant has.
        weight: of the assistant's logits.
        floor: share of the likeliest token's probability; 0 subtracts the assistant everywhere.
        rank, alpha: of the adapter.

    Source: Ji et al., Reversing the Forget-Retain Objectives, arXiv 2406.08607;
    UCSB-NLP-Chang/ULD@858608c, contrastllm.py, bashes/tofu/uld_train.sh (TOFU, Llama-2-7B: weight
    0.8, floor 0.01), whose writing shuts unlikely tokens out and whose likelihoods do not; here
    both are as its likelihoods. Its paraphrases and perturbed answers are left to the data.
    """

    train: Train = Train(
        CE("forget") + 5.0 * Uniform("retain"),
        epochs=10,
        lr=Warmup(0.001, 0.1),
        batch=16,
        optimiser=AdamW(weight_decay=0.01),
        over="forget",
        accumulate=2,
    )
    layers: int = 8
    weight: float = 0.8
    floor: float = 0.01
    rank: int = 16
    alpha: float = 32.0

    def check(self) -> None:
        if self.layers < 1 or self.weight <= 0 or not 0 <= self.floor < 1:
            raise BadSentence(
                "ULD: layers must be 1 or more, weight above 0, and floor 0 or more and below 1."
            )

    def made(self, setting: GuardSetting) -> Mechanism:
        method = LoRA((self.train,), rank=self.rank, alpha=self.alpha)
        small = first_layers(setting.model, self.layers)
        done = unlearn(small, method, setting.problem, seed=setting.seed, in_place=True)
        setting.counts.add(done.receipt.examples)
        return _Contrast(done.model, self.weight, self.floor)


class _Contrast(Mechanism):
    """A model's logits less those of an assistant, where the model finds a token likely."""

    def __init__(self, assistant: nn.Module, weight: float, floor: float) -> None:
        super().__init__()
        self.assistant, self.weight, self.floor = assistant, weight, floor

    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        ours, theirs = (asked(m, mask, input_ids=inputs) for m in (base, self.assistant))
        return contrast(ours, theirs, self.weight, self.floor)


def contrast(ours: Tensor, theirs: Tensor, weight: float, floor: float) -> Tensor:
    """Return ours - weight * theirs, where ours makes a token `floor` times as likely as its best.

    As many of the likeliest tokens as are the share `floor` of all count as likely in any case.

    Args:
        ours: logits of the model, [..., k].
        theirs: logits of the assistant, [..., k].
    """
    taken = ours - weight * theirs
    if floor == 0:
        return taken
    least = ours.amax(-1, keepdim=True) + math.log(floor)
    if (kept := int(floor * ours.shape[-1])) > 0:
        least = torch.minimum(least, ours.topk(kept).values[..., -1:])
    return torch.where(ours >= least, taken, ours)


def first_layers(model: nn.Module, count: int) -> nn.Module:
    """Copy a transformer so that it ends after so many layers.

    Raises:
        Unsupported: it has fewer, or its layers are not known.
    """
    there = len(blocks(model))
    if count > there:
        raise Unsupported(f"ULD: {count} layers were asked for; the model has {there}.")
    small = copy.deepcopy(model)
    del blocks(small)[count:]
    small.config.num_hidden_layers = count  # type: ignore[union-attr]
    return small
