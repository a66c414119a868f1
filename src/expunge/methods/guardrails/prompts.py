"""Guards on the prompt: an instruction before it, a filter that falls silent, noisy embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.core.batch import Tokens
from expunge.core.seeds import derived
from expunge.core.vocabulary import word
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.methods.guardrails.guard import (
    Guard,
    GuardSetting,
    Mechanism,
    asked,
    embedding_of,
    need_tokenizer,
)
from expunge.methods.losses.other_answers import gaussian


@word
class Instruction(Guard):
    """Put an instruction before everything that the model is asked.

    Args:
        text: the instruction, such as "You know nothing of Harry Potter."

    Source: Thaker et al., Guardrail Baselines for Unlearning in LLMs, arXiv 2403.03329 (prompting).
    """

    text: str

    def check(self) -> None:
        if not self.text.strip():
            raise BadSentence("Instruction: the text is empty; expected some words.")

    def made(self, setting: GuardSetting) -> Mechanism:
        tokenizer = need_tokenizer(self, setting)
        ids = torch.tensor(tokenizer(self.text)["input_ids"])
        first = tokenizer.bos_token_id
        return _Before(ids, -1 if first is None or int(ids[0]) != first else int(first))


class _Before(Mechanism):
    """Tokens before every row; a row's own token of beginning is hidden, where they have one."""

    def __init__(self, ids: Tensor, start: int) -> None:
        super().__init__()
        self.ids: Tensor
        self.register_buffer("ids", ids)
        self.start = start

    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        before = self.ids.expand(len(inputs), -1)
        first = (mask.cumsum(1) == 1) & mask
        shown = mask & ~(first & (inputs == self.start))
        wide = torch.cat([torch.ones_like(before).bool(), shown], 1)
        return asked(base, wide, input_ids=torch.cat([before, inputs], 1))[:, before.shape[1] :]


@word
class KeywordFilter(Guard):
    """Fall silent once one of some words is in the text: from there on, only the end of the text.

    Args:
        words: as they are written; upper and lower case differ.
        margin: how much larger the logit of the end is than all others, which are equal.

    Source: Thaker et al., Guardrail Baselines for Unlearning in LLMs, arXiv 2403.03329 (filtering),
    where a filter gives a fixed answer.
    """

    words: tuple[str, ...]
    margin: float = 20.0

    def check(self) -> None:
        if not self.words or not all(one.strip() for one in self.words):
            raise BadSentence("KeywordFilter: expected words, none of them empty.")
        if self.margin <= 0:
            raise BadSentence(f"KeywordFilter: margin must be above 0, got {self.margin}.")

    def made(self, setting: GuardSetting) -> Mechanism:
        tokenizer = need_tokenizer(self, setting)
        if tokenizer.eos_token_id is None:
            raise Unsupported(
                "The tokenizer has no token that ends a text, so no way to be silent."
            )
        spelt = {
            tuple(tokenizer(way, add_special_tokens=False)["input_ids"])
            for one in self.words
            for way in (one, f" {one}")
        }
        return _Silent(sorted(spelt), int(tokenizer.eos_token_id), self.margin)


