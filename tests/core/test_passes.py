"""No hidden pass: what goes through a model is what the sentence implies and the receipt says.

Every forward pass of a network of the problem's own architecture is counted, by whatever model:
the one that is changed, the original, a teacher, a copy. Within the training loop a minibatch takes
one pass for each set and model, and one backward pass. Over a whole run, all passes together are
the examples of the receipt, the answers of the forecast (teachers, passes beyond the first) and
what a step makes itself. Examples are counted, not calls: a pass over a minibatch of 8 counts 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import tiny
from contracts import ON_IMAGES
from expunge.core.method import Method, Step, words_of
from expunge.core.term import Term
from expunge.core.view import View
from expunge.core.vocabulary import word
from expunge.engine import loop
from expunge.engine import loop as group
from expunge.engine.memory import passes
from expunge.engine.run import Run
from expunge.engine.training import Train
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE, KL, Entropy
from expunge.methods.losses.noise import Jittered, Lipschitz
from expunge.methods.steps.classes import Impair
from expunge.unlearn import unlearn

functorch: Any = torch._C._functorch


class Net(nn.Sequential):
    """The tiny network under a name of its own, so that its passes can be told."""


def net() -> Net:
    return Net(*tiny.net())


def examples_in(inputs: Tensor) -> int:
    """How many digits go through a pass: `vmap` and `grad` wrap them, and are taken off."""
    while functorch.is_functorch_wrapped_tensor(inputs):
        inputs = functorch.get_unwrapped(inputs)
    return inputs.numel() // 64


@contextmanager
def forwards() -> Iterator[list[int]]:
    """The examples of every forward pass of a `Net`, in order, while the block runs."""
    seen: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, Net):
            seen.append(examples_in(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def backwards() -> Iterator[list[int]]:
    """One entry for every backward pass into `.grad`."""
    seen, real = [], torch.autograd.backward

    def counted(*arguments: Any, **rest: Any) -> None:
        seen.append(1)
        real(*arguments, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "backward", counted)
        yield seen


def a_minibatch_takes_what_its_objective_implies(patch: pytest.MonkeyPatch) -> list[int]:
    """Make the training loop check each of its minibatches; return what grows by one with each."""
    real, checked = loop.backward, []

    def backward(objective: Term, train: Train, models: Any, batches: Any, at: float) -> Tensor:
        for run in models.runs:  # what is computed once a run is not this minibatch's
            group.known_to(objective, run)
            for teacher in objective.teachers:
                run.teacher(teacher)
        with forwards() as went, backwards() as back:
            losses = real(objective, train, models, batches, at)
        due = passes(objective)
        found = sum(went), sum(due[name] * len(batch) for name, batch in batches.items())
        assert found[0] == found[1], (
            f"{objective!r}: {found[0]} examples went through a model at one minibatch, and the "
            f"sentence implies {found[1]}. Read answers through the view, which keeps them, or "
            "declare `asks`, `extra_passes` or `alters`."
        )
        assert len(went) == due.total(), f"{objective!r}: {len(went)} passes, {due.total()} implied"
        assert len(back) == 1, f"{objective!r}: {len(back)} backward passes at one minibatch"
        checked.append(1)
        return losses

    patch.setattr(loop, "backward", backward)
    return checked


# Reads only the classes of the forget set: the receipt counts it, and no image of it is seen.
WITHOUT_A_PASS = (Impair,)


def counted(method: Method, patch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Examples in all passes of one run, as told by the receipt and forecast; and minibatches."""
    task = tiny.fitting(method, architecture=net)
    checked = a_minibatch_takes_what_its_objective_implies(patch)
    model = tiny.made(net)
    with forwards() as went:
        receipt = unlearn(model, method, task, seed=1).receipt
    cost = forecast(method, task)
    told = sum(receipt.examples.values()) + cost.answered + cost.made
    for unseen in words_of(method.steps):
        if isinstance(unseen, WITHOUT_A_PASS):
            told -= len(task.data(unseen.set))
    return sum(went), told, len(checked)


def may_stop(method: Method) -> bool:
    return forecast(method, tiny.fitting(method)).at_most


@pytest.mark.parametrize("name", ON_IMAGES)
def test_every_pass_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ON_IMAGES[name]
    found, told, _ = counted(method, monkeypatch)
    if may_stop(method):  # the forecast of answers is for the whole course
        assert found <= told, f"{name}: {found} examples went through models, {told} at most due"
    else:
        assert found == told, (
            f"{name}: {found} examples went through models, and the receipt and the forecast tell "
            f"of {told}. Note what is read with run.counts.add(...), and declare it in `reads` "
            "(ANSWERS for passes without a backward one, MADE for inputs that the step makes)."
        )


def test_training_is_checked_at_every_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Method("x", (Train(CE("retain") + KL("forget"), epochs=2, batch=10),))
    assert counted(two, monkeypatch)[2] == 10  # 48 retained examples in tens, twice


def test_passes_by_hand() -> None:
    both = CE("retain") + KL("retain") - 0.1 * Entropy("forget")
    assert passes(both) == Counter({"retain": 2, "forget": 1})
    noisy = Jittered(CE("retain") + KL("retain"), std=0.1)
    assert passes(noisy) == Counter({"retain": 2})
    assert passes(noisy + CE("retain")) == Counter({"retain": 3})
    assert passes(Lipschitz("forget", samples=4)) == Counter({"forget": 5})


def uncached(view: View, who: str, name: str, model: Any) -> Tensor:
    return view._batches[name].logits(model)


def test_a_view_that_forgets_its_answers_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "_cached", uncached)
    twice = Method("x", (Train(CE("forget") - Entropy("forget")),))
    with pytest.raises(AssertionError, match="24 examples went through a model"):
        counted(twice, monkeypatch)


@word
class Peeking(Step):
    """A step that looks at the forget set and says nothing."""

    def __call__(self, run: Run) -> None:
        batch = run.data("forget").batch(torch.arange(5))
        with torch.no_grad():
            run.model(batch.inputs)
            run.model[4].bias.add_(1.0)


@word
class Second(Term):
    """A term that makes a pass of its own."""

    set: str

    def __call__(self, view: View) -> Tensor:
        return view.logits(self.set).mean() + view.batch(self.set).logits(view._model).mean()


def test_a_hidden_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told, _ = counted(Method("x", (Peeking(),)), monkeypatch)
    assert (found, told) == (5, 0)
    with pytest.raises(AssertionError, match="declare `asks`"):
        counted(Method("x", (Train(Second("forget")),)), monkeypatch)
