"""Runs that are put down and taken up again give, bit for bit, what undisturbed ones give."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from torch import nn

from expunge.core.receipt import Unlearned
from expunge.core.schedules import SGD, AdamW, Warmup
from expunge.core.term import Term
from expunge.engine import checkpoint as keeping
from expunge.engine.checkpoint import Checkpointer
from expunge.engine.loop import ModelGroup
from expunge.engine.training import Negate, Repeat, Train
from expunge.errors import StoreError
from expunge.methods.losses.answers import CE, KL
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.representation import Steer
from expunge.methods.selectors.places import Last
from expunge.methods.steps.adapter import LoRA
from expunge.methods.steps.edits import Noise, Teach
from expunge.problems.text.models import save
from expunge.unlearn import unlearn

BOTH = NPO("forget") + 0.5 * KL("retain")


class Killed(Exception):
    """Stands for kill -9: nothing of ours runs after it."""


class Dying(Checkpointer):
    """Keeps each minibatch's place, and dies before the n-th minibatch of the whole run."""

    left = 10**6

    def save_if_due(self, group: ModelGroup, done: int, summed: torch.Tensor) -> None:
        super().save_if_due(group, done, summed)
        self.left -= 1
        if self.left < 0:
            raise Killed


def train(objective: Term = BOTH, **rest: Any) -> Train:
    rest = {"epochs": 3, "lr": Warmup(0.01, 0.3), "batch": 2, "optimiser": AdamW(), **rest}
    return Train(objective, **rest)


def carried_out(
    steps: Any, checkpointer: Checkpointer | None, model: nn.Module | None = None
) -> Unlearned:
    mine = copy.deepcopy(model or tiny_text.taught())
    return unlearn(
        mine, steps, tiny_text.problem(), seed=3, in_place=True, checkpointer=checkpointer
    )


def disturbed(steps: Any, folder: Path, every: int, model: nn.Module | None = None) -> Unlearned:
    """Killed again and again, each time so many minibatches further on."""
    for _ in range(1000):
        checkpointer = Dying(folder, every=0)
        checkpointer.left = every
        try:
            return carried_out(steps, checkpointer, model)
        except Killed:
            assert any(folder.glob("at-*"))
    raise AssertionError("it never came to its end")


def alike(a: Unlearned, b: Unlearned) -> None:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    for name in ("moved", "touched", "largest", "curve", "examples", "drawn", "method"):
        assert getattr(a.receipt, name) == getattr(b.receipt, name), name


STEPS: tuple[Any, ...] = (
    train(),
    train(accumulate=2, clip=0.5, checkpointing=True),
    train(CE("retain") - CE("forget"), optimiser=SGD(momentum=0.9), epochs=2.5, where=Last(1)),
    train(Steer("forget", layer=0) + CE("retain")),
    LoRA((train(),)),
    LoRA((Repeat((train(epochs=1), train(CE("retain"), epochs=1)), 3),)),
    Repeat((train(epochs=1), train(CE("retain"), epochs=1, over="retain")), 2),
    Repeat((LoRA((train(epochs=1),)), train(CE("retain"), epochs=1)), 2),
    (Noise(0.01), train(epochs=1), Negate(train(CE("forget"), epochs=1)), train(epochs=1)),
)


@pytest.mark.parametrize("steps", STEPS, ids=lambda s: repr(s)[:70])
def test_what_was_killed_goes_on_as_if_nothing_had_been(steps: Any, tmp_path: Path) -> None:
    plain = carried_out(steps, None)
    alike(disturbed(steps, tmp_path / "kept", 2), plain)


@pytest.mark.parametrize("every", [3, 5])
def test_a_step_goes_on_with_the_optimiser_of_its_turn_before(every: int, tmp_path: Path) -> None:
    """Though the run was killed in the step before it, and not in itself."""
    two = Repeat((train(epochs=1), train(CE("retain"), epochs=1, over="retain")), 2)
    alike(disturbed(two, tmp_path / "kept", every), carried_out(two, None))


def dropping() -> nn.Module:
    model = copy.deepcopy(tiny_text.taught())
    for layer in model.model.layers:  # type: ignore[union-attr]
        layer.mlp = nn.Sequential(layer.mlp, nn.Dropout(0.3))
    return model


