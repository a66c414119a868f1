"""The command `unlearn`: make a language model forget the texts of a file."""

from __future__ import annotations

import math
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
from expunge.engine.check import check_fit, check_texts
from expunge.engine.checkpoint import Checkpointer
from expunge.engine.distributed import Team, together
from expunge.engine.unlearning import unlearn
from expunge.errors import BadSentence
from expunge.methods.capacity import capacity, explain_memory
from expunge.problems.text import jsonl
from expunge.problems.text.models import Loaded, load, refuse_existing, save

Source = Annotated[str, typer.Argument(help="A folder that transformers wrote, or a hub id.")]


File = Annotated[Path, typer.Option(help='JSON Lines of {"prompt", "answer"} or {"text"}.')]


Out = Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")]


Named = Annotated[str, typer.Option(help="A method's name, such as npo, or a sentence.")]


def unlearn_command(
    model: Source,
    forget: File,
    retain: File,
    out: Out,
    method: Named = "npo",
    epochs: Annotated[float | None, typer.Option(help="Instead of the method's own.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate, instead.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples a step, instead.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Pieces of a batch, instead.")] = None,
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

    Transformers loads the folder; the receipt of what it cost is in there, too. Checkpoints are in
    OUT.partial until the model is written: the same command resumes from there.
    """
    from expunge.methods.sentences import as_method

    named = {"epochs": epochs, "lr": lr, "batch": batch, "accumulate": accumulate}
    request = UnlearnRequest(
        model,
        forget,
        retain,
        out,
        adjusted(as_method(method), lora, bf16, checkpointing, named),
        chat,
        chunk,
        prompt_key,
        answer_key,
        seed,
        60 * keep_every,
        processes,
    )
    typer.echo(_run(request))
    typer.echo(f"Written: {out} (its weights are float32, whatever the model's folder held)")


def adjusted(
    method: Method, lora: int, bf16: bool, checkpointing: bool, named: dict[str, float | None]
) -> Method:
    """Return the method with every `Train` changed as the command line says.

    Args:
        method: any.
        lora: rank of an adapter that all steps train; 0 for none.
        bf16, checkpointing: whether to train in mixed precision, and to save memory.
        named: field of `Train` -> number above 0; None leaves the method's own.

    Raises:
        BadSentence: a number that is not above 0, or an adapter for steps that change weights in
            another way.
    """
    from expunge.methods.steps.adapter import LoRA

    changes: dict[str, Any] = {name: n for name, n in named.items() if n is not None}
    for name, number in changes.items():
        if not 0 < number < math.inf:
            raise BadSentence(
                f"--{name} {number:g}: expected a number above 0. Leave --{name} out for the "
                "method's own."
            )
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
class UnlearnRequest:
    """All that the command line asks for.

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
        """Where checkpoints are until the model is written."""
        return self.out.with_name(f"{self.out.name}.partial")

    def read(self) -> list[jsonl.Lines]:
        """The forget set and the retain set, as their files hold them."""
        return [
            jsonl.read(file, self.prompt_key, self.answer_key)
            for file in (self.forget, self.retain)
        ]

    def problem(self, loaded: Loaded) -> Problem:
        """The problem of both files, in the model's tokens."""
        forget, retain = (
            lines.encoded(
                loaded.tokenizer, chat=self.chat, context=loaded.context, chunk=self.chunk
            )
            for lines in self.read()
        )
        return Problem.of(
            forget=forget, retain=retain, name="the files", architecture=loaded.untrained
        )


def _run(request: UnlearnRequest) -> Receipt:
    """Make the model forget and write it; an interrupted run resumes where it was.

    Raises:
        StoreError: the folder is there already, or checkpoints of another run are.
        TooLarge: the run does not fit into memory.
    """
    refuse_existing(request.out)
    request.read()  # a slip in a file is said before the model is loaded
    with Checkpointer(request.partial).alone():
        if request.processes == 1:
            return _in_process(request, None)
        return together(request.processes, partial(_in_process, request))


def _in_process(request: UnlearnRequest, team: Team | None) -> Receipt:
    """What each process does; the first one prints and writes."""
    first = team is None or team.rank == 0
    transformers().utils.logging.disable_progress_bar()
    loaded = load(request.model)
    loaded.model.to("cuda" if torch.cuda.is_available() and team is None else "cpu")
    problem = request.problem(loaded)
    checkpointer = Checkpointer(request.partial, every=request.every, writes=first)
    with explain_memory("the model unlearned") if first else nullcontext():
        if first:
            _print_capacity(request, loaded, problem)
        done = unlearn(
            loaded.model,
            request.method,
            problem,
            seed=request.seed,
            in_place=True,
            checkpointer=checkpointer,
            team=team,
        )
    if first:
        save(done.model, loaded.tokenizer, request.out, done.receipt)
        checkpointer.finish()
    return done.receipt


def _print_capacity(request: UnlearnRequest, loaded: Loaded, problem: Problem) -> None:
    """Print what the run will take, and refuse it where it does not fit."""
    check_fit(request.method, problem)
    check_texts(loaded.model, problem, request.method.sets)
    found = capacity(
        loaded.model, request.method, problem, seed=request.seed, processes=request.processes
    )
    typer.echo(str(found))
    found.check()
    if any(request.partial.glob("at-*")):
        typer.echo(f"Resuming from the checkpoint in {request.partial}.")
