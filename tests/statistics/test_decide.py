"""Three words, what each needs, and the blind baseline."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from audit_worlds import at_most

from expunge.errors import BadEvidence, ExpungeError
from expunge.statistics.baseline import blind_baseline, blind_baseline_on_features
from expunge.statistics.decision import decide
from expunge.statistics.result import Effect
from expunge.statistics.roc_area import compare_auc

NONE = Effect("loss", "AUC", 0.01, -0.03, 0.04, 0.6, 0.01, 0.05, 0.05, (722, 722), 0.04, 0.045)


def effect(name: str, **changes: float) -> Effect:
    return dataclasses.replace(NONE, name=name, **changes)  # type: ignore[arg-type]


def test_excluded_needs_every_effect() -> None:
    found = decide([effect("a"), effect("b", high=0.049)])
    assert found.word == "excluded"
    assert "2 tests" in found.reason
    wide = decide([effect("a"), effect("b", high=0.06, p_equivalent=0.1)])
    assert wide.word == "inconclusive"
    assert "b 0.01 AUC (90 % interval -0.03 to 0.06), margin 0.05" in wide.reason


@pytest.mark.parametrize(("low", "high"), [(-0.05, 0.04), (-0.03, 0.05)])
def test_an_interval_that_touches_the_margin_is_not_within_it(low: float, high: float) -> None:
    assert decide([effect("a", low=low, high=high)]).word == "inconclusive"


def test_found_needs_to_survive_holm() -> None:
    leak = {"value": 0.1, "low": 0.06, "high": 0.14, "p": 0.02, "p_equivalent": 0.99}
    assert decide([effect("a", **leak)]).word == "found"
    many = [effect(str(at)) for at in range(2)]
    assert decide([effect("a", **leak), *many]).word == "inconclusive"
    leak["p"] = 0.016
    found = decide([effect("a", **leak), *many])
    assert found.word == "found"
    assert "after Holm over 3 tests: a 0.1 AUC (90 % interval 0.06 to 0.14), p 0.048" in (
        found.reason
    )
    assert "Holm over 3 tests needs an effect" in found.power


def test_a_small_effect_that_is_there_is_told() -> None:
    found = decide([effect("a", p=1e-5)])
    assert found.word == "excluded"
    assert "A smaller effect is there: a." in found.reason


def test_power_says_what_n_would_do() -> None:
    found = decide([effect("a", high=0.2, excludable=0.1, detectable=0.09)])
    assert "n = 722 and 722 this test finds a difference of 0.09 AUC in 80 %" in found.power
    assert "to exclude 0.05 takes about 4.0 times as many" in found.power
    assert "times as many" not in decide([effect("a")]).power


def test_order_does_not_matter() -> None:
    some = [effect("a", p=0.01, low=0.01, high=0.2), effect("b", p=0.3), effect("c", p=0.04)]
    assert decide(some).word == decide(some[::-1]).word == "found"
    assert decide(some).reason == decide(some[::-1]).reason


def test_bad_families() -> None:
    for bad in ([], [effect("a"), effect("a")], [effect("a", alpha=0.01)],
                [effect("a", p=math.nan)]):  # fmt: skip
        with pytest.raises(BadEvidence):
            decide(bad)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ExpungeError):
            decide([effect("a")], alpha=alpha)


def audit(rng: np.random.Generator, leak: float, n: int, attacks: int = 10) -> str:
    """Ten attacks that share part of their noise."""
    shared = rng.normal(size=(2, n))
    effects = []
    for at in range(attacks):
        a, b = 0.7 * shared + 0.7 * rng.normal(size=(2, n)) + [[leak if at == 0 else 0.0], [0.0]]
        effects.append(compare_auc(a, b, margin=0.1, name=f"attack {at}"))
    return decide(effects).word


def test_a_perfect_retrain_is_called_leaky_in_five_percent_at_most() -> None:
    rng, runs = np.random.default_rng(0), 100
    words = [audit(rng, 0.0, 100) for _ in range(runs)]
    assert words.count("found") <= at_most(0.05, runs)


def test_a_leak_is_found_and_never_excluded() -> None:
    rng, runs = np.random.default_rng(0), 20
    words = [audit(rng, 0.8, 300) for _ in range(runs)]
    assert words.count("found") >= 19
    assert "excluded" not in words


def test_few_units_are_inconclusive_not_clean() -> None:
    rng = np.random.default_rng(0)
    words = [audit(rng, 0.0, 20) for _ in range(20)]
    assert words.count("inconclusive") >= 18


def test_a_difference_at_the_margin_is_excluded_in_five_percent_at_most() -> None:
    rng, runs, n = np.random.default_rng(0), 300, 300
    shift = math.sqrt(2) * 0.2533471  # the area is then 0.6, on the margin
    words = [
        decide([compare_auc(rng.normal(size=n) + shift, rng.normal(size=n), margin=0.1)]).word
        for _ in range(runs)
    ]
    assert 1 <= words.count("excluded") <= at_most(0.05, runs)


def members(n: int) -> np.ndarray:
    return np.arange(2 * n) < n


def test_an_attack_that_sees_no_model_and_knows_is_void() -> None:
    rng, n = np.random.default_rng(0), 300
    dates = rng.normal(size=2 * n) + 0.8 * members(n)
    found = blind_baseline(dates, members(n))
    assert found.void
    assert found.verdict.word == "found"
    assert found.reason.startswith("The attack is void")


def test_an_attack_at_chance_stands() -> None:
    rng, n = np.random.default_rng(0), 3000
    found = blind_baseline(rng.normal(size=2 * n), members(n))
    assert not found.void
    assert found.reason.startswith("The attack is valid")
    few = blind_baseline(rng.normal(size=40), members(20))
    assert not few.void
    assert few.reason.startswith("The attack may be valid")


def test_features_from_before_training_that_know_are_void() -> None:
    rng, n = np.random.default_rng(0), 200
    features = rng.normal(size=(2 * n, 6))
    features[:, 5] = 1.0
    clean = blind_baseline_on_features(features, members(n), rng)
    assert not clean.void
    features[:, 3] += 0.8 * members(n)
    assert blind_baseline_on_features(features, members(n), rng).void
    # More features than examples, one of which knows.
    wide = np.concatenate([features * 3, rng.normal(size=(2 * n, 500)) * 0.1], axis=1)
    wide[:, 4] += 6 * members(n)
    assert blind_baseline_on_features(wide, members(n), rng).void


def test_blind_features_raise_no_false_alarm() -> None:
    """More features than examples fit anything; judged on the other half they know nothing."""
    rng, runs = np.random.default_rng(0), 200
    void = sum(
        blind_baseline_on_features(rng.normal(size=(60, 80)), members(30), rng).void
        for _ in range(runs)
    )
    assert void <= at_most(0.05, runs)


def test_bad_blind_input() -> None:
    rng, scores = np.random.default_rng(0), np.arange(40.0)
    for member in (members(19), members(20).astype(int), np.ones(40, dtype=bool)):
        with pytest.raises(BadEvidence):
            blind_baseline(scores, member)
    with pytest.raises(BadEvidence):
        blind_baseline(scores * math.nan, members(20))
    with pytest.raises(BadEvidence, match="at least 8"):
        blind_baseline_on_features(np.zeros((40, 2)), np.arange(40) < 5, rng)
    with pytest.raises(BadEvidence):
        blind_baseline_on_features(scores, members(20), rng)
    with pytest.raises(ExpungeError):
        blind_baseline(scores, members(20), margin=-1.0)