def test_dropout_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    net = dropping()
    plain = carried_out(train(batch=1), None, net)
    alike(disturbed(train(batch=1), tmp_path / "kept", 2, net), plain)
    other = unlearn(net, train(batch=1), tiny_text.problem(), seed=4)
    assert other.receipt.curve != plain.receipt.curve


def test_keeping_changes_nothing_in_a_run_that_is_not_disturbed(tmp_path: Path) -> None:
    alike(
        carried_out(train(), Checkpointer(tmp_path / "kept", every=0)), carried_out(train(), None)
    )


def killed(folder: Path, steps: Any = None, **rest: Any) -> None:
    checkpointer = Dying(folder, every=0, **rest)
    checkpointer.left = 3
    with pytest.raises(Killed):
        carried_out(steps or train(), checkpointer)


def test_one_whole_checkpoint_is_there_and_nothing_pickled(tmp_path: Path) -> None:
    killed(tmp_path / "kept")
    (place,) = (tmp_path / "kept").iterdir()
    assert sorted(file.name for file in place.iterdir()) == ["place.json", "tensors"]
    told = json.loads((place / "place.json").read_text())
    assert (told["step"], told["number"], told["done"]) == (0, 0, 3)
    # tied weights once; two moments and a count for each
    with keeping.safe_open(place / "tensors", "pt") as file:
        names = set(file.keys())
    weights = {n for n, _ in tiny_text.taught().named_parameters()}
    assert {n for n in names if n.startswith("model:")} == {f"model:{n}" for n in weights}
    assert len([n for n in names if n.startswith("optimiser")]) == 3 * len(weights)


