"""Losses on the outputs of a transformer's layers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.core.batch import holds_tokens
from expunge.core.term import Term, check_teacher
from expunge.core.view import Known, View, blocks, layer_of
from expunge.core.vocabulary import word
from expunge.errors import BadSentence
from expunge.methods.losses.answers import above_zero
from expunge.methods.losses.likelihood import batches_of
from expunge.methods.losses.other_answers import gaussian

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class Match(Term):
    """Squared distance of a layer's outputs from a teacher's, mean over scored tokens.

    Args:
        set: the set to be retained.
        layer: counted from 0.
        teacher: "original" or "random".

    Source: the retain term of RMU, as for `Steer` (weight 1200 for Zephyr-7B).
    """

    mean_over: ClassVar[str] = "targets"
    set: str
    layer: int = 7
    teacher: str = "original"

    def check(self) -> None:
        check_teacher(self)

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return (self.layer,)

    def unfit(self, problem: ProblemProtocol) -> str:
        return no_tokens(problem, self.set)

    def __call__(self, view: View) -> Tensor:
        ours = view.hidden(self.set, self.layer).float()
        theirs = view.hidden(self.set, self.layer, self.teacher).float()
        return view.mean_square(self.set, ours, theirs)


@word
class Steer(Term):
    """Squared distance of a layer's outputs from a fixed random direction, mean over scored tokens.

    The direction is uniform in [0, 1) in each coordinate and made `scale` long; it is sampled once
    for each seed, and the receipt keeps it. The outputs are those at the tokens that answer a
    scored target: all but the last of a plain text, as in the authors' code.

    Args:
        set: the set to be forgotten.
        layer: counted from 0.
        scale: length of the direction; it goes with the norm of the model's hidden states.

    Source: Li et al., The WMDP Benchmark, arXiv 2403.03218, section 4 (RMU; 6.5 and layer 7 for
    Zephyr-7B); locuslab/open-unlearning@7fa0b55, rmu.py, which keeps no direction.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    set: str
    layer: int = 7
    scale: float = 6.5

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return (self.layer,)

    def unfit(self, problem: ProblemProtocol) -> str:
        return no_tokens(problem, self.set)

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        return random_direction(run, self, self.scale)

    def __call__(self, view: View) -> Tensor:
        states = view.hidden(self.set, self.layer).float()
        return view.mean_square(self.set, states, view.facts(self)["direction"].expand_as(states))


def random_direction(run: RunProtocol, term: Term, length: float) -> dict[str, Tensor]:
    """Sample the direction of a steering term, [hidden size], and write it into the receipt.

    Each coordinate is uniform in [0, 1); then the whole is scaled to `length`.
    """
    blocks(run.original)  # says why where the model is no transformer
    width = int(run.original.config.hidden_size)  # type: ignore[union-attr, arg-type]
    sampled = torch.rand(width, generator=run.stream("direction"))
    direction = length * sampled / sampled.norm()
    run.counts.drawn[repr(term)] = tuple(direction.tolist())
    return {"direction": direction.to(next(run.original.parameters()))}


@word
class AdaptiveSteer(Term):
    """Squared distance of a layer's outputs from a random direction, `scale` times as long.

    As `Steer`, but the direction's length is `scale` times the mean norm of the original's outputs
    of that layer on the set, so one number does for every layer. The receipt keeps the direction.

    Args:
        set: the set to be forgotten.
        layer: counted from 0.
        scale: beta of the paper.

    Source: Dang et al., On Effects of Steering Latent Representation, arXiv 2408.06223;
    RebelsNLU-jaist/llm-unlearning@3f951e2, baselines/adap_rmu/unlearn.py (5), which takes the norm
    over the first minibatch alone, padding and all (fault); here it is over every scored token of
    the set.
    """

    mean_over: ClassVar[str] = "targets"
    draws: ClassVar[bool] = True
    set: str
    layer: int = 7
    scale: float = 5.0

    def check(self) -> None:
        above_zero(self, "scale")

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return (self.layer,)

    def unfit(self, problem: ProblemProtocol) -> str:
        return no_tokens(problem, self.set)

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return Counter({self.set: len(problem.data(self.set))})

    def facts(self, run: RunProtocol) -> dict[str, Tensor]:
        norm = mean_norm(run, self.set, self.layer)
        return random_direction(run, self, self.scale * norm)

    def __call__(self, view: View) -> Tensor:
        states = view.hidden(self.set, self.layer).float()
        return view.mean_square(self.set, states, view.facts(self)["direction"].expand_as(states))


