"""Models that defeat an attack without forgetting: all answers alike, or no skill left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expunge.errors import BadEvidence
from expunge.metrics.attacks import signals
from expunge.metrics.attacks.examples import (
    Examples,
    MoreExposed,
    Rate,
    low_rates,
    more_exposed,
    most_exposed,
    sets_of,
)
from expunge.metrics.attacks.games import (
    ATTACKS,
    Attack,
    Game,
    Halves,
    Readings,
    Shadows,
    Strength,
    by_u_lira,
    halves,
)
from expunge.metrics.attacks.klom import klom
from expunge.statistics.counts import clopper_pearson
from expunge.statistics.decision import Decision, Family, decide
from expunge.statistics.power import units_to_exclude_auc
from expunge.statistics.result import Effect, Interval
from expunge.statistics.roc_area import compare_auc

Floats = NDArray[np.float64]

# Trainings of one recipe differ in spread by a few per cent; a tenth is another kind of model.
LEAST_SPREAD = 0.1


def warnings(
    signal: Floats,
    oracle_signal: Floats,
    accuracy: Floats,
    oracle_accuracy: Floats,
    *,
    classes: int,
) -> tuple[str, ...]:
    """Return why attack results on these models mean nothing, as sentences; empty if they may.

    Shadow attacks and histograms of margins read how far answers lie apart. A model that gives one
    margin to every example, or N copies of one model, leaves them nothing to read.

    Args:
        signal: float64 [model, example], `signals.scaled_confidence` of unlearned models, best on
            examples that are not to be forgotten.
        oracle_signal: the same of retrained models on the same examples.
        accuracy, oracle_accuracy: float64 [model], shares right on retain or test.
        classes: number of classes, for the accuracy of guessing.

    Raises:
        BadEvidence: shapes that do not match, fewer than 2 models or examples, oracles that answer
            all alike.

    Source: own rule.
    """
    for one in (signal, oracle_signal):
        if one.ndim != 2 or min(one.shape) < 2 or not np.isfinite(one).all():
            raise BadEvidence(
                f"Got a signal {one.shape}; expected finite [model, example], 2 or more of each."
            )
    if signal.shape[1] != oracle_signal.shape[1]:
        raise BadEvidence(f"Got {signal.shape[1]} and {oracle_signal.shape[1]} examples.")
    found = []
    for axis, words in ((1, "examples"), (0, "models")):
        ratio = _spread(signal, axis) / _some(_spread(oracle_signal, axis), words)
        if ratio < LEAST_SPREAD:
            found.append(
                f"Margins differ over {words} by {ratio:.2g} of what retrained models' do: "
                "attacks on margins have nothing to read."
            )
    chance, oracle = 1 / classes, float(np.mean(oracle_accuracy))
    if np.mean(accuracy) < (chance + oracle) / 2:
        found.append(
            f"Accuracy is {np.mean(accuracy):.3g} for {oracle:.3g} of the retrained models: a "
            "model without skill keeps no secrets worth the name."
        )
    return tuple(found)


def _spread(signal: Floats, axis: int) -> float:
    """Median standard deviation along an axis."""
    return float(np.median(signal.std(axis=axis)))


def _some(spread: float, words: str) -> float:
    """A spread to divide by, or a refusal."""
    if spread == 0:
        raise BadEvidence(f"The retrained models answer all {words} alike: they are no yardstick.")
    return spread


# An attacker who is shown one model, unlearned or retrained with equal chances, is right in about
# 57 of 100 cases at an area of 0.6, and finds 2.4 % of the unlearned at 1 % false alarms.
MARGIN = 0.1

ALPHA = 0.05

# Three models of each group to fit to, and three to judge.
FEWEST = 6

REPETITIONS = 40

# What is repeated reads fewer examples, so that large forget sets do not take hours.
REPEATED_EXAMPLES = 500


@dataclass(frozen=True)
class AttackResult:
    """One attack: what it found, or why it was not run.

    Args:
        name, strength, says: of the attack.
        effect: area under the model-level ROC curve less 0.5, with all that judges it; None where
            it was not run.
        adjusted: its p-value after Holm over all that were.
        unlearned, retrained: mean over models of the scores that it gave.
        reason: why not.
    """

    name: str
    strength: Strength
    says: str
    effect: Effect | None
    adjusted: float
    unlearned: float
    retrained: float
    reason: str


@dataclass(frozen=True)
class Margins:
    """KLoM of judged unlearned models, beside its floor: retrained halves of the same sizes.

    Args:
        value, floor: percentile -> nats, over forget examples.
    """

    value: Mapping[str, float]
    floor: Mapping[str, float]


@dataclass(frozen=True)
class Battery:
    """Everything that the array attacks say of one method.

    Args:
        tried: each attack; those that were not run give the reason.
        verdict: on all effects together.
        needed: unlearned and retrained models each that would exclude the margin by one attack in
            80 % of experiments, if there is nothing.
        exposed: forget examples by exposure; None where U-LiRA has nothing to read.
        low: true positive rates at low false positive rates; empty likewise.
        worse: set -> examples that unlearning made more telling; without an original, empty.
        margins: KLoM and its floor; None with too few models.
        guard: why results on these models mean little; empty where they may mean something.
    """

    tried: tuple[AttackResult, ...]
    verdict: Decision
    needed: int
    exposed: Examples | None
    low: tuple[Rate, ...]
    worse: Mapping[str, MoreExposed]
    margins: Margins | None
    guard: tuple[str, ...]


@dataclass(frozen=True)
class FalseAlarms:
    """How often the battery finds something between groups of retrained models.

    Args:
        rate: of families in which anything was found, with its exact 95 % interval; repetitions
            share models, so the interval is about right at best.
        by_attack: attack -> share of repetitions with p at most alpha, before Holm.
        excluded: share of repetitions with the verdict "excluded".
        models: a group.
    """

    rate: Interval
    by_attack: Mapping[str, float]
    excluded: float
    models: int


def battery(
    subject: Readings,
    oracle: Readings,
    original: Readings | None,
    rng: np.random.Generator,
    *,
    shadows: Shadows | None = None,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> Battery:
    """Attack unlearned models: can they be distinguished from retrained ones?

    Args:
        subject, oracle: `answers` of unlearned and of retrained models on the same examples. They
            must be independent; models from one original make every claim one about that original.
        original: the same of the untouched original, one model or several.
        rng: draws halves, shuffles and resamples.
        shadows: for attacks that are fitted to shadow models.
        margin: the smallest distance of a model-level area from 0.5 that matters.
        alpha: level of each test, and family-wise after Holm.

    Raises:
        BadEvidence: different examples.
    """
    _same_examples(subject, oracle, original)
    game = _game(subject, oracle, original, shadows, rng)
    if min(len(subject), len(oracle)) < FEWEST:
        return _too_few(game, margin, alpha)
    tried = run_attacks(game, margin=margin, alpha=alpha)
    strange = degenerate(subject, oracle)
    exposed, low = _singles(game, rng)
    return Battery(
        tried,
        battery_decision(tried, strange, alpha),
        2 * units_to_exclude_auc(margin, alpha),
        exposed,
        low,
        _worse(subject, original, oracle),
        _margins(game),
        strange,
    )


def run_attacks(
    game: Game, *, margin: float = MARGIN, alpha: float = ALPHA
) -> tuple[AttackResult, ...]:
    """Play every attack, and correct the p-values of those that could be played."""
    tried = [_play(attack, game, margin, alpha) for attack in ATTACKS if _wanted(attack, game)]
    effects = effects_of(tried)
    if not effects:
        return tuple(tried)
    adjusted = Family(tuple(e.name for e in effects), tuple(e.p for e in effects)).adjusted
    return tuple(replace(one, adjusted=adjusted.get(one.name, 1.0)) for one in tried)


def effects_of(tried: Sequence[AttackResult]) -> list[Effect]:
    """Return the effects of the attacks that were run."""
    return [one.effect for one in tried if one.effect is not None]


def attacks_found(tried: Sequence[AttackResult], alpha: float = ALPHA) -> tuple[str, ...]:
    """The attacks that find something after Holm."""
    return tuple(one.name for one in tried if one.effect is not None and one.adjusted <= alpha)


def battery_decision(
    tried: Sequence[AttackResult], strange: Sequence[str], alpha: float = ALPHA
) -> Decision:
    """Decide on all effects; nothing is excluded of models that defeat attacks by being strange."""
    effects = effects_of(tried)
    if not effects:
        why = "; ".join(dict.fromkeys(one.reason for one in tried))
        return Decision("inconclusive", f"No attack could be run: {why}", "None.")
    found = decide(effects, alpha=alpha)
    if found.word == "excluded" and strange:
        return Decision("inconclusive", f"{' '.join(strange)} ({found.reason})", found.power)
    return found


def degenerate(subject: Readings, oracle: Readings) -> tuple[str, ...]:
    """Sentences on models that defeat attacks without forgetting, read off kept examples."""
    name = subject.unseen or "retain"
    if name not in subject.phi:
        return ()
    try:
        return warnings(
            subject.phi[name],
            oracle.phi[name],
            subject.accuracy[name],
            oracle.accuracy[name],
            classes=subject.classes,
        )
    except BadEvidence as fault:
        return (str(fault),)


def false_alarms(
    retrained: Readings,
    original: Readings | None,
    rng: np.random.Generator,
    *,
    repetitions: int = REPETITIONS,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> FalseAlarms:
    """Play the battery on random disjoint halves of retrained models, where nothing is to be found.

    Args:
        retrained: models of one kind, at least 12.
        original, rng, margin, alpha: as for `battery`.
        repetitions: how often.

    Raises:
        BadEvidence: fewer than 12 models, or fewer than 1 repetition.
    """
    half = len(retrained) // 2
    if half < FEWEST or repetitions < 1:
        raise BadEvidence(
            f"Got {len(retrained)} retrained models and {repetitions} repetitions; expected at "
            f"least {2 * FEWEST} models, {FEWEST} for each side, and 1 repetition."
        )
    group = retrained.thinned(REPEATED_EXAMPLES)
    start = None if original is None else _fitted(original.thinned(REPEATED_EXAMPLES))
    found: list[tuple[AttackResult, ...]] = []
    for _ in range(repetitions):
        game = Game(group, group, *disjoint_halves(len(group), half, rng), start)
        found.append(run_attacks(game, margin=margin, alpha=alpha))
    verdicts = [battery_decision(tried, (), alpha) for tried in found]
    alarms = sum(bool(attacks_found(tried, alpha)) for tried in found)
    return FalseAlarms(
        clopper_pearson(alarms, repetitions),
        _shares(found, alpha),
        sum(one.word == "excluded" for one in verdicts) / repetitions,
        half,
    )


def disjoint_halves(models: int, size: int, rng: np.random.Generator) -> tuple[Halves, Halves]:
    """Two groups of so many of the models, none in both, each in two halves."""
    drawn = rng.permutation(models)
    return halves(drawn[:size], rng), halves(drawn[size : 2 * size], rng)


def _shares(found: Sequence[tuple[AttackResult, ...]], alpha: float) -> dict[str, float]:
    """How often each attack alone would have raised an alarm."""
    effects = [effect for tried in found for effect in effects_of(tried)]
    names = dict.fromkeys(effect.name for effect in effects)
    return {
        name: sum(e.p <= alpha for e in effects if e.name == name) / len(found) for name in names
    }


def _game(
    subject: Readings,
    oracle: Readings,
    original: Readings | None,
    shadows: Shadows | None,
    rng: np.random.Generator,
) -> Game:
    parts = [halves(np.arange(len(group)), rng) for group in (subject, oracle)]
    start = None if original is None else _fitted(original)
    return Game(subject, oracle, parts[0], parts[1], start, shadows)


def _fitted(original: Readings) -> Floats:
    """IAM's signal of the original; of several their mean, the same for both groups."""
    return np.asarray(signals.fitting(original.phi["forget"]).mean(axis=0), dtype=np.float64)


