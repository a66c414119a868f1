"""A step that trains a low-rank adapter in the place of the weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from expunge.core.machine import peft, transformers
from expunge.core.method import Step
from expunge.core.seeds import isolated
from expunge.core.selector import Everything, Mask, Selector
from expunge.core.vocabulary import word
from expunge.engine.loop import SingleModel
from expunge.engine.training import Descent, Train, unrolled
from expunge.errors import BadSentence, Unsupported

if TYPE_CHECKING:
    from expunge.core.run import ProblemProtocol, RunProtocol


@word
class LoRA(Step):
    """Train a low-rank adapter by the steps inside, and add it to the weights at the end.

    The weights themselves are frozen meanwhile, so that the original, to compare with, is the same
    model without the adapter: no second copy is held, and gradients and the optimiser's memory
    are those of the adapter. Only the adapted matrices change at the end.

    Args:
        steps: `Train`, `PrimalDual` or `SharpnessAware`, or `Repeat` and `Mixture` of them, each
            with all weights free.
        rank: of the two factors.
        alpha: their product is multiplied by alpha / rank.
        where: the linear layers that are adapted: those with a weight in this part. The one that
            gives the answers is left out.

    Raises:
        Unsupported: no linear layer but the last lies in `where`.

    Source: Hu et al., LoRA, arXiv 2106.09685, section 4.1; huggingface/peft.
    """

    draws: ClassVar[bool] = True
    sees_original: ClassVar[bool] = False
    writes_new_weights: ClassVar[bool] = True
    steps: tuple[Step, ...]
    rank: int = 8
    alpha: float = 16.0
    where: Selector = Everything()

    def check(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise BadSentence("LoRA: rank must be 1 or more, and alpha above 0.")
        inner = [step for _, _, step in unrolled(self.steps)]
        trains = [step.trained for step in inner if isinstance(step, Descent)]
        free = [t for t in trains if t.where == Everything() and t.slowed is None]
        if not inner or len(free) < len(inner):
            raise BadSentence(
                "LoRA: the steps inside train the adapter, so each is a Train without where and "
                "slowed; say where at LoRA itself."
            )

    def reads(self, problem: ProblemProtocol) -> Counter[str]:
        return sum((s.reads(problem) for _, _, s in unrolled(self.steps)), start=Counter())

    def __call__(self, run: RunProtocol) -> None:
        tuner = self._adapted(run)
        place, turn, memory = run.place, run.turn, run.optimisers
        run.optimisers = {}
        group = Adapter(run)
        for here, now, step in unrolled(self.steps, place, turn, run.seed):
            run.place, run.turn = here, now
            assert isinstance(step, Descent)
            for epoch in step.train_group(group):
                run.counts.curve.append((epoch.place, epoch.number, epoch.losses[run.seed]))
        run.place, run.turn, run.optimisers = place, turn, memory
        # safe_merge writes new tensors: the old ones may be the original's
        tuner.merge_and_unload(safe_merge=True)
        run.model.requires_grad_(True)

    def _adapted(self, run: RunProtocol) -> Any:
        """Put the adapter into the run's model, initialised from the seed's own stream."""
        library, chosen = peft(), self._layers(run)
        conv1d = transformers().pytorch_utils.Conv1D  # GPT-2's linear layer, weights [in, out]
        modules = dict(run.model.named_modules())
        config = library.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=chosen,
            fan_in_fan_out=any(isinstance(modules[name], conv1d) for name in chosen),
        )
        with isolated(run.role, run.seed, run.place, run.turn, "adapter"):
            return library.LoraModel(run.model, config, "default")

    def resumable(self, seed: int) -> bool:
        return all(isinstance(one, Train) for _, _, one in unrolled(self.steps, seed=seed))

    def _layers(self, run: RunProtocol) -> list[str]:
        """Name the linear layers that are adapted."""
        mask = run.mask(self.where)
        kinds = (nn.Linear, transformers().pytorch_utils.Conv1D)
        linear = [n for n, module in run.model.named_modules() if isinstance(module, kinds)]
        # tied to the embedding, the last layer's weight has another name, or none
        chosen = [n for n in linear[:-1] if f"{n}.weight" in mask and mask[f"{n}.weight"].any()]
        if not chosen:
            found = ", ".join(sorted({type(m).__name__ for m in run.model.modules()}))
            raise Unsupported(
                f"No linear layer (Linear or Conv1D) but the last lies in {self.where!r}; the "
                f"model's kinds of layers are {found}."
            )
        return chosen


class Adapter(SingleModel):
    """One model of which the adapter alone is trained."""

    def __init__(self, run: RunProtocol) -> None:
        super().__init__(run)
        named = run.model.named_parameters()
        self.weights: dict[str, Tensor] = {n: w for n, w in named if w.requires_grad}

    def masks(self, where: Selector) -> Mask:
        return {name: weight.new_ones(weight.shape).bool() for name, weight in self.weights.items()}
