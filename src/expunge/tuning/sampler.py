"""Which numbers to try next: the sentence as given, a few scalings of it, then Optuna's TPE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from expunge.errors import Unsupported
from expunge.tuning.ranges import TENFOLD, Listed
from expunge.tuning.space import Knob

# Trials before the estimator takes over; the given sentence and its scalings are among them.
STARTUP = 10
# A third and three times, on ranges that go from a tenth to ten times.
THREEFOLD = math.log(3) / math.log(TENFOLD**2)
TREES = 32


class MissingOptuna(Unsupported):
    """Tuning was asked for and Optuna is not installed."""


def optuna() -> Any:
    """The module, asked for only where it is used.

    Raises:
        MissingOptuna: how to get it.
    """
    try:
        import optuna
    except ImportError:
        raise MissingOptuna(
            "Tuning needs Optuna, which is not installed. Get it with: pip install 'expunge[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Sampler:
    """Asks for places between 0 and 1, one for each number of a sentence.

    The study lives in memory: asked in the same order with the same answers it gives the same
    places, so a run that is taken up again goes through the trials that are in the store.

    Args:
        space: the numbers that vary.
        seed: draws what is not fixed.
    """

    def __init__(self, space: Sequence[Knob], seed: int) -> None:
        self.space, self.optuna = tuple(space), optuna()
        sampler = self.optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=STARTUP)
        self.study = self.optuna.create_study(sampler=sampler)
        self.fixed = fixed(self.space)
        for units in self.fixed:
            self.study.enqueue_trial({k.name: u for k, u in zip(self.space, units, strict=True)})

    def ask(self) -> tuple[Any, tuple[float, ...]]:
        """A handle to tell the outcome by, and the places."""
        trial = self.study.ask()
        return trial, tuple(trial.suggest_float(knob.name, 0.0, 1.0) for knob in self.space)

    def tell(self, trial: Any, distance: float) -> None:
        """The distance of a trial; an infinite one is a failure, and its neighbours are avoided."""
        if math.isfinite(distance):
            self.study.tell(trial, distance)
        else:
            # Pruned and not failed: the estimator learns from the one and forgets the other.
            self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)

    def importances(self) -> dict[str, float]:
        """The share of each number in the variance of the distance; empty where that says nothing.

        Source: Hutter et al. (2014), functional analysis of variance; as in Optuna.
        """
        ended = [t.value for t in self.study.trials if t.value is not None]
        if len(ended) < STARTUP or len(set(ended)) < 3 or len(self.space) < 2:
            return {}
        evaluator = self.optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        found = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}


def fixed(space: Sequence[Knob]) -> list[tuple[float, ...]]:
    """The places of the first trials: as given, then learning rates and the rest a third and three.

    The rest is what is neither a learning rate nor epochs nor taken from a list.
    """
    given = tuple(knob.range.place(knob.value) for knob in space)
    rates = [knob.path[-1] == "lr" for knob in space]
    rest = [
        knob.path[-1] not in ("lr", "epochs") and not isinstance(knob.range, Listed)
        for knob in space
    ]
    found = [given]
    for chosen in (rates, rest):
        for shift in (-THREEFOLD, THREEFOLD):
            moved = [
                min(max(unit + shift, 0.0), 1.0) if picked else unit
                for unit, picked in zip(given, chosen, strict=True)
            ]
            found.append(tuple(moved))
    return list(dict.fromkeys(found))