def _wanted(attack: Attack, game: Game) -> bool:
    return attack.needs != "shadows" or game.shadows is not None


def _play(attack: Attack, game: Game, margin: float, alpha: float) -> AttackResult:
    """One attack; what it cannot read is a reason and no result."""
    told = attack.name, attack.strength, attack.says
    try:
        mine, theirs = (scores.mean(axis=1) for scores in attack.play(game))
        effect = compare_auc(mine, theirs, margin=margin, alpha=alpha, name=attack.name)
    except BadEvidence as fault:
        return AttackResult(*told, None, 1.0, 0.0, 0.0, str(fault))
    return AttackResult(*told, effect, 1.0, float(mine.mean()), float(theirs.mean()), "")


def _too_few(game: Game, margin: float, alpha: float) -> Battery:
    """What is left to say of fewer models than can be halved."""
    why = (
        f"Got {len(game.subject)} unlearned and {len(game.oracle)} retrained models; attacks that "
        f"are fitted and judged on different models take {FEWEST} of each."
    )
    tried = tuple(
        AttackResult(attack.name, attack.strength, attack.says, None, 1.0, 0.0, 0.0, why)
        for attack in ATTACKS
        if _wanted(attack, game)
    )
    needed = 2 * units_to_exclude_auc(margin, alpha)
    return Battery(tried, Decision("inconclusive", why, "None."), needed, None, (), {}, None, ())