@torch.no_grad()
def mean_norm(run: RunProtocol, name: str, layer: int) -> float:
    """Return the mean L2 norm of the original's layer outputs at the scored tokens of a set."""
    blocks(run.original)  # says why where the model is no transformer
    known = Known(layers={("", layer): layer_of(run.original, layer)})
    total, count = 0.0, 0
    for batch in batches_of(run, name):
        view = View(run.original, {name: batch}, {}, {}, 0.0, run.seed, known)
        norms = view.hidden(name, layer).float().norm(dim=-1)
        assert batch.scored is not None  # `hidden` refuses what is not of tokens
        total += float(norms[batch.scored].sum())
        count += int(batch.scored.sum())
    return total / count


class FirstLayers(Term):
    """A loss on what a model's first `layers` layers give, on the texts of one `set`; abstract."""

    set: str
    layers: int

    def check(self) -> None:
        if self.layers < 1:
            name = type(self).__name__
            raise BadSentence(f"{name}: layers must be 1 or more, got {self.layers}.")

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return tuple(range(self.layers))

    def unfit(self, problem: ProblemProtocol) -> str:
        return no_tokens(problem, self.set)


@word
class NoiseMatch(FirstLayers):
    """Distance of a model's representations of a set from Gaussian noise, by MMD, mean over layers.

    A sample is all scored tokens of an example at one layer, one after the other, and the noise is
    standard normal, of the same size, new at every minibatch: a hash of the example's index, the
    seed, the layer and the progress. The kernel is a sum of five Gaussians whose widths
    follow the mean distance between samples; the widths have no gradient.

    Args:
        set: the set to be forgotten.
        layers: how many layers, from the first on.

    Source: Rosati et al., Representation Noising, arXiv 2405.14577;
    domenicrosati/representation-noising@03689ff, loss.py, which takes the outputs of the MLPs and
    not of whole layers, at the tokens that differ between two paired texts.
    """

    draws: ClassVar[bool] = True
    set: str
    layers: int = 32

    def __call__(self, view: View) -> Tensor:
        index, salt = view.batch(self.set).index, int(view.progress * 2**40)
        found = []
        for layer in self.reads_layers:
            states, inside = packed(view, self.set, layer)
            noise = gaussian(index, states, view.seed, salt * self.layers + layer) * inside
            found.append(discrepancy(states.flatten(1), noise.flatten(1)))
        return torch.stack(found).mean()


# Widths of the kernels, as multiples of the mean squared distance between samples.
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def packed(view: View, name: str, layer: int) -> tuple[Tensor, Tensor]:
    """Move a layer's outputs at the scored tokens of each example to the front of its row.

    Returns:
        states [b, t', d], 0 where an example has fewer tokens, and where there are some [b, t', 1].
    """
    states, scored = view.hidden(name, layer).float(), view.batch(name).scored
    assert scored is not None  # `hidden` refuses what is not of tokens
    order = (~scored).to(torch.int8).argsort(dim=-1, stable=True)[:, : int(scored.sum(-1).max())]
    inside = scored.gather(-1, order)[..., None]
    wide = order[..., None].expand(-1, -1, states.shape[-1])
    return torch.where(inside, states.gather(1, wide), 0.0), inside


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Return the maximum mean discrepancy of two samples, [n, d] each, by five Gaussian kernels.

    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, equation 5.
    """
    both, n = torch.cat([a, b]), len(a)
    sizes = both.square().sum(-1)
    apart = (sizes[:, None] + sizes - 2 * both @ both.T).clamp_min(0)
    width = apart.detach().sum() / (len(both) * (len(both) - 1))
    kernel = sum((torch.exp(-apart / (width * w)) for w in WIDTHS), torch.zeros_like(apart))
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


@word
class LogLens(FirstLayers):
    """log(1 + cross-entropy of the logit lens, mean over layers); subtract it to blind every layer.

    The logit lens is what the model's last normalisation and head make of a layer's outputs. The
    logarithm keeps the ascent from running away.

    Args:
        set: the set to be forgotten.
        layers: how many layers, from the first on.

    Source: Rosati et al., Representation Noising, arXiv 2405.14577;
    domenicrosati/representation-noising@03689ff, loss.py, which adds the embeddings and, twice, the
    last answers to the layers, and leaves out every token whose number is 0 (fault).
    """

    reads_lens: ClassVar[bool] = True
    set: str
    layers: int = 32

    def __call__(self, view: View) -> Tensor:
        targets = view.targets(self.set)
        found = [F.cross_entropy(view.lens(self.set, n), targets) for n in self.reads_layers]
        return torch.log1p(torch.stack(found).mean())


def no_tokens(problem: ProblemProtocol, name: str) -> str:
    """Say as a clause why a language model's layers cannot read a set; empty when they can."""
    if holds_tokens(problem.data(name)):
        return ""
    return f"the set {name} holds no texts, and the layers of language models are asked about it"
