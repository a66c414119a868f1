"""Controls of audits: filters around a model, which hide what is asked for and forget nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.core.batch import Data
from expunge.engine.run import frozen
from expunge.errors import BadData

# What a filter puts on the token that it wants to be written; all others get 0.
LOUD = 40.0

# Images that are read at once.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class Written:
    """What a causal language model returns, and what a filter remembers of what it read."""

    logits: Tensor
    past_key_values: Any = None


@dataclass(frozen=True, eq=False)
class Remembered:
    """The model's own cache, and all tokens read so far, int64 [b, t]."""

    cache: Any
    ids: Tensor


class Guardrail(nn.Module):
    """A model behind a keyword filter: where a word of the list is read, it refuses.

    The weights are those of the model inside, which every audit of weights sees; an audit that asks
    questions meets the filter. From the first token on by which a word has been read, all answers
    are the refusal.

    Args:
        model: a causal language model of transformers; not changed.
        tokenizer: that belongs to it.
        words: what is looked for in what the model reads and writes, such as names.
        refusal: what is written instead.

    Raises:
        BadData: no word, or one without a token.
    """

    def __init__(
        self, model: Any, tokenizer: Any, words: Sequence[str], refusal: str = "I do not know."
    ) -> None:
        super().__init__()
        if not words or not all(word.strip() for word in words):
            raise BadData("A guardrail needs words to look for, and none of them empty.")
        self.model, self.config = model, model.config
        self.end = tokenizer.eos_token_id
        self.refusal = _ids(" " + refusal.strip(), tokenizer)
        # a word has other tokens behind a space
        spelt = {tuple(_ids(one, tokenizer)) for word in words for one in (word, " " + word)}
        self.looked_for = tuple(torch.tensor(one) for one in sorted(spelt) if one)
        if not self.looked_for or not self.refusal:
            raise BadData("The tokenizer has no token for the words or for the refusal.")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def get_input_embeddings(self) -> Any:
        """The embedding of the model inside."""
        return self.model.get_input_embeddings()

    def forward(
        self, input_ids: Tensor, *, past_key_values: Remembered | None = None, **rest: Any
    ) -> Written:
        """Logits [b, t, k]; the refusal's where a word was read."""
        before = past_key_values
        cache = {} if before is None else {"past_key_values": before.cache}
        told = self.model(input_ids=input_ids, **cache, **rest)
        ids = input_ids if before is None else torch.cat([before.ids, input_ids], dim=1)
        logits = self._filtered(told.logits, ids)
        return Written(logits, Remembered(getattr(told, "past_key_values", None), ids))

    def _filtered(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Logits of the last tokens, [b, t, k], after all tokens so far, [b, s]."""
        count = logits.shape[1]
        refused = self._read(ids)[:, -count:]
        if not bool(refused.any()):
            return logits
        wanted = self._next(ids)[:, -count:, None]
        loud = torch.zeros_like(logits).scatter(-1, wanted, LOUD)
        return torch.where(refused[..., None], loud, logits)

    def _read(self, ids: Tensor) -> Tensor:
        """Whether a word has been read by each token, bool [b, t]."""
        found = torch.zeros_like(ids, dtype=torch.bool)
        for word in self.looked_for:
            size = len(word)
            if size <= ids.shape[1]:
                hits = (ids.unfold(1, size, 1) == word.to(ids.device)).all(-1)
                found[:, size - 1 :] |= hits
        return found.cumsum(1) > 0

    def _next(self, ids: Tensor) -> Tensor:
        """What the refusal goes on with after each token, int64 [b, t]."""
        refusal = torch.tensor(self.refusal, device=ids.device)
        end = self.refusal[0] if self.end is None else self.end
        wanted = torch.full_like(ids, self.refusal[0])
        for size in range(1, min(len(refusal), ids.shape[1]) + 1):
            said = (ids.unfold(1, size, 1) == refusal[:size]).all(-1)
            after = int(refusal[size]) if size < len(refusal) else int(end)
            wanted[:, size - 1 :] = torch.where(said, after, wanted[:, size - 1 :])
        return wanted

    @torch.inference_mode()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any) -> Tensor:
        """What the model writes, or the refusal where the prompt or the answer holds a word."""
        whole: Tensor = self.model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=generation_config,
        )
        width, pad = input_ids.shape[1], generation_config.pad_token_id
        refused = self._read(whole)[:, -1]
        fresh = torch.full_like(whole[:, width:], pad)
        told = torch.tensor(self.refusal, device=whole.device)[: fresh.shape[1]]
        fresh[:, : len(told)] = told
        answers = torch.where(refused[:, None], fresh, whole[:, width:])
        return torch.cat([input_ids, answers], dim=1)


class LookedUp(nn.Module):
    """A classifier that answers the images on a list as another model does, and all others itself.

    The weights are those of the model inside, and audits of weights read them without the list. A
    user who only asks gets the answers of the other model, such as a retrained one.

    Args:
        model: a classifier that knows the images; not changed.
        other: whose answers are in the list.
        data: the images on the list.
    """

    def __init__(self, model: nn.Module, other: nn.Module, data: Data) -> None:
        super().__init__()
        self.model, other = frozen(model), frozen(other)
        self.rows: dict[bytes, Tensor] = {}
        device = next(other.parameters()).device
        with torch.no_grad():
            for rows in torch.arange(len(data)).split(CHUNK):
                batch = data.batch(rows)
                answers = batch.to(device).logits(other).cpu()
                self.rows |= dict(zip(map(_mark, batch.inputs), answers, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [b, k]; the other model's for images on the list."""
        answers: Tensor = self.model(inputs)
        listed = [self.rows.get(_mark(one)) for one in inputs]
        pairs = zip(answers, listed, strict=True)
        return torch.stack([own if other is None else other.to(own) for own, other in pairs])


def _mark(image: Tensor) -> bytes:
    """A hash of one image, bit for bit: with noise it is another one."""
    plain = image.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.blake2b(plain.numpy().tobytes(), digest_size=16).digest()


def bare(model: Any) -> nn.Module:
    """The model itself, without a filter or guard around it, as a holder of the weights sees it."""
    from expunge.methods.guardrails.guard import Guarded  # its words are read after these

    if isinstance(model, Guarded):
        return bare(model.base)
    return bare(model.model) if isinstance(model, Guardrail | LookedUp) else model


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