def _singles(game: Game, rng: np.random.Generator) -> tuple[Examples | None, tuple[Rate, ...]]:
    """Exposure of single examples, and rates over trials, by U-LiRA."""
    try:
        return most_exposed(*game.forget, rng), low_rates(by_u_lira(game), rng)
    except BadEvidence:  # U-LiRA itself gives the same reason
        return None, ()


def _worse(
    subject: Readings, original: Readings | None, oracle: Readings
) -> dict[str, MoreExposed]:
    if original is None:
        return {}
    found = {}
    for name in sets_of(subject):
        worse = more_exposed(subject.phi[name], original.phi[name], oracle.phi[name])
        worst = tuple((int(subject.places[name][at]), rise) for at, rise in worse.worst)
        found[name] = replace(worse, worst=worst)
    return found


def _margins(game: Game) -> Margins:
    """Percentiles of KLoM over forget examples, and of its floor at equal numbers of models."""
    mine, theirs = game.forget
    held = theirs[game.theirs.judged]
    pairs = (mine[game.mine.judged], theirs[game.theirs.fit])
    value, floor = (
        {f"{level:g}": float(np.percentile(klom(one, held), level)) for level in (50.0, 95.0)}
        for one in pairs
    )
    return Margins(value, floor)


def _same_examples(subject: Readings, oracle: Readings, original: Readings | None) -> None:
    for other in (oracle, original):
        if other is None:
            continue
        shapes = [{n: a.shape[1] for n, a in each.phi.items()} for each in (subject, other)]
        if shapes[0] != shapes[1]:
            raise BadEvidence(f"Got answers on {shapes[0]} and {shapes[1]}; expected the same.")
