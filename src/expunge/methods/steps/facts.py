"""Steps that write single facts into a language model: locate, and edit."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.core.method import Step
from expunge.core.view import layer_of
from expunge.core.vocabulary import word
from expunge.errors import BadSentence
from expunge.methods.steps.editing import (
    Fact,
    Search,
    at_subject,
    contexts,
    damped,
    fact,
    missing,
    projection,
    rank_one,
    rows_of,
    second_moments,
    spread,
    wanted,
    write,
)

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


class FactEdit(Step):
    """Write a set's other answers as facts into MLPs of a language model; abstract."""

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = True
    set: str
    against: str
    steps: int
    lr: float
    clamp: float
    kl: float
    decay: float
    prefixes: int
    samples: int
    damping: float

    @property
    @abstractmethod
    def passes(self) -> int:
        """How often each fact is read beside the search for its value."""

    def check_numbers(self, layers: tuple[int, ...]) -> None:
        """Refuse numbers that no edit of these layers can be made with."""
        name = type(self).__name__
        if any(layer < 0 for layer in layers):
            raise BadSentence(f"{name}: layers are counted from 0, got {layers}.")
        if min(self.steps, self.samples) < 1 or min(self.lr, self.clamp) <= 0:
            raise BadSentence(f"{name}: steps and samples must be 1 or more, lr and clamp above 0.")
        if min(self.kl, self.decay, self.prefixes, self.damping) < 0:
            raise BadSentence(f"{name}: kl, decay, prefixes and damping must be 0 or more.")

    @property
    def reads_labels(self) -> tuple[str, ...]:
        return (self.set,)

    def unfit(self, problem: ProblemProtocol) -> str:
        return missing(problem.data(self.set))

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        """At most: each fact in each step of its search, behind all its contexts at once."""
        facts, others = len(problem.data(self.set)), len(problem.data(self.against))
        read = Counter({self.set: facts * (self.steps + self.passes)})
        return read + Counter({self.against: min(self.samples, others)})

    @property
    def search(self) -> Search:
        """How it looks for a value."""
        return Search(self.steps, self.lr, self.clamp, self.kl, self.decay)


@word
class Rome(FactEdit):
    """Write the set's other answers as facts, one after another: a rank-one edit of one MLP each.

    The key is what enters the MLP's last matrix at the subject's last token, averaged over
    contexts; gradient descent finds the value; the matrix changes by the rank-one update that
    other keys notice least.

    Args:
        layer: whose MLP is edited, counted from 0 (17 of 48 in GPT-2 XL, 5 of 28 in GPT-J).
        set: texts with other answers (`instead`) and subjects.
        against: texts whose keys should notice little.
        steps, lr, clamp, kl, decay: of the search for the value, see
            `expunge.methods.steps.editing.Search`.
        prefixes: contexts of 5 tokens, and as many of 10, that the model writes itself.
        samples: texts of `against` that are read, at most.
        damping: added to the keys' covariance, as a share of its mean diagonal.

    Source: Meng et al., Locating and Editing Factual Associations in GPT, arXiv 2202.05262,
    section 3.1; kmeng01/rome@0874014, rome/ and hparams/ROME (GPT-J).
    """

    layer: int
    set: str = "forget"
    against: str = "retain"
    steps: int = 20
    lr: float = 0.5
    clamp: float = 4.0
    kl: float = 0.0625
    decay: float = 0.5
    prefixes: int = 10
    samples: int = 100_000
    damping: float = 0.0

    def check(self) -> None:
        self.check_numbers((self.layer,))

    @property
    def passes(self) -> int:
        return 2

    def __call__(self, run: RunProtocol) -> None:
        run.model.eval()
        matrix = projection(run.model, self.layer)
        before = [text for n in (5, 10) for text in contexts(run, n, self.prefixes)]
        moments = second_moments(run, self.against, {0: matrix}, self.samples)
        covariance = damped(moments[0], self.damping)
        for row in rows_of(run.data(self.set), other=True):
            one = fact(run.model, row, before)
            keys = at_subject(run.model, one, matrix, inward=True)
            found = wanted(run, one, matrix, self.search)
            write(matrix, rank_one(covariance, keys.mean(0), keys[0], found.delta))
            run.counts.add({self.set: found.read + 1})


@word
class Memit(FactEdit):
    """Write all of the set's other answers at once, spread over the MLPs of several layers.

    Gradient descent finds what the last of the layers should give at each subject's last token;
    then each layer in turn takes its share of what is still missing there.

    Args:
        layers: whose MLPs are edited, in order (13 to 17 in GPT-2 XL, 3 to 8 in GPT-J).
        weight: how many other keys the covariance counts as; it should grow with the width of the
            MLP (GPT-J has 16,384).
        set, against, steps, lr, clamp, kl, decay, samples, damping: as for `Rome`.
        prefixes: contexts of 10 tokens that the model writes itself (the reference code begins
            them with "The", "Therefore", "Because", "I", "You").

    Source: Meng et al., Mass-Editing Memory in a Transformer, arXiv 2210.07229, section 4;
    kmeng01/memit@80426fd, memit/ and hparams/MEMIT (GPT-J).
    """

    layers: tuple[int, ...]
    weight: float = 15_000.0
    set: str = "forget"
    against: str = "retain"
    steps: int = 25
    lr: float = 0.5
    clamp: float = 0.75
    kl: float = 0.0625
    decay: float = 0.5
    prefixes: int = 5
    samples: int = 100_000
    damping: float = 0.0

    def check(self) -> None:
        self.check_numbers(self.layers)
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.weight < 0:
            raise BadSentence(
                f"Memit: layers go up, each once, and weight is 0 or more; got {self.layers} and "
                f"{self.weight}."
            )

    @property
    def passes(self) -> int:
        return 1 + 2 * len(self.layers)

    def __call__(self, run: RunProtocol) -> None:
        run.model.eval()
        rows = rows_of(run.data(self.set), other=True)
        before = contexts(run, 10, self.prefixes)
        facts = [fact(run.model, row, before) for row in rows]
        matrices = {n: projection(run.model, n) for n in self.layers}
        # all on the model as it is: each layer's keys before any layer is edited
        moments = second_moments(run, self.against, matrices, self.samples)
        last = layer_of(run.model, self.layers[-1])
        found = [wanted(run, one, last, self.search) for one in facts]
        goal = torch.stack([one.start + one.delta for one in found], dim=1)
        run.counts.add({self.set: sum(one.read for one in found)})
        for done, (number, matrix) in enumerate(matrices.items()):
            keys = torch.stack([mean_key(run, one, matrix) for one in facts], dim=1)
            now = [at_subject(run.model, one, last, inward=False)[0] for one in facts]
            share = (goal - torch.stack(now, dim=1)) / (len(matrices) - done)
            covariance = damped(moments[number], self.damping)
            write(matrix, spread(covariance, self.weight, keys, share))
            run.counts.add({self.set: 2 * len(facts)})


def mean_key(run: RunProtocol, one: Fact, matrix: torch.nn.Module) -> torch.Tensor:
    """Return half the key of the bare prompt and half the mean of those behind contexts, [d]."""
    keys = at_subject(run.model, one, matrix, inward=True)
    return (keys[0] + keys[1:].mean(0)) / 2 if len(keys) > 1 else keys[0]