def test_an_adapter_s_checkpoint_holds_the_adapter_alone(tmp_path: Path) -> None:
    killed(tmp_path / "kept", LoRA((train(),)))
    (place,) = (tmp_path / "kept").iterdir()
    with keeping.safe_open(place / "tensors", "pt") as file:
        kept = [n for n in file.keys() if n.startswith("model:")]  # noqa: SIM118
    assert len(kept) == 2 * 2 * 7
    assert all("lora_" in name for name in kept)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": train(lr=0.5)}, "another method"),
        ({"seed": 4}, "another seed"),
        ({"forget": tiny_text.pairs(slice(0, 2))}, "another forget set"),
        ({"model": 1}, "another model"),
        ({"threads": 3}, "another machine"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_another_run_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    killed(tmp_path / "kept")
    model = copy.deepcopy(tiny_text.fresh(5) if "model" in change else tiny_text.taught())
    task = tiny_text.problem()
    if "forget" in change:
        task = type(task).of(forget=change["forget"], retain=task.data("retain"), name="other")
    threads = torch.get_num_threads()
    torch.set_num_threads(change.get("threads", threads))
    try:
        with pytest.raises(StoreError, match=named):
            unlearn(
                model,
                change.get("steps", train()),
                task,
                seed=change.get("seed", 3),
                checkpointer=Checkpointer(tmp_path / "kept"),
            )
    finally:
        torch.set_num_threads(threads)


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path / "kept")
    before = sorted(tmp_path.rglob("*"))

    def full(tensors: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(keeping, "save_file", full)
        with pytest.raises(StoreError, match="disk is full"):
            carried_out(train(), Checkpointer(tmp_path / "kept", every=0))
    assert sorted(tmp_path.rglob("*")) == before
    alike(carried_out(train(), Checkpointer(tmp_path / "kept")), carried_out(train(), None))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        carried_out(train(), Checkpointer(tmp_path))
    killed(tmp_path / "kept")
    (place,) = (tmp_path / "kept").iterdir()
    (place / "tensors").write_bytes(b"torn")
    with pytest.raises(StoreError, match="cannot be read"):
        carried_out(train(), Checkpointer(tmp_path / "kept"))
    (place / "place.json").write_text("[]")
    with pytest.raises(StoreError, match="cannot be read"):
        carried_out(train(), Checkpointer(tmp_path / "kept"))


def test_what_leaves_more_than_weights_is_done_again(tmp_path: Path) -> None:
    """A teacher that was taught is not in the checkpoint, so there is none after it."""
    steps = (Teach((train(CE("retain"), epochs=1),)), train(KL("forget", teacher="taught")))
    checkpointer = Dying(tmp_path / "kept", every=0)
    checkpointer.left = 3
    with pytest.raises(Killed):
        carried_out(steps, checkpointer)
    assert not (tmp_path / "kept").exists()


def test_two_commands_do_not_work_on_one_run(tmp_path: Path) -> None:
    first, second = Checkpointer(tmp_path / "kept"), Checkpointer(tmp_path / "kept")
    with first.alone(), pytest.raises(StoreError, match="Another command"), second.alone():
        pass
    assert not (tmp_path / "kept").exists()


def command(folder: Path, out: Path) -> list[str]:
    said = ["unlearn", str(folder / "model"), "--out", str(out), "--method", "npo_kl"]
    for name, rows in (("forget", tiny_text.FORGET), ("retain", tiny_text.RETAIN)):
        file = folder / f"{name}.jsonl"
        lines = [json.dumps({"prompt": p, "answer": a}) for p, a in tiny_text.PAIRS[rows]]
        file.write_text("\n".join(lines))
        said += [f"--{name}", str(file)]
    said += ["--epochs", "60", "--lr", "0.001", "--batch", "2", "--keep-every", "0"]
    return [sys.executable, "-c", "from expunge.cli.main import main; main()", *said]


def weights(out: Path) -> dict[str, torch.Tensor]:
    with keeping.safe_open(out / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_was_killed_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    save(tiny_text.taught(), tiny_text.tokenizer(), tmp_path / "model")
    out, apart = tmp_path / "out", tmp_path / "apart"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    partial = tmp_path / "out.partial"
    with subprocess.Popen(
        command(tmp_path, out), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as begun:
        for _ in range(600):
            if len(list(partial.glob("at-*"))) and max(partial.glob("at-*")).name > "at-000020":
                break
            time.sleep(0.1)
        begun.send_signal(how)
        begun.communicate()
    assert begun.returncode != 0
    assert not out.exists()
    for place in (out, apart):
        subprocess.run(command(tmp_path, place), env=environment, check=True, capture_output=True)
    assert not partial.exists()
    ours, theirs = weights(out), weights(apart)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    told = [json.loads((place / "receipt.json").read_text()) for place in (out, apart)]
    assert told[0]["curve"] == told[1]["curve"]
    assert told[0]["examples"] == told[1]["examples"]


def test_the_old_name_of_the_argument_still_works_and_names_the_new_one(tmp_path: Path) -> None:
    model, old = copy.deepcopy(tiny_text.taught()), Checkpointer(tmp_path / "kept", every=0)
    with pytest.warns(DeprecationWarning, match="keeper=.*checkpointer="):
        done = unlearn(model, train(), tiny_text.problem(), seed=3, in_place=True, keeper=old)
    assert any((tmp_path / "kept").glob("at-*"))
    alike(done, carried_out(train(), None))


@pytest.mark.parametrize("name", ["tensors", "place.json"])
def test_no_flipped_byte_of_a_checkpoint_is_used_in_silence(name: str, tmp_path: Path) -> None:
    tensors = {"model:a": torch.arange(4.0)}
    place = {"layout": keeping.LAYOUT, "step": 1, "done": 3, "spent": [0.5, 0.25]}
    keeping.write(tmp_path, tensors, place)
    (there,) = tmp_path.glob("at-*")
    read, back = keeping.read(there)
    assert read == place
    assert torch.equal(back["model:a"], tensors["model:a"])
    whole = (there / name).read_bytes()
    for at in range(len(whole)):
        (there / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreError, match="cannot be read"):
            keeping.read(there)


def test_a_checkpoint_of_the_first_edition_is_read(tmp_path: Path) -> None:
    place = {"layout": keeping.FIRST_LAYOUT, "step": 1}
    keeping.write(tmp_path, {"a": torch.ones(2)}, place)
    (there,) = tmp_path.glob("at-*")
    (there / "place.json").write_text(json.dumps(place))
    assert keeping.read(there)[0] == place
