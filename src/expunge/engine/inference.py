"""Ask language models about texts: token likelihoods from one forward pass, and greedy generations.

All metrics on likelihoods are computed from the arrays of `likelihoods`; no example is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.core.batch import Data, Tokens
from expunge.core.evidence import Answers, Ragged
from expunge.core.machine import transformers
from expunge.core.texts import Texts, TokenRow, pad_of
from expunge.errors import BadData, BadEvidence, Diverged

Floats = NDArray[np.float32]


Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Teacher-forced likelihoods of every scored token of a set, by several models.

    Args:
        logprobs: float32 [model, example, token], log p of the true token, nats; 0 in padding.
        hits: bool [model, example, token], whether the likeliest token is the true one.
        means: float32 [model, example, token], E[log p(v)] for v drawn from p itself, nats.
        spreads: float32 [model, example, token], the standard deviation of log p(v), nats.
        scored: bool [example, token], False in padding; each row's scored tokens come first.
        index: int64 [example], the rows of the dataset.
    """

    logprobs: Floats
    hits: Flags
    means: Floats
    spreads: Floats
    scored: Flags
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logprobs)

    def answers(self, model: int, **more: Any) -> Answers:
        """One model's answers, as the metrics want them; `more` are further fields of `Answers`."""
        rows: dict[str, Any] = {
            name: Ragged.padded(getattr(self, name)[model], self.scored)
            for name in ("logprobs", "hits", "means", "spreads")
        }
        return Answers(self.index, **rows, **more)


def likelihoods(models: Sequence[nn.Module], data: Data, batch: int = 16) -> Likelihoods:
    """Compute the likelihood of every scored token; each example goes through each model once.

    Args:
        models: of transformers; put into evaluation mode.
        data: texts.
        batch: examples at once; the arrays do not depend on it, up to rounding.

    Raises:
        Diverged: a model whose answers are NaN.
        BadEvidence: no model.
    """
    if not models:
        raise BadEvidence("There is no model to ask; expected at least one.")
    found, scored, index = [], [], []
    for rows in torch.arange(len(data)).split(batch):
        tokens = data.batch(rows)
        if not isinstance(tokens, Tokens):
            raise BadData("Likelihoods are computed on texts, and this set holds images.")
        found.append(torch.stack([_asked(model, tokens) for model in models]))
        scored.append(_packed(tokens.scored, tokens.scored))
        index.append(tokens.index)
    width = max(part.shape[1] for part in scored)
    wide = torch.cat([_widened(part, width) for part in found], dim=2)
    if not torch.isfinite(wide).all():
        raise Diverged("A model answers with NaN or infinite likelihoods; leave it out.")
    logprobs, hits, means, spreads = wide.unbind(1)
    return Likelihoods(
        logprobs.numpy(),
        hits.bool().numpy(),
        means.numpy(),
        spreads.numpy(),
        torch.cat([_widened(part, width) for part in scored]).numpy(),
        torch.cat(index).numpy(),
    )


@torch.inference_mode()
def _asked(model: nn.Module, tokens: Tokens) -> Tensor:
    """One forward pass: log p, hit, mean and spread of each scored token, float32 [4, b, t]."""
    model.eval()
    here = tokens.to(next(model.parameters()).device)
    logp, targets = here.logits(model).log_softmax(-1), here.targets.clamp_min(0)
    true = logp.gather(-1, targets[..., None])[..., 0]
    means = (logp.exp() * logp).sum(-1)
    spreads = (logp.exp() * (logp - means[..., None]).square()).sum(-1).sqrt()
    hits = (logp.argmax(-1) == targets).to(true)
    found = torch.stack([true, hits, means, spreads]).float().cpu()
    return _packed(torch.where(tokens.scored, found, 0.0), tokens.scored)


def _packed(values: Tensor, scored: Tensor) -> Tensor:
    """Move each row's scored tokens to its front, and drop columns that hold none."""
    order = (~scored).to(torch.int8).argsort(dim=-1, stable=True)
    width = int(scored.sum(-1).max())
    return values.gather(-1, order.expand_as(values))[..., :width]


def _widened(part: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(part, (0, width - part.shape[-1]))


def generate(
    model: Any, tokenizer: Any, data: Texts, *, tokens: int = 200, batch: int = 16
) -> tuple[str, ...]:
    """Generate an answer to each prompt, always taking the likeliest token.

    Args:
        model: a causal language model of transformers; it is put into evaluation mode.
        tokenizer: that belongs to it.
        data: pairs; what comes before the answer is the prompt.
        tokens: the most that are written.
        batch: prompts at once, padded on the left.

    Raises:
        BadData: a text without a prompt.
    """
    bare = [number for number, row in enumerate(data.made) if row.start < 1]
    if bare:
        raise BadData(f"Text {bare[0]} has no prompt; a model is asked to go on with one.")
    model.eval()
    config = transformers().GenerationConfig(
        max_new_tokens=tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad_of(tokenizer),
        eos_token_id=end_tokens(model, tokenizer),
    )
    said: list[str] = []
    for first in range(0, len(data.made), batch):
        inputs, mask = prompts_of(data.made[first : first + batch], pad_of(tokenizer), model.device)
        with torch.inference_mode(), no_own_generation(model):
            written = model.generate(
                input_ids=inputs, attention_mask=mask, generation_config=config
            )
        fresh = written[:, inputs.shape[1] :]
        said += [text.strip() for text in tokenizer.batch_decode(fresh, skip_special_tokens=True)]
    return tuple(said)


def end_tokens(model: nn.Module, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer or a turn: the tokenizer's, and the model's own.

    Of the model's own, those that are special to the tokenizer: a config that nobody filled in
    names a word.
    """
    special, found = set(tokenizer.all_special_ids), {tokenizer.eos_token_id}
    for module in model.modules():
        named = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
        found |= special & set(named if isinstance(named, list | tuple) else [named])
    return sorted(found)


@contextmanager
def no_own_generation(model: nn.Module) -> Iterator[None]:
    """Set aside how a model's folder wants it to write while the block runs.

    transformers takes from a model's own generation settings what a request leaves open: a
    repetition penalty, forbidden or forced tokens, a least length. None is the likeliest token.
    """
    plain = transformers().GenerationConfig
    own = [module for module in model.modules() if hasattr(module, "generation_config")]
    before = [module.generation_config for module in own]
    for module in own:
        module.generation_config = plain()
    try:
        yield
    finally:
        for module, config in zip(own, before, strict=True):
            module.generation_config = config


def prompts_of(rows: Sequence[TokenRow], fill: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts padded on the left: ids and mask, int64 [b, t]."""
    width = max(row.start for row in rows)
    inputs = torch.full((len(rows), width), fill)
    mask = torch.zeros_like(inputs)
    for place, row in enumerate(rows):
        inputs[place, width - row.start :], mask[place, width - row.start :] = (
            row.ids[: row.start],
            1,
        )
    return inputs.to(device), mask.to(device)
