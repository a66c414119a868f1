"""What a term sees: one minibatch of each of its sets, and one model's answers on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from expunge.batch import Images


class View:
    """One model at one minibatch; each forward pass is made once, however many terms read it.

    Args:
        model: inputs -> logits, with gradients.
        batches: name of a set -> its minibatch.
        teachers: name of a teacher -> inputs -> logits, without gradients.
        weights: name -> weight that may move, with gradients.
        progress: how far the step has come, 0.0 to 1.0.
        seed: the member's seed, for draws that belong to the member.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        batches: Mapping[str, Images],
        teachers: Mapping[str, Callable[[Tensor], Tensor]],
        weights: Mapping[str, Tensor],
        progress: float,
        seed: int | Tensor,
    ) -> None:
        self._model, self._batches, self._teachers = model, batches, teachers
        self._answers: dict[tuple[str, str], Tensor] = {}
        self.weights, self.progress, self.seed = weights, progress, seed

    def batch(self, name: str) -> Images:
        """The minibatch of one set."""
        return self._batches[name]

    def logits(self, name: str) -> Tensor:
        """The model's answers on the minibatch of one set, [b, *t, k]."""
        return self._cached("", name, self._model)

    def teacher(self, teacher: str, name: str) -> Tensor:
        """A teacher's answers on the minibatch of one set, [b, *t, k], without gradients."""
        return self._cached(teacher, name, self._teachers[teacher])

    def _cached(self, who: str, name: str, model: Callable[[Tensor], Tensor]) -> Tensor:
        if (who, name) not in self._answers:
            self._answers[who, name] = self._batches[name].logits(model)
        return self._answers[who, name]
