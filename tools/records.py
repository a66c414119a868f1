"""Records of finished experiments, and the README's ranking made from them.

python tools/records.py write STORE FOLDER TITLE...   a record of experiments in a store
python tools/records.py readme                        the README's table, from the records
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from expunge.core.store import Store
from expunge.experiments import attacking as retrain_free
from expunge.report.terminal import markdown, ranking_legend

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "records"
BEGIN, END = "<!-- ranking: made by tools/records.py -->", "<!-- end of ranking -->"
FIRST = 10


def main() -> None:
    """Carry out one of the two commands."""
    match sys.argv[1:]:
        case ["write", store, folder, *titles] if titles:
            write(Store(Path(store)), Path(folder), titles)
        case ["readme"]:
            readme = ROOT / "README.md"
            readme.write_text(with_table(readme.read_text()))
        case _:
            sys.exit(__doc__)


def write(store: Store, folder: Path, titles: list[str]) -> None:
    """Write each experiment's numbers as JSON, and one page that says what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {title: without_gallery(store.named("summary", title)) for title in titles}
    for title, summary in found.items():
        (folder / f"{title}.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    (folder / "README.md").write_text(page(folder.name, list(found.values())))


def without_gallery(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without the signals of all models on a few examples, which are its bulk."""
    return {key: value for key, value in summary.items() if key != "gallery"}


def page(name: str, summaries: list[dict[str, Any]]) -> str:
    """What was run, on what, and the ranking of each experiment."""
    first = summaries[0]
    versions = ", ".join(f"{key} {value}" for key, value in sorted(first["versions"].items()))
    parts = [f"# {name}\n", f"Written at commit {commit()}; {versions}.\n"]
    for summary in summaries:
        parts += [f"## {summary['experiment']['name']}\n", markdown(summary)]
        said = listed(summary.get("chosen", {}).get("said", []))
        parts += [ranking_legend(summary) + "\n", said, unscored(summary), audited(summary)]
        parts.append(sentences(summary))
    measured = [summary for summary in summaries if summary.get("retrain_free")]
    if len(measured) > 1:
        parts.append(signals(measured))
    parts.append("What was not shown:\n\n" + listed(first["not_shown"]))
    return "\n".join(part for part in parts if part)


def audited(summary: dict[str, Any]) -> str:
    """What the audits on live weights found, a row a method; empty where there were none."""
    rows = [one for one in summary["rows"] if one.get("audits", {}).get("scored")]
    if not rows:
        return ""
    head = [row(["row", "audits together", "found after Holm", "models"]), row(["---"] * 4)]
    found = ((one["name"], one["audits"]) for one in rows)
    body = [
        row([name, said["verdict"]["word"], f"{len(said['shown'])} of {said['scored']}: "
             + ", ".join(said["shown"]), str(said["models"])])
        for name, said in found
    ]  # fmt: skip
    rate = next((one["audits"].get("false_alarms", {}).get("rate") for one in rows), None)
    alarms = rate and (
        f"False alarms between halves of the retrained models: {rate['value']:.0%} of {rate['n']} "
        f"repetitions, {rate['low']:.0%} to {rate['high']:.0%}.\n"
    )
    return "\n".join([*head, *body, "", alarms or ""])


def signals(summaries: list[dict[str, Any]]) -> str:
    """How the retrain-free signals rank the methods of each experiment, and their mean."""
    found = retrain_free.across(summaries)
    heads = [f"{each['signal']} and {each['against']}" for each in found]
    rows = [(title, [each["each"][title] for each in found]) for title in found[0]["each"]]
    rows.append(("mean of the experiments", [each["mean"] for each in found]))
    lines = [row(["experiment", *heads]), row(["---"] * (len(heads) + 1))]
    lines += [row([title, *map(correlation, cells)]) for title, cells in rows]
    said = (
        "Spearman's correlation over methods, controls left out, with its 95 % interval and the "
        "number of methods; the mean with Student's interval over experiments, which share methods "
        "and data. A signal that agrees with the oracles is positive for zrf and quality and for "
        "rf_jsd and divergence_forget, negative for the other two."
    )
    return f"## Retrain-free signals\n\n{said}\n\n" + "\n".join(lines) + "\n"


def correlation(found: dict[str, Any]) -> str:
    """A correlation with its interval and its n, or why there is none."""
    if "reason" in found:
        return str(found["reason"])
    n = found["methods"] if "methods" in found else found["n"]
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}], n {n}"


def row(cells: list[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def unscored(summary: dict[str, Any]) -> str:
    """The methods without numbers, each with its reason."""
    rows = [row for row in summary["rows"] if "unscored" in row]
    return listed([f"`{row['name']}` is unscored: {row['unscored']}" for row in rows])


def sentences(summary: dict[str, Any]) -> str:
    """Every method as it was carried out."""
    said = [f"`{row['name']}`: `{row['sentence']}`" for row in summary["rows"]]
    return "<details><summary>The sentences</summary>\n\n" + listed(said) + "\n</details>\n"


def listed(lines: list[str]) -> str:
    """A list in Markdown; empty where there is nothing."""
    return "".join(f"- {line}\n" for line in lines)


def commit() -> str:
    """The commit that the working tree stands on."""
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def with_table(readme: str, records: Path = RECORDS) -> str:
    """The README with the newest rankings between its two marks."""
    if BEGIN not in readme or END not in readme.partition(BEGIN)[2]:
        sys.exit(f"README.md must hold the marks {BEGIN} and {END}.")
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{tables(records)}{END}{tail}"


def tables(records: Path) -> str:
    """The first rows of each ranking that is on record, the newest record of each title."""
    newest: dict[str, Path] = {}
    for path in sorted(records.glob("*/ranking-*.json")):
        newest[path.stem] = path
    parts = []
    for path in newest.values():
        summary = json.loads(path.read_text())
        folder = f"records/{path.parent.name}"
        note = f"{ranking_legend(summary)} All rows: [{folder}]({folder})."
        parts += [f"\n{markdown(summary, first=FIRST)}", f"\n{note}\n"]
    return "".join(parts) + "\n" if parts else "\n"


if __name__ == "__main__":
    main()
