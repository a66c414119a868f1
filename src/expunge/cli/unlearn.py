"""The command `unlearn`: make a language model forget what stands in a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from expunge.core.machine import transformers
from expunge.core.method import Method, Step
from expunge.core.problem import Problem
from expunge.core.receipt import Receipt
from expunge.engine.checkpoint import Checkpointer
from expunge.engine.distributed import Team, together
from expunge.engine.unlearning import unlearn
from expunge.errors import BadSentence
from expunge.methods.capacity import capacity, explain_memory
from expunge.problems.text import jsonl
from expunge.problems.text.models import Loaded, load, refuse_existing, save

Source = Annotated[str, typer.Argument(help="A folder that transformers wrote, or a hub id.")]


File = Annotated[Path, typer.Option(help='JSON Lines of {"prompt", "answer"} or {"text"}.')]


Out = Annotated[Path, typer.Option(help="Folder to write; it must not be there yet.")]


Named = Annotated[str, typer.Option(help="A method's name, such as npo, or a sentence.")]


def unlearn_command(
    model: Source,
    forget: File,
    retain: File,
    out: Out,
    method: Named = "npo",
    epochs: Annotated[float, typer.Option(min=0, help="Instead of the method's own.")] = 0,
    lr: Annotated[float, typer.Option(min=0, help="Highest learning rate, instead.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Examples a step, instead.")] = 0,
    accumulate: Annotated[int, typer.Option(min=0, help="Pieces of a batch, instead.")] = 0,
    lora: Annotated[int, typer.Option(min=0, help="Rank of an adapter; 0: all weights.")] = 0,
    bf16: Annotated[bool, typer.Option(help="Mixed precision.")] = False,
    checkpointing: Annotated[bool, typer.Option(help="Less memory, more time.")] = False,
    chat: Annotated[bool, typer.Option(help="Use the tokenizer's chat template.")] = False,
    chunk: Annotated[int, typer.Option(min=0, help="Cut plain text into so many tokens.")] = 0,
    prompt_key: Annotated[str, typer.Option(help="Key of the prompts.")] = "prompt",
    answer_key: Annotated[str, typer.Option(help="Key of the answers.")] = "answer",
    seed: Annotated[int, typer.Option(help="Draws the order of the examples.")] = 0,
    keep_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 10,
    processes: Annotated[int, typer.Option(min=1, help="That train together on the CPU.")] = 1,
) -> None:
    """Make a language model forget, and write it to a folder.

    Transformers loads the folder, and the receipt of what it cost lies in it. Checkpoints lie in
    OUT.partial until the model is written: the same command goes on from there.
    """
    from expunge.methods.sentences import as_method

    named = {"epochs": epochs, "lr": lr, "batch": batch, "accumulate": accumulate}
    wanted = adjusted(as_method(method), lora, bf16, checkpointing, named)
    order = Order(
        model,
        forget,
        retain,
        out,
        wanted,
        chat,
        chunk,
        prompt_key,
        answer_key,
        seed,
        60 * keep_every,
        processes,
    )
    typer.echo(carry_out(order, typer.echo))
    typer.echo(f"Written: {out}")


def adjusted(
    method: Method, lora: int, bf16: bool, checkpointing: bool, named: dict[str, float]
) -> Method:
    """A method whose every `Train` is changed as the command line says.

    Raises:
        BadSentence: an adapter asked for steps that change weights otherwise.
    """
    from expunge.methods.steps.adapter import LoRA

    changes: dict[str, Any] = {name: number for name, number in named.items() if number}
    changes |= {"precision": "bf16"} if bf16 else {}
    changes |= {"checkpointing": True} if checkpointing else {}
    steps = tuple(_changed(step, changes) for step in method.steps)
    if lora and not steps:
        raise BadSentence(f"--lora: {method.name} trains nothing.")
    return replace(method, steps=(LoRA(steps, rank=lora, alpha=2.0 * lora),) if lora else steps)


def _changed(thing: Step | Any, changes: dict[str, Any]) -> Any:
    """The same step with other numbers in every `Train` inside it."""
    from expunge.core.schedules import Schedule
    from expunge.engine.training import Train

    if isinstance(thing, tuple):
        return tuple(_changed(item, changes) for item in thing)
    if isinstance(thing, Train):
        own = dict(changes)
        if "lr" in own and isinstance(thing.lr, Schedule):
            highest = max(thing.lr(place / 100) for place in range(101))
            own["lr"] = thing.lr.scaled(own["lr"] / highest)
        return replace(thing, **own)
    if not isinstance(thing, Step):
        return thing
    inner = {name: _changed(value, changes) for name, value in vars(thing).items()}
    return type(thing)(**inner)


@dataclass(frozen=True)
class Order:
    """All that the command line says.

    Args:
        model: a folder, or a hub id.
        forget, retain: files of JSON Lines.
        out: the folder to write.
        method: with its numbers as they were adjusted.
        chat, chunk, prompt_key, answer_key: how texts are read.
        seed: draws the order of the examples.
        every: seconds between two checkpoints.
        processes: that train together.
    """

    model: str
    forget: Path
    retain: Path
    out: Path
    method: Method
    chat: bool = False
    chunk: int = 0
    prompt_key: str = "prompt"
    answer_key: str = "answer"
    seed: int = 0
    every: float = 600.0
    processes: int = 1

    @property
    def partial(self) -> Path:
        """Where checkpoints lie until the model is written."""
        return self.out.with_name(f"{self.out.name}.partial")


def carry_out(order: Order, say: Callable[[str], None]) -> Receipt:
    """Make the model forget and write it; an interrupted order goes on where it was.

    Raises:
        StoreError: the folder is there already, or checkpoints of another run are.
        TooLarge: the run does not fit into memory.
    """
    refuse_existing(order.out)
    read(order)
    with Checkpointer(order.partial).alone():
        if order.processes == 1:
            return work(order, say, None)
        return together(order.processes, partial(work, order, say))


def read(order: Order) -> list[jsonl.Lines]:
    """What stands in the two files."""
    return [
        jsonl.read(file, order.prompt_key, order.answer_key)
        for file in (order.forget, order.retain)
    ]


def work(order: Order, say: Callable[[str], None], team: Team | None) -> Receipt:
    """What each process does; the first one speaks and writes."""
    first = team is None or team.rank == 0
    transformers().utils.logging.disable_progress_bar()
    loaded = load(order.model)
    alone = torch.cuda.is_available() and team is None
    loaded.model.to("cuda" if alone else "cpu")
    problem = task(loaded, read(order), order.chat, order.chunk)
    checkpointer = Checkpointer(order.partial, every=order.every, writes=first)
    with explain_memory("the model unlearned") if first else nullcontext():
        if first:
            foretell(order, loaded, problem, say)
        done = unlearn(
            loaded.model,
            order.method,
            problem,
            seed=order.seed,
            in_place=True,
            checkpointer=checkpointer,
            team=team,
        )
    if first:
        save(done.model, loaded.tokenizer, order.out, done.receipt)
        checkpointer.finish()
    return done.receipt


def foretell(order: Order, loaded: Loaded, problem: Problem, say: Callable[[str], None]) -> None:
    """Say what the run will take, and refuse it where it does not fit."""
    from expunge.engine.check import check_fit, check_texts

    check_fit(order.method, problem)
    check_texts(loaded.model, problem, order.method.sets)
    told = capacity(loaded.model, order.method, problem, seed=order.seed, processes=order.processes)
    say(str(told))
    told.check()
    if any(order.partial.glob("at-*")):
        say(f"Going on from the checkpoint in {order.partial}.")


def task(loaded: Loaded, files: list[jsonl.Lines], chat: bool, chunk: int) -> Problem:
    """The problem of two files."""
    forget, retain = (
        lines.encoded(loaded.tokenizer, chat=chat, context=loaded.context, chunk=chunk)
        for lines in files
    )
    return Problem.of(forget=forget, retain=retain, name="the files", architecture=loaded.untrained)
