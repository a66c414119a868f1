"""Single examples attacked with shadow models: what saw them stands out, what did not does not."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.errors import BadEvidence
from expunge.metrics.attacks.battery import battery
from expunge.metrics.attacks.games import Shadows, read_answers
from expunge.metrics.attacks.signals import confidence
from expunge.metrics.attacks.singles import PairedShadows, SingleSignals, singles

SHADOWS, EXAMPLES, POINTS = 32, 80, 60


def signals(models: int, seed: int, member: np.ndarray, gain: float) -> SingleSignals:
    """Log odds that rise by `gain` where a model saw the example; examples differ in themselves."""
    hard = np.random.default_rng(98)
    rng = np.random.default_rng(seed)
    phi = hard.normal(1, 1, EXAMPLES) + rng.normal(0, 1, (models, EXAMPLES)) + gain * member
    unseen = hard.normal(1, 1, POINTS) + rng.normal(0, 1, (models, POINTS))
    return SingleSignals(phi, confidence(phi), confidence(unseen))


def halved(gain: float = 2.0, shadows: int = SHADOWS, seed: int = 4) -> PairedShadows:
    rng = np.random.default_rng(seed)
    member = np.zeros((shadows, EXAMPLES), dtype=np.bool_)
    for row in range(0, shadows, 2):
        drawn = rng.permutation(EXAMPLES)[: EXAMPLES // 2]
        member[row, drawn] = True
        member[row + 1] = ~member[row]
    return PairedShadows(signals(shadows, seed, member, gain), member, np.arange(shadows) // 2)


def groups(models: int = 16) -> dict[str, SingleSignals]:
    every = np.ones((1, EXAMPLES), dtype=np.bool_)
    return {
        "original": signals(1, 5, every, 2.0),
        "unlearned": signals(models, 6, every, 1.0),
        "retrained": signals(models, 7, ~every, 2.0),
    }


def test_members_stand_out_and_models_that_never_saw_them_stand_at_half() -> None:
    for name, found in singles(groups(), halved()).items():
        auc = {who: each.auc for who, each in found.groups.items()}
        # Both sides are scored by fits that hold neither, so that chance gives 0.5.
        assert abs(auc["retrained"] - 0.5) < 0.06, name
        assert auc["original"] > auc["unlearned"] > auc["retrained"] + 0.05, name
        told = found.groups["original"]
        assert told.low < told.auc < told.high
        assert found.groups["retrained"].examples.beyond_chance < 0.05


def test_few_shadows_do_not_lean() -> None:
    """Shadows that are held against a model must not be in the fit, which would know them."""
    never = np.zeros((1, EXAMPLES), dtype=np.bool_)
    found = []
    for seed in range(100, 112):
        clean = signals(8, seed, never, 0.0)
        same = {"original": clean, "unlearned": clean, "retrained": clean}
        told = singles(same, halved(gain=0.0, shadows=8, seed=seed + 50))["LiRA"]
        found.append(told.groups["retrained"].auc)
    assert abs(np.mean(found) - 0.5) < 0.02


def test_what_unlearning_made_worse_is_named() -> None:
    every = np.ones((1, EXAMPLES), dtype=np.bool_)
    made = {**groups(), "original": signals(16, 5, ~every, 2.0)}
    made["unlearned"].phi[:, 9] += 3.0
    found = singles(made, halved(shadows=96))["LiRA"]
    assert found.worse.worst[0][0] == 9
    assert found.worse.count == EXAMPLES


def test_a_rate_that_cannot_be_resolved_is_refused_with_the_reason() -> None:
    def cut(of: SingleSignals) -> SingleSignals:
        return SingleSignals(of.phi[:, :20], of.soft[:, :20], of.unseen)

    few, whole = cut(groups()["original"]), halved(shadows=8)
    held = PairedShadows(cut(whole.signals), whole.member[:, :20], whole.pair)
    found = singles({"original": few, "unlearned": few, "retrained": few}, held)["LiRA"]
    assert found.groups["original"].tpr is None
    assert "non-members" in found.groups["original"].reason


def test_fewer_than_four_pairs_are_refused() -> None:
    with pytest.raises(BadEvidence, match="at least 8"):
        singles(groups(), halved(shadows=6))


def test_attacks_on_models_that_are_fitted_to_shadows_join_the_family() -> None:
    from test_battery import SETS, world

    rng = np.random.default_rng(0)
    subject, oracle = (read_answers(world(24, seed, shift=s)) for seed, s in ((1, 1.0), (2, 0.0)))
    shadow = read_answers(world(16, 3))
    member = np.zeros(shadow.phi["forget"].shape, dtype=np.bool_)
    member[::2] = True
    phi = dict(shadow.phi)
    phi["forget"] = phi["forget"] + 1.0 * member
    held = Shadows(phi, dict(shadow.soft), member)
    made = battery(subject, oracle, None, rng, shadows=held)
    effects = {one.name: one.effect for one in made.tried}
    lira = effects["LiRA on shadows"]
    # Nothing of either group is fitted to, so that all models are judged.
    assert lira is not None and lira.n == (24, 24) and lira.value > 0.2
    assert effects["RMIA on shadows"] is not None
    assert SETS["forget"].stop - SETS["forget"].start == member.shape[1]
