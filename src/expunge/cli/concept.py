"""The command `concept`: from a name or a topic to files that can be read, mended and unlearned."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.advise import write_lines

if TYPE_CHECKING:
    from expunge.problems.text.concept import Concept


SHOWN = 8


def concept(
    model: Annotated[str, typer.Argument(help="A folder that transformers wrote, or a hub id.")],
    about: Annotated[str, typer.Option(help="The name or topic to be forgotten.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there yet.")],
    neighbours: Annotated[str, typer.Option(help="Names to keep, with commas between.")] = "",
    copies: Annotated[int, typer.Option(min=1, help="Answers drawn to each prompt.")] = 3,
    tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 64,
    chat: Annotated[bool, typer.Option(help="Use the tokenizer's chat template.")] = False,
    seed: Annotated[int, typer.Option(help="Draws the answers.")] = 0,
) -> None:
    """Let a model write what it knows of a name, as a forget set.

    It may make things up: read the files and mend them before anything is trained on them.
    """
    from expunge.core.machine import transformers
    from expunge.problems.text import concept as making
    from expunge.problems.text.models import load, refuse_existing

    refuse_existing(out)
    transformers().utils.logging.disable_progress_bar()
    loaded = load(model)
    writer = making.Writer(loaded.model, loaded.tokenizer, loaded.context, chat, tokens, seed)
    names = [name.strip() for name in neighbours.split(",") if name.strip()]
    found = making.concept(writer, about, copies=copies, neighbours=names)
    out.mkdir(parents=True)
    files = {"forget": found.forget, "probes": found.probes, "retain": found.retain}
    for name, pairs in files.items():
        rows = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
        write_lines(out / f"{name}.jsonl", rows)
    show(found, model, out, chat)


def show(found: Concept, model: str, out: Path, chat: bool) -> None:
    """Show what was written, what was left out, and what to do next."""
    from expunge.errors import printable as inert

    for name in ("forget", "probes", "retain"):
        pairs = getattr(found, name)
        typer.echo(f"{name}: {len(pairs)} answers in {out / name}.jsonl")
        for prompt, answer in pairs[:SHOWN]:
            typer.echo(f"  {inert(prompt)} -> {inert(answer)}")
    for reason, count in found.left_out.items():
        typer.echo(f"left out: {count} answers that {_clause(reason)}")
    if found.neighbours:
        typer.echo(f"neighbours: {inert(', '.join(found.neighbours))}")
    if not found.retain:
        typer.echo("No retain text is left; write some into retain.jsonl before you go on.")
    typer.echo(
        "\nThe model wrote this itself, and may have made it up. Read it, take out what is wrong, "
        "add what is missing. Then:"
    )
    target = out.with_name(f"{out.name}-unlearned")
    words = ["expunge", "unlearn", model, "--forget", f"{out / 'forget.jsonl'}", "--retain"]
    words += [f"{out / 'retain.jsonl'}", "--out", f"{target}", *(["--chat"] if chat else [])]
    typer.echo(f"  {inert(shlex.join(words))}")


def _clause(reason: str) -> str:
    plain = {"empty": "hold no words", "said before": "were there already"}
    return plain.get(reason, reason)
