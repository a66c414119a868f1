"""Unlearning by a sentence, a published method's name, or steps."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from expunge.engine import unlearning
from expunge.methods.sentences import as_method

if TYPE_CHECKING:
    from torch import nn

    from expunge.core.problem import Problem
    from expunge.core.receipt import Unlearned
    from expunge.engine.checkpoint import Checkpointer
    from expunge.engine.distributed import Team


def unlearn(
    model: nn.Module,
    method: Any,
    problem: Problem,
    *,
    seed: int = 0,
    in_place: bool = False,
    checkpointer: Checkpointer | None = None,
    team: Team | None = None,
    keeper: Checkpointer | None = None,
) -> Unlearned:
    """Make a copy of a model forget; the model that you pass is left as it is.

    In memory are the model that you pass, which is looked at as the original, and the copy; for a
    method that is `LoRA` alone no copy either. In place there is one model, and a second one only
    where the method compares with the original as it goes (KL, MSE, Match, Undial, and selectors
    judged on it); a language model's terms that need no more than the original's likelihood of each
    answer (NPO, DPO) compute it first and keep a number an example.

    Args:
        model: the original, trained on "train"; any module from inputs to logits.
        method: a Method, a step or steps, a published method's name, or a sentence.
        problem: the named sets; `Problem.of(forget=..., retain=...)` is enough for most methods.
        seed: all that is drawn at random follows from it.
        in_place: give the model away: it is changed itself, and is what comes out.
        checkpointer: writes checkpoints from time to time, and resumes from them; in place only.
        team: this process among several that train together; in place only.
        keeper: the old name of `checkpointer`, for one more release.

    Raises:
        NothingChanged: the method left every weight as it was.
        Diverged: a loss or a weight became infinite or not a number.
        OffLimits: the method asked for a set that is for measuring only.
        BadData, BadSentence, Unsupported: as their messages say.
    """
    if keeper is not None:
        warnings.warn(
            "unlearn(keeper=...) is called unlearn(checkpointer=...) now.",
            DeprecationWarning,
            stacklevel=2,
        )
    return unlearning.unlearn(
        model,
        as_method(method) if isinstance(method, str) else method,
        problem,
        seed=seed,
        in_place=in_place,
        checkpointer=checkpointer or keeper,
        team=team,
    )