class _Silent(Mechanism):
    """Answer with the end of the text, wherever one of some runs of tokens came before."""

    def __init__(self, runs: list[tuple[int, ...]], end: int, margin: float) -> None:
        super().__init__()
        self.runs, self.end, self.margin = runs, end, margin

    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        logits = asked(base, mask, input_ids=inputs)
        silence = torch.zeros_like(logits)
        silence[..., self.end] = self.margin
        return torch.where(self.seen(inputs, mask)[..., None], silence, logits)

    def seen(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Mark the tokens at or after the end of a run, bool [b, t]."""
        found = torch.zeros_like(mask)
        for run in self.runs:
            here = mask.clone()
            for back, token in enumerate(reversed(run)):
                there = (inputs == token) & mask
                here &= nn.functional.pad(there, (back, 0))[:, : mask.shape[1]]
            found |= here
        return found.cumsum(1) > 0


CHUNK = 64


@word
class ECO(Guard):
    """Add noise to the embeddings of every token, where a detector takes the text for forbidden.

    The detector is a logistic regression on the mean embedding of the text so far, fitted on the
    forget and the retain set at the tokens where answers are given. The noise is normal, in the
    first dimensions, and the same for the same place in a text.

    Args:
        strength: standard deviation of the noise.
        dims: of the embedding, from the first on, that get noise.
        threshold: probability from which a text is taken for forbidden.

    Source: Liu et al., Large Language Model Unlearning via Embedding-Corrupted Prompts, arXiv
    2406.07933; chrisliu298/llm-unlearn-eco@9b0ba1a (demo: 100 in 1 dimension; TOFU: threshold
    0.99, for forget10 0.9999). There the detector is a fine-tuned RoBERTa that sees the prompt
    alone, the last token is left as it is, names alone get noise where a tagger finds some, and the
    strength is searched for without gradients; here it is given.
    """

    strength: float = 100.0
    dims: int = 1
    threshold: float = 0.99

    def check(self) -> None:
        if self.strength <= 0 or self.dims < 1 or not 0 < self.threshold < 1:
            raise BadSentence(
                "ECO: strength must be above 0, dims 1 or more, and threshold between 0 and 1."
            )

    def made(self, setting: GuardSetting) -> Mechanism:
        width = next(embedding_of(setting.model).parameters()).shape[1]
        if self.dims > width:
            raise BadSentence(f"ECO: dims is {self.dims}, and an embedding has {width}.")
        return _Corrupted(fitted(setting), self, derived("corruption", setting.seed))


class _Corrupted(Mechanism):
    """Clean answers, or those to noisy embeddings, token by token as the detector says."""

    def __init__(self, detector: Detector, guard: ECO, seed: int) -> None:
        super().__init__()
        self.detector, self.guard, self.seed = detector, guard, seed

    def forward(self, base: nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
        states = embedding_of(base)(inputs)
        hidden = self.detector(states.float(), mask) >= self.guard.threshold
        clean = asked(base, mask, input_ids=inputs)
        if not bool(hidden.any()):
            return clean
        noisy = asked(base, mask, inputs_embeds=states + self.noise(states, mask))
        return torch.where(hidden[..., None], noisy, clean)

    def noise(self, states: Tensor, mask: Tensor) -> Tensor:
        """Make what is added to the embeddings, [b, t, d], by each token's number in its text."""
        places = (mask.cumsum(1) - 1).clamp_min(0)
        some = gaussian(
            places.flatten(), states.new_zeros(mask.numel(), self.guard.dims), self.seed, 0
        )
        added = self.guard.strength * some.view(*mask.shape, self.guard.dims)
        return F.pad(added, (0, states.shape[-1] - self.guard.dims)).to(states)


class Detector(nn.Module):
    """The probability that a text so far is one to be forgotten, at each of its tokens."""

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.weight: Tensor
        self.bias: Tensor
        for name, tensor in (("mean", mean), ("scale", scale), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, tensor.float())

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map embeddings [b, t, d] and mask [b, t] to probabilities [b, t]."""
        rows = (running_mean(states, mask) - self.mean) / self.scale
        return torch.sigmoid(rows @ self.weight + self.bias)


def running_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the states at and before each token, [b, t, d]; padding is left out."""
    kept = torch.where(mask[..., None], states, 0.0)
    return kept.cumsum(1) / mask.cumsum(1).clamp_min(1)[..., None]


@torch.no_grad()
def fitted(setting: GuardSetting, ridge: float = 0.01) -> Detector:
    """Fit a detector on the forget and the retain set, both of the same weight.

    Args:
        setting: whose sets are read.
        ridge: weight of the squared coefficients, of standardised features.
    """
    rows = [_rows(setting, name) for name in ("forget", "retain")]
    both = torch.cat(rows).double()
    mean, scale = both.mean(0), both.std(0).clamp_min(1e-6)
    features = (both - mean) / scale
    wanted = torch.cat(
        [torch.full((len(r),), v).double() for r, v in zip(rows, (1, 0), strict=True)]
    )
    share = torch.cat([torch.full((len(r),), 0.5 / len(r)).double() for r in rows])
    found = logistic(features, wanted, share, ridge)
    return Detector(mean, scale, found[:-1], found[-1])


@torch.enable_grad()
def logistic(features: Tensor, wanted: Tensor, share: Tensor, ridge: float) -> Tensor:
    """Fit a weighted logistic regression.

    Args:
        features: float64 [n, d].
        wanted: 0 or 1 for each row, float64 [n].
        share: weight of each row, float64 [n].
        ridge: weight of the squared coefficients.

    Returns:
        The coefficients and, last, the intercept, float64 [d + 1].
    """
    found = features.new_zeros(features.shape[1] + 1).requires_grad_(True)
    optimiser = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        said = features @ found[:-1] + found[-1]
        each = F.binary_cross_entropy_with_logits(said, wanted, reduction="none")
        total = (share * each).sum() + ridge * found[:-1].square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    return found.detach()


def _rows(setting: GuardSetting, name: str) -> Tensor:
    """Return the running means of one set at the tokens where answers are given, [n, d]."""
    data, found = setting.problem.data(name), []
    device = next(setting.model.parameters()).device
    for rows in torch.arange(len(data)).split(CHUNK):
        batch = data.batch(rows).to(device)
        if not isinstance(batch, Tokens):
            raise BadData(f"The set {name} holds no texts, and ECO guards what is asked in words.")
        states = running_mean(embedding_of(setting.model)(batch.inputs).float(), batch.mask)
        found.append(batch.aligned(states)[batch.scored])
    setting.counts.add({name: len(data)})
    return torch.cat(found).cpu()
