"""A section for each method: which attacks were tried, what they found, and at which power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.report import prose
from expunge.report.numbers import SPACE, THIN, fixed, interval, percent

Record = Mapping[str, Any]


TONES = {"found": "bad", "excluded": "good", "inconclusive": "none"}


GROUPS = ("original", "unlearned", "retrained")


SIGNALS = {"zrf": "ZRF", "rf_jsd": "RF-JSD"}


METRICS = {"quality": "quality F", "divergence_forget": "JS, forget"}


# Below this a p-value is a formula's tail and no measurement.
LEAST_P = 1e-4


LISTED = 4


@dataclass(frozen=True)
class AttackLine:
    """One attack on one method; without an area there is a reason."""

    name: str
    strength: str
    says: str
    area: str
    p: str
    word: str
    tone: str
    reason: str


@dataclass(frozen=True)
class Seen:
    """Membership of single examples in one group of models, by one attack on one set."""

    name: str
    group: str
    area: str
    rate: str
    exposed: str


@dataclass(frozen=True)
class Page:
    """Everything that the attacks say of one method."""

    name: str
    word: str
    tone: str
    verdict: str
    power: str
    lines: list[AttackLine]
    notes: list[tuple[str, str]]
    seen: list[Seen]


@dataclass(frozen=True)
class Attacks:
    """The section: what holds for all methods, then a page a method."""

    intro: list[str]
    pages: list[Page]
    signals: list[tuple[str, str, str]]


def attacks(summary: Record) -> Attacks | None:
    """Return the section, or None for a summary of a version without attacks."""
    rows = [row for group in prose.groups(summary) for row in group if "attacks" in row]
    if not rows:
        return None
    pages = [_page(row) for row in rows]
    return Attacks([*_game(rows), alarms(summary), *_blind(summary)], pages, _signals(summary))


def said(summary: Record) -> list[str]:
    """What the attacks show, for the end of the report."""
    rows = [row for row in summary["rows"] if "attacks" in row]
    if not rows:
        return []
    words = {row["name"]: row["attacks"]["verdict"]["word"] for row in rows}
    named = [row for row in rows if not row["control"]]
    found = []
    for word, opening in (
        ("found", "The attacks distinguish unlearned from retrained models for"),
        ("excluded", "Nothing of the margin's size is left for the attacks that were tried on"),
        ("inconclusive", "Neither is shown for"),
    ):
        group = [row for row in named if words[row["name"]] == word]
        if group:
            count = f"{len(group)} of {prose.counted(len(named), 'method')}"
            found.append(f"{opening} {count}: {prose.listed(group)}.")
    return [*found, *_controls(words), alarms(summary)]


def alarms(summary: Record) -> str:
    """How often the attacks find something between retrained models."""
    found = summary.get("false_alarms", {"reason": "an older version made this summary."})
    if "reason" in found:
        return f"False alarms of the attacks are not known: {found['reason']}"
    rate = found["rate"]
    ends = interval(100 * rate["low"], 100 * rate["high"], 0)
    return (
        f"False alarms: between random halves of the retrained models ({found['models']} a side) "
        f"the attacks found something in {round(rate['value'] * rate['n'])} of {rate['n']} "
        f"repetitions, {percent(rate['value'], 0)} {ends}; 5{THIN}% are allowed."
    )


def _controls(words: Mapping[str, str]) -> list[str]:
    """The controls that the attacks judge as they must not."""
    wrong = []
    if words.get("retrain") == "found":
        wrong.append(
            "“retrain” differs from other retrained models: one false alarm in 20 is expected"
        )
    if words.get("nothing", "found") != "found":
        wrong.append(
            "“nothing” does not differ from retrained models: these attacks are too weak here"
        )
    return [f"The attacks fail a control: {each}." for each in wrong]


def _game(rows: Sequence[Record]) -> list[str]:
    """The game that the attacks play, in words."""
    effects = [each["effect"] for row in rows for each in row["attacks"]["tried"]]
    margins = [effect["margin"] for effect in effects if effect]
    if not margins:
        return [rows[0]["attacks"]["verdict"]["reason"]]
    ends = f"{fixed(0.5 - margins[0], 2)} to {fixed(0.5 + margins[0], 2)}"
    needed = rows[0]["attacks"]["needed"]
    return [
        "Each attack is shown a model and says whether it was unlearned or retrained. The area "
        "under its ROC curve over models is 0.5 for a guess and 1 for a sure verdict; attacks are "
        "fitted to one half of the models and evaluated on the other. Found: shown after Holm’s "
        f"correction over all attacks. Excluded: the area lies within {ends}, the margin, for "
        f"every attack; that takes about {needed} models a side or more. Else inconclusive.",
    ]


def _blind(summary: Record) -> list[str]:
    found = summary.get("blind", {})
    if "said" not in found:
        return []
    what = "Forget against unseen examples, without a model (classes and coarse images)"
    rest = (
        " The weak attacks’ own success is void then; differences to retrained models stay valid, "
        "since both sides answer the same examples."
    )
    return [f"{what}: {found['said']}{rest if found['void'] else ''}"]


def _page(row: Record) -> Page:
    found = row["attacks"]
    verdict = found["verdict"]
    return Page(
        row["name"],
        verdict["word"],
        TONES.get(verdict["word"], "unknown"),
        _verdict(found),
        verdict["power"],
        [_line(each) for each in found["tried"]],
        [*_notes(found), *_free(row), *_missing(found, row)],
        _seen(row.get("membership", {})),
    )


def _verdict(found: Record) -> str:
    """The verdict on all attacks together, in the terms of the table below it."""
    played = [each for each in found["tried"] if each["effect"]]
    word, reason = found["verdict"]["word"], found["verdict"]["reason"]
    shown = [each for each in played if each["adjusted"] <= each["effect"]["alpha"]]
    wide = [each for each in played if not each["excluded"]]
    if word == "found":
        return f"{len(shown)} of {len(played)} attacks distinguish unlearned from retrained models."
    if word == "excluded":
        rest = f" A smaller difference is shown by {prose.listed(shown)}." if shown else ""
        return f"All {len(played)} attacks stay within the margin.{rest}"
    if not wide:  # strange models, or nothing was played
        return str(reason)
    least = p_value(min(each["adjusted"] for each in played))
    return (
        f"No attack shows a difference (smallest p {least} after Holm), but one as large as the "
        f"margin is not excluded by {len(wide)} of {len(played)}: {prose.listed(wide)}."
    )


def _line(tried: Record) -> AttackLine:
    effect, head = tried["effect"], (tried["name"], tried["strength"], tried["says"])
    if effect is None:
        return AttackLine(*head, "", "", "not run", "unknown", tried["reason"])
    shown = tried["adjusted"] <= effect["alpha"]
    word = "found" if shown and not tried["excluded"] else "excluded"
    word = word if shown or tried["excluded"] else "open"
    value, low, high = (0.5 + effect[side] for side in ("value", "low", "high"))
    area = f"{fixed(value, 3)}{SPACE}{interval(low, high, 2)}"
    return AttackLine(*head, area, p_value(tried["adjusted"]), word, TONES.get(word, "none"), "")


def p_value(p: float) -> str:
    """Return a p-value as in print; tiny ones are not distinguished."""
    return f"<{THIN}{fixed(LEAST_P, 4)}" if p < LEAST_P else f"{p:.2g}"


def _notes(found: Record) -> list[tuple[str, str]]:
    """What single examples say, and what weakens it all."""
    notes = []
    if found["exposed"]:
        notes.append(("Exposed forget examples", _exposed(found["exposed"])))
    if found["low"]:
        notes.append(("True positives", " ".join(map(_rate, found["low"]))))
    for name, worse in found["worse"].items():
        notes.append((f"More telling than under the original, {name}", _worse(worse)))
    if found["margins"]:
        notes.append(("KLoM", _margins(found["margins"])))
    return [*notes, *(("Guard", words) for words in found["guard"])]


def _exposed(found: Record) -> str:
    """Exposure of forget examples, the worst by name."""
    worst = ", ".join(
        f"no. {each['example']} ({fixed(each['auc'], 2)})" for each in found["worst"][:LISTED]
    )
    return (
        f"An attacker with a rule for each example has a mean area of "
        f"{fixed(found['mean_auc'], 3)}; {percent(found['beyond_chance'])} of {found['count']} "
        f"are exposed beyond chance. Most exposed, by place in the forget set: {worst}."
    )


def _rate(rate: Record) -> str:
    if rate["reason"]:
        return f"At {percent(rate['fpr'])} false positives: refused. {rate['reason']}"
    ends = interval(100 * rate["low"], 100 * rate["high"], 1)
    return (
        f"At {percent(rate['fpr'])} false positives {percent(rate['value'], 1)} {ends}, by U-LiRA, "
        "a trial being a model and a forget example."
    )


def _worse(found: Record) -> str:
    worst = ", ".join(f"no. {at} (+{fixed(rise, 2)})" for at, rise in found["worst"][:LISTED])
    if not worst:
        return f"None of {found['count']} beyond chance."
    return (
        f"{percent(found['share'])} of {found['count']} beyond chance; the largest rises of the "
        f"area: {worst}."
    )


def _margins(found: Record) -> str:
    """Divergence of margins beside its floor, both in nats."""
    values = [
        f"{name} {fixed(found['value'][level], 2)}{SPACE}nats (floor "
        f"{fixed(found['floor'][level], 2)})"
        for name, level in (("median", "50"), ("95th percentile", "95"))
    ]
    return f"Over forget examples: {', '.join(values)}; the floor is retrained against retrained."


def _free(row: Record) -> list[tuple[str, str]]:
    """Signals that need no retrained model, marked as such."""
    found = row.get("retrain_free", {})
    values = [
        f"{SIGNALS[key]} {fixed(found[key]['value'], 3)}"
        for key in SIGNALS
        if "value" in found.get(key, {})
    ]
    return [("Needs no retrained model", ", ".join(values) + " (nats).")] if values else []


def _missing(found: Record, row: Record) -> list[tuple[str, str]]:
    """What was not shown of this method."""
    without = [each["name"] for each in found["tried"] if each["effect"] is None]
    words = [f"Not run: {', '.join(without)}."] if without else []
    seen = row.get("membership", {"reason": "there are no shadow models."})
    if "reason" in seen:
        words.append(f"Membership of single examples was not tried: {seen['reason']}")
    beneath = " Audits of the weights are below." if "audits" in row else ""
    words.append(
        "No attack here looks at weights, trains the model further or tries other inputs." + beneath
    )
    return [("Not shown", " ".join(words))]


def _seen(found: Record) -> list[Seen]:
    """Membership by shadow models: forget and retain, each attack, each group."""
    return [
        _seen_line(f"{attack}, {name}", group, found[name][attack]["groups"][group])
        for name in ("forget", "retain")
        if name in found
        for attack in ("LiRA", "RMIA")
        for group in GROUPS
    ]


def _seen_line(name: str, group: str, each: Record) -> Seen:
    area = f"{fixed(each['auc'], 3)}{SPACE}{interval(each['low'], each['high'], 3)}"
    rate = "unresolved" if each["tpr"] is None else percent(each["tpr"], 1)
    return Seen(name, group, area, rate, percent(each["examples"]["beyond_chance"]))


def _ends(each: Record) -> str:
    """The interval of a correlation."""
    rho = each["spearman"]
    return f"95{THIN}% interval of Spearman's {interval(rho['low'], rho['high'], 2)}."


def _signals(summary: Record) -> list[tuple[str, str, str]]:
    """How signals without a retrained model rank the methods of this run."""
    return [
        (
            SIGNALS.get(each["signal"], each["signal"]),
            METRICS.get(each["against"], each["against"]),
            each["reason"] if "reason" in each else f"{each['said']} {_ends(each)}",
        )
        for each in summary.get("retrain_free", [])
    ]
