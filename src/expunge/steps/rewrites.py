"""Steps that rewrite weights without drawing: transposed kernels, and half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from expunge.errors import Unsupported
from expunge.parts import Convs, Part
from expunge.steps.step import Step
from expunge.words import word

if TYPE_CHECKING:
    from expunge.unlearn import Run


@word
class Transpose(Step):
    """Swap height and width of every kernel, as if the network were shown mirrored pictures.

    What the kernels have learnt stays useful, so that fine-tuning repairs it soon.

    Source: fifth prize of the NeurIPS 2023 challenge (toshi_k & marvelworld), part 2 of their
    write-up (kaggle.com/c/neurips-2023-machine-unlearning/discussion/458531): axes 2 and 3 of all
    Conv2d weights.

    Raises:
        Unsupported: the part holds other weights than whole kernels of square convolutions.
    """

    sees_original: ClassVar[bool] = False
    where: Part = Convs()

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        mask = run.mask(self.where)
        chosen = {n: w for n, w in run.model.named_parameters() if bool(mask[n].any())}
        for name, weight in chosen.items():
            if weight.ndim != 4 or not bool(mask[name].all()):
                raise Unsupported(
                    f"Transpose takes whole kernels [out, in, height, width]; {self.where!r} holds "
                    f"{int(mask[name].sum())} weights of {name}, {tuple(weight.shape)}."
                )
            if weight.shape[2] != weight.shape[3]:
                raise Unsupported(
                    f"The kernel {name} is {weight.shape[2]} x {weight.shape[3]}; only a square "
                    "one can be transposed. Leave it out of the part."
                )
        for weight in chosen.values():
            weight.copy_(weight.transpose(2, 3).clone())


@word
class Half(Step):
    """Round all weights and statistics to half precision (float16), and go on as before.

    Source: last stage of the fourth prize of the NeurIPS 2023 challenge (Sebastian Oleszko).
    """

    sees_original: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        for tensor in run.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
