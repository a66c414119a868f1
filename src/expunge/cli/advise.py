"""The commands `advise`, `answers` and `concept`: what to do, and the files that it takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.errors import BadData, StoreError, did_you_mean

if TYPE_CHECKING:
    from expunge.problems.text.concept import Concept


Why = Annotated[str, typer.Option(help="confidential, dangerous or false.")]


Have = Annotated[
    str,
    typer.Option(help="Of forget, concept, retain, data, oracle, weights, api; commas between."),
]


def advise(purpose: Why, have: Have = "forget,retain,weights") -> None:
    """Say what to do about data that should not be in a model."""
    from expunge.methods.advice import owned, plan, purpose_of

    why, has = purpose_of(purpose), owned(have.split(","))
    typer.echo(f"Purpose: {why.name}. {why.question}")
    typer.echo(f"You have (--have): {', '.join(sorted(has))}.")
    for number, advice in enumerate(plan(why, has), start=1):
        typer.echo(f"\n{number}. {advice.verdict.capitalize()}. {advice.reason}")
        for command in advice.commands:
            typer.echo(f"     {command}")
    typer.echo("")
    if "weights" in has:
        typer.echo(f"Compare: {', '.join(why.methods)}.")
    typer.echo(f"Measure: {'; '.join(why.metrics)}.")
    typer.echo(f"Try to bring it back: {'; '.join(why.audits)}.")
    typer.echo(f"Beware: {why.beware}")


def answers(
    forget: Annotated[Path, typer.Argument(help='JSON Lines of {"prompt", "answer"}.')],
    kind: Annotated[str, typer.Option(help="refusal or marking.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    seed: Annotated[int, typer.Option(help="Draws which refusal.")] = 0,
) -> None:
    """Write a refusal, or that it is false, beside each answer.

    The new answers are under "instead", where methods such as idk_nll and mark look for them.
    """
    from expunge.problems.text.jsonl import read
    from expunge.problems.text.refusals import markings, refusals

    known = {"refusal": lambda pairs: refusals(pairs, seed), "marking": markings}
    if kind not in known:
        hint = did_you_mean(kind, known)
        raise BadData(f"--kind: got {kind!r}, expected {' or '.join(known)}.{hint}")
    lines = read(forget)
    if not lines.pairs:
        raise BadData(f'{forget} holds plain texts; give lines with "prompt" and "answer".')
    other = known[kind](lines.pairs)
    subjects = lines.subjects or ("",) * len(other)
    rows = [
        {"prompt": prompt, "answer": answer, "instead": one} | ({"subject": who} if who else {})
        for (prompt, answer), one, who in zip(lines.pairs, other, subjects, strict=True)
    ]
    write_lines(out, rows)
    typer.echo(f"Written: {out} ({len(rows)} lines)")


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    """Write objects, one a line.

    Raises:
        StoreError: the file is there already, or cannot be written.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.writelines(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
    except FileExistsError:
        raise StoreError(f"{file} is there already. Choose another name.") from None
    except OSError as fault:
        raise StoreError(f"Cannot write {file}: {fault}.") from None


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
