"""The commands `advise` and `answers`: what to do for a purpose, and other answers to give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from expunge.errors import BadData, StoreError, did_you_mean

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
