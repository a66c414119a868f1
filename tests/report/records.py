"""Small summaries, as an experiment would give them, for the tests of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

CONTROLS = ("retrain", "nothing", "sham")
# Value and half-width of quality, and the verdict: from the worst to the best.
QUALITIES = {"nothing": 0.0, "sham": 0.03, "ascent": 0.02, "prune": 0.06, "ours": 0.1}


def score(value: float, half: float, n: int) -> dict[str, Any]:
    ends = {"low": max(value - half, 0.0), "high": value + half}
    return {"value": value, **ends, "n": n, "unit": "F", "aim": "high"}


def row(name: str, quality: float, n: int = 32, test: bool = True) -> dict[str, Any]:
    half = 0.01 if quality else 0.0
    scores = {
        "quality": score(quality, half, n),
        "accuracy_retain": score(0.998, 0.001, n),
        "accuracy_forget": score(0.99, 0.002, n),
        "divergence_forget": score(0.0085, 0.0004, n),
    }
    if test:
        scores["score"] = score(quality * 0.99, half, n)
        scores["accuracy_test"] = score(0.95, 0.002, n)
        scores["tow"] = score(0.98, 0.001, n)
        scores["divergence_test"] = score(0.01, 0.001, n)
        scores["weak_attack"] = score(0.46, 0.004, n)
    cost = {"time_share": 0.0 if name == "nothing" else 0.25 - quality, "curve": []}
    if name != "nothing":
        cost["curve"] = [["/0", 1.0, 2.5], ["/0", 2.0, 0.5], ["/1/0", 1.0, -3.0]]
    words = {"retrain": "as retrained within noise", "nothing": "changed nothing"}
    way = quality / 0.2
    free = {"zrf": score(0.5, 0.01, n), "rf_jsd": {"reason": "no unseen example"}}
    return {
        "name": name,
        "sentence": f"Train(CE('{name}'))",
        "source": "",
        "control": name in CONTROLS,
        "scores": scores,
        "cost": cost,
        "epsilons": [0.2, 0.7, 3.9, 4.0, 50.0],
        "normalised": way,
        "verdict": words.get(name, f"partly forgotten ({way:.2f} of the way)"),
        "flags": [],
        "attacks": attacks({"retrain": "inconclusive"}.get(name, "found"), test),
        "retrain_free": free,
    }


def tried(name: str, value: float, p: float, excluded: bool) -> dict[str, Any]:
    """One attack with an area of 0.5 + value."""
    effect = {
        "value": value, "low": value - 0.05, "high": value + 0.05, "p": p, "margin": 0.1,
        "alpha": 0.05,
    }  # fmt: skip
    told = {"name": name, "strength": "strong", "says": "a ratio", "effect": effect}
    return {**told, "adjusted": p, "excluded": excluded, "power": "some", "reason": ""}


def attacks(word: str, test: bool = True) -> dict[str, Any]:
    """What the attacks say of a row: two that were carried out, one that was not."""
    found = word == "found"
    without = {"name": "SVC", "strength": "weak", "says": "a machine", "effect": None}
    exposed = {"example": 7, "auc": 0.93, "error": 0.04, "advantage": 0.8}
    return {
        "tried": [
            tried("U-LiRA", 0.4 if found else 0.02, 1e-7 if found else 0.4, False),
            tried("RULI", 0.01, 0.3, excluded=True),
            {**without, "adjusted": 1.0, "reason": "There is no unseen set."},
        ],
        "verdict": {"word": word, "reason": "Because.", "power": "With n = 16 and 16."},
        "needed": 288,
        "exposed": {"worst": [exposed], "beyond_chance": 0.25, "mean_auc": 0.68, "count": 5},
        "low": [
            {"fpr": 0.01, "value": 0.084, "low": 0.07, "high": 0.1, "reason": ""},
            {"fpr": 0.001, "value": 0.0, "low": 0.0, "high": 0.0, "reason": "Got 80 non-members."},
        ],
        "worse": {"forget": {"worst": [[3, 0.2]], "share": 0.2, "count": 5}},
        "margins": {"value": {"50": 0.6, "95": 1.2}, "floor": {"50": 0.5, "95": 1.3}},
        "guard": [],
    }


def recognised() -> dict[str, Any]:
    """Membership of single examples by shadow models."""
    one = {"auc": 0.6, "low": 0.55, "high": 0.65, "tpr": 0.02, "examples": {"beyond_chance": 0.25}}
    groups = {"original": one, "unlearned": {**one, "tpr": None}, "retrained": one}
    return {"shadows": 64, "forget": {name: {"groups": groups} for name in ("LiRA", "RMIA")}}


def summary(n: int = 32, test: bool = True, **qualities: float) -> dict[str, Any]:
    """A summary; qualities by keyword add rows, or replace those that are always there."""
    named = {"retrain": 0.2, **QUALITIES, **qualities}
    rows = [row(name, quality, n, test) for name, quality in named.items()]
    return {
        "experiment": {
            "name": "small",
            "recipe": "Train(CE('train'))",
            "architecture": "digits_net",
            "forget": "RandomShare(0.1)",
            "forget_seed": 3,
            "protocol": "challenge",
            "members": n,
            "seed": 0,
            "rule": "released",
            "resamples": 100,
        },
        "problem": {"name": "digits", "classes": ["nought", "one"], "sizes": {"forget": 5}},
        "ceiling": rows[0]["scores"]["quality"],
        "floor": rows[1]["scores"]["quality"],
        "rows": rows,
        "gallery": [example(i, list(named)) for i in range(2)],
        "not_shown": ["That the information is gone."],
        "false_alarms": {
            "rate": {"value": 0.025, "low": 0.001, "high": 0.13, "n": 40},
            "models": 16,
        },
        "blind": {"void": False, "said": "The attack stands."},
        "retrain_free": [
            {"signal": "zrf", "against": "quality", "reason": "3 methods; it takes 6."}
        ],
        "hardware": {"cores": 2, "processor": "AMD EPYC", "system": "Linux"},
        "versions": {"expunge": "0.1.0"},
        "seconds_a_retraining": 0.4627,
    }


def example(seed: int, names: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "example": 40 + seed,
        "class": "one",
        "picture": [[[0, 255], [128, 3]]],
        "original": 3.0,
        "retrained": rng.normal(0, 1, 32).tolist(),
        "unlearned": {name: rng.normal(1, 1, 32).tolist() for name in names if name != "nothing"},
    }


def unscored(summary: dict[str, Any], name: str, reason: str) -> None:
    """Take a row's numbers away."""
    for i, found in enumerate(summary["rows"]):
        if found["name"] == name:
            kept = {key: found[key] for key in ("name", "sentence", "source", "control")}
            summary["rows"][i] = {**kept, "unscored": reason, "verdict": "unscored"}
