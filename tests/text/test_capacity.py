"""What a run will take, told before: counted by hand on a small model, and refused in sentences."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch

from expunge.core.schedules import SGD, AdamW
from expunge.engine.training import Train
from expunge.errors import TooLarge
from expunge.methods import capacity as room
from expunge.methods.capacity import Capacity, capacity, explain_memory
from expunge.methods.cost import bytes_in_words, time_in_words
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.other_answers import DPO
from expunge.methods.losses.representation import Match
from expunge.methods.selectors.places import Named
from expunge.methods.sentences import as_method
from expunge.methods.steps.adapter import LoRA
from expunge.methods.steps.edits import Noise

SETS = ("forget", "retain")
WEIGHTS = sum(w.numel() for w in tiny_text.fresh().parameters())


def train(**rest: Any) -> Train:
    rest = {"objective": CE("forget"), "batch": 2, "optimiser": AdamW(), **rest}
    return Train(rest.pop("objective"), **rest)


def told(steps: Any, **rest: Any) -> Capacity:
    return capacity(tiny_text.taught(), as_method(steps), tiny_text.problem(), **rest)


def test_weights_gradients_and_the_optimiser_by_hand() -> None:
    found = told(train())
    assert (found.weights, found.second) == (4 * WEIGHTS, 0)
    assert (found.gradients, found.optimiser) == (4 * WEIGHTS, 8 * WEIGHTS)
    assert told(train(optimiser=SGD())).optimiser == 4 * WEIGHTS
    assert told(train(optimiser=SGD(momentum=0.0))).optimiser == 0
    assert told(train(objective=KL("retain"))).second == 4 * WEIGHTS
    assert told(train(objective=NPO("forget"))).second == 0
    part = told(train(where=Named(r"layers\.0\.mlp\.down_proj")))
    assert part.gradients == 4 * 16 * 42


def test_an_adapter_needs_its_own_gradients_alone() -> None:
    found = told(LoRA((train(objective=KL("retain")),), rank=2))
    shapes = [(16, 16)] * 4 + [(16, 42)] * 2 + [(42, 16)]
    assert found.gradients == 4 * 2 * 2 * sum(a + b for a, b in shapes)
    assert (found.optimiser, found.second) == (2 * found.gradients, 0)


def test_logits_by_hand() -> None:
    """Log p is kept; the answers themselves and their slopes come by: three times n x k floats."""
    found = told(train(batch=1))
    data = tiny_text.problem().data("forget")
    row = int(data.token_counts().argmax())  # type: ignore[attr-defined]
    longest = data.batch(torch.tensor([row]))
    answers = int(longest.scored.sum()) * len(tiny_text.tokenizer())
    assert found.logits == 3 * 4 * answers


def test_both_sets_at_once_are_as_long_as_their_longest() -> None:
    """The set `train` is the forget and the retain set, joined."""
    both = max(told(train(objective=CE(name), batch=1)).activations for name in SETS)
    assert told(train(objective=CE("train"), batch=1)).activations == both > 0


def test_pieces_and_processes_divide_and_checkpoints_save() -> None:
    whole, half = told(train()), told(train(accumulate=2))
    assert whole.activations == 2 * half.activations > 0
    assert told(train(), processes=2).activations == half.activations
    assert told(train(), processes=2).needed > 2 * half.needed
    # one set's activations are gone before the other's are made; a set read twice is read once
    each = [told(train(objective=CE(name))).activations for name in SETS]
    assert told(train(objective=CE("forget") + CE("retain"))).activations == max(each)
    held = told(train(objective=CE("forget") + DPO("forget"))).activations
    assert held > 1.5 * whole.activations
    assert told(train(checkpointing=True)).activations < 0.8 * whole.activations
    assert told(()).needed == told(Noise(0.1)).needed == 0
    longer = (train(epochs=1), train(epochs=40))
    assert told(longer).seconds > 10 * told(train(epochs=1)).seconds


def test_a_part_beneath_all_that_moves_costs_no_gradient() -> None:
    upper = Named(r"layers\.1\..*")
    both = train(objective=CE("forget") + Match("retain", layer=0), where=upper)
    assert told(both).activations == told(train(where=upper)).activations > 0


def test_a_forecast_leaves_the_model_as_it_is() -> None:
    model = copy.deepcopy(tiny_text.taught())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    for steps in (train(objective=NPO("forget") + KL("retain")), LoRA((train(),))):
        capacity(model, as_method(steps), tiny_text.problem())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert before.keys() == model.state_dict().keys()
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_fit_is_refused_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free", lambda device: 1000)
    with pytest.raises(
        TooLarge, match=r"gradients .* MiB.*are free.*--accumulate.*--lora"
    ) as fault:
        told(train())
    assert fault.value.exit_code == 12
    few = dataclasses.replace(Capacity(0, 0, 0, 0, 600, 400, 1000, 4), free=1000)
    few.check()
    with pytest.raises(TooLarge):
        dataclasses.replace(few, free=999).check()


def test_what_is_free(tmp_path: Path) -> None:
    assert 2**20 < room.free(torch.device("cpu")) < 2**50
    assert list(room._left_in_container(tmp_path)) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert list(room._left_in_container(tmp_path)) == []
    (tmp_path / "memory.max").write_text("12\n")
    assert list(room._left_in_container(tmp_path)) == [7]


def test_running_out_of_memory_is_a_sentence() -> None:
    for fault in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        found = pytest.raises(TooLarge, match=r"ran out while it ran.*--accumulate")
        with found, explain_memory("it ran"):
            raise fault
    with pytest.raises(RuntimeError, match="other"), explain_memory("it ran"):
        raise RuntimeError("other")
    # a tensor that no machine holds, asked of the real allocator
    with pytest.raises(TooLarge), explain_memory("it ran"):
        torch.empty(2**55)


def test_units() -> None:
    assert (bytes_in_words(2**30), bytes_in_words(3 * 2**20)) == ("1.00 GiB", "3.0 MiB")
    assert [time_in_words(s) for s in (0.2, 60, 600, 7200)] == ["1 s", "60 s", "10 min", "2.0 h"]
