"""The battery: silent where nothing is to be found, loud where something is, honest in between."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import binom

from expunge.core.evidence import Evidence
from expunge.errors import BadEvidence
from expunge.metrics.attacks.battery import (
    attacks_found,
    battery,
    battery_decision,
    disjoint_halves,
    false_alarms,
    run_attacks,
)
from expunge.metrics.attacks.examples import low_rates, more_exposed
from expunge.metrics.attacks.games import (
    ATTACKS,
    MOST_EXAMPLES,
    Game,
    Halves,
    Readings,
    by_klom,
    halves,
    read_answers,
    spread_rows,
)
from expunge.metrics.attacks.klom import klom
from expunge.metrics.attacks.lira import u_lira
from expunge.statistics.roc_area import compare_auc

SETS = {"retain": slice(0, 40), "forget": slice(40, 70), "test": slice(70, 110)}
CLASSES = 3


def world(models: int, seed: int, shift: float = 0.0, sets: dict[str, slice] = SETS) -> Evidence:
    """Models that differ by chance and share how hard each example is; `shift` moves forget."""
    total = max(rows.stop for rows in sets.values())
    hard = np.random.default_rng(99)
    targets = hard.integers(0, CLASSES, total)
    level = hard.normal(1.0, 1.5, total)
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (models, total, CLASSES))
    logits += 0.3 * rng.normal(0, 1, (models, 1, 1))
    level = np.broadcast_to(level, (models, total)).copy()
    level[:, sets["forget"]] += shift
    logits[:, np.arange(total), targets] += level
    return Evidence(logits.astype(np.float32), targets, sets)


@pytest.fixture(scope="module")
def pool() -> Readings:
    return read_answers(world(192, 0))


def game(group: Readings, n: int, rng: np.random.Generator) -> Game:
    return Game(group, group, *disjoint_halves(len(group), n, rng))


def test_family_wise_false_alarms_are_within_five_per_cent(pool: Readings) -> None:
    rng, runs = np.random.default_rng(1), 120
    found = [attacks_found(run_attacks(game(pool, 24, rng))) for _ in range(runs)]
    assert sum(map(bool, found)) <= binom.ppf(0.999, runs, 0.05)


def test_scores_of_a_model_left_out_of_its_own_fit_raise_false_alarms_and_split_fits_do_not() -> (
    None
):
    """Why the battery parts models: leaving one out leans away from the fit, where all is equal."""
    rng, runs, n = np.random.default_rng(2), 150, 16
    alarms = {"left out": 0, "split": 0}
    for _ in range(runs):
        signal = rng.normal(size=(2 * n, 400))
        inside = np.broadcast_to((np.arange(2 * n) < n)[:, None], signal.shape)
        fit = np.broadcast_to((np.arange(2 * n) % 2 == 0)[:, None], signal.shape)
        own = u_lira(signal, inside, ~inside).mean(axis=1)
        apart = u_lira(signal, inside & fit, ~inside & fit).mean(axis=1)
        judge = np.arange(2 * n) % 2 == 1
        groups = {
            "left out": (own[:n], own[n:]),
            "split": (apart[:n][judge[:n]], apart[n:][judge[n:]]),
        }
        for name, pair in groups.items():
            alarms[name] += compare_auc(*pair, margin=0.1).p <= 0.05
    assert alarms["left out"] > 0.15 * runs
    assert alarms["split"] <= binom.ppf(0.999, runs, 0.05)


def test_a_difference_is_found_by_every_kind_of_attack(pool: Readings) -> None:
    made = battery(read_answers(world(64, 5, shift=1.0)), pool, None, np.random.default_rng(0))
    assert made.verdict.word == "found"
    found = {one.name for one in made.tried if one.adjusted <= 0.05}
    assert found >= {"U-LiRA", "RULI", "KLoM", "IAM", "loss"}
    assert made.exposed is not None and made.exposed.mean_auc > 0.6
    assert [one.name for one in made.tried] == [each.name for each in ATTACKS if not each.needs]


def test_copies_of_one_model_are_found_and_the_guard_speaks(pool: Readings) -> None:
    """One model again and again is no group of retrained ones, however it was trained."""
    one = world(1, 7)
    copies = replace(one, logits=np.repeat(one.logits, 64, axis=0))
    made = battery(read_answers(copies), pool, read_answers(one), np.random.default_rng(0))
    assert made.verdict.word == "found"
    assert any("differ over models" in words for words in made.guard)
    assert set(made.worse) == {"forget", "retain"}


def test_alike_groups_are_excluded_where_the_margin_is_wide_enough(pool: Readings) -> None:
    made = battery(read_answers(world(192, 8)), pool, None, np.random.default_rng(0), margin=0.3)
    assert made.verdict.word == "excluded"
    assert made.worse == {}
    narrow = battery(read_answers(world(32, 8)), pool, None, np.random.default_rng(0))
    assert narrow.verdict.word == "inconclusive"
    assert "excludes one of" in narrow.verdict.power
    assert narrow.needed == 288


def test_nothing_is_excluded_of_strange_models(pool: Readings) -> None:
    made = battery(read_answers(world(192, 8)), pool, None, np.random.default_rng(0), margin=0.3)
    said = battery_decision(made.tried, ("All margins are alike.",))
    assert said.word == "inconclusive"
    assert said.reason.startswith("All margins are alike.")


def test_too_few_models_leave_every_attack_without_a_number(pool: Readings) -> None:
    made = battery(read_answers(world(5, 3)), pool, None, np.random.default_rng(0))
    assert made.verdict.word == "inconclusive"
    assert "take 6 of each" in made.verdict.reason
    assert all(one.effect is None and one.reason for one in made.tried)
    six = battery(read_answers(world(6, 3)), pool, None, np.random.default_rng(0))
    assert all(one.effect is not None for one in six.tried)


def test_without_unseen_examples_the_attacks_that_need_them_say_so() -> None:
    sets = {"retain": slice(0, 40), "forget": slice(40, 70)}
    made = battery(
        read_answers(world(12, 3, sets=sets)), read_answers(world(12, 4, sets=sets)), None,
        np.random.default_rng(0),
    )  # fmt: skip
    without = {one.name for one in made.tried if one.effect is None}
    assert without == {"RMIA", "loss", "entropy", "modified entropy", "SVC"}
    assert made.verdict.word in ("inconclusive", "found")


def test_other_examples_are_refused(pool: Readings) -> None:
    sets = {**SETS, "test": slice(70, 100)}
    with pytest.raises(BadEvidence, match="expected the same"):
        battery(read_answers(world(12, 3, sets=sets)), pool, None, np.random.default_rng(0))


def test_the_mean_of_the_histogram_scores_is_the_divergence(pool: Readings) -> None:
    """Judged on the very models it was fitted to, the attack's mean over oracles is minus KLoM."""
    mine, theirs = np.arange(40), np.arange(40, 100)
    both = Game(pool, pool, Halves(mine, mine), Halves(theirs, theirs))
    scores = by_klom(both)[1]
    divergence = klom(pool.phi["forget"][mine], pool.phi["forget"][theirs])
    # The bins of the attack and of the divergence are the same; KLoM alone makes shares sum to 1.
    np.testing.assert_allclose(-scores.mean(axis=0), divergence, atol=3e-4)


def test_fits_never_see_the_judged_models(pool: Readings) -> None:
    """Other judged models leave the scores of the rest as they were."""
    rng = np.random.default_rng(4)
    first = game(pool, 40, rng)
    fewer = replace(
        first,
        mine=Halves(first.mine.fit, first.mine.judged[:10]),
        theirs=Halves(first.theirs.fit, first.theirs.judged[:10]),
    )
    for attack in ATTACKS[:5]:
        whole, part = attack.play(first), attack.play(fewer)
        start = len(part[0]) - 10
        np.testing.assert_allclose(part[0], whole[0][: start + 10], err_msg=attack.name)
        np.testing.assert_allclose(part[1], whole[1][:10], err_msg=attack.name)


def test_who_got_worse_is_asked_of_retained_examples_too(pool: Readings) -> None:
    made = battery(
        read_answers(world(16, 3)), pool, read_answers(world(16, 4)), np.random.default_rng(5)
    )
    assert set(made.worse) == {"forget", "retain"}


def test_a_record_is_json_and_the_same_seed_gives_the_same(pool: Readings) -> None:
    def once() -> str:
        made = battery(read_answers(world(16, 3)), pool, None, np.random.default_rng(5))
        return json.dumps(asdict(made), allow_nan=False)

    assert once() == once()


def test_false_alarms_are_counted_between_disjoint_halves(pool: Readings) -> None:
    found = false_alarms(pool, None, np.random.default_rng(0), repetitions=6)
    assert (found.rate.n, found.models) == (6, 96)
    assert set(found.by_attack) == {each.name for each in ATTACKS if not each.needs}
    with pytest.raises(BadEvidence, match="at least 12"):
        false_alarms(read_answers(world(11, 0)), None, np.random.default_rng(0))


def test_groups_and_halves_share_no_model() -> None:
    first, second = disjoint_halves(101, 50, np.random.default_rng(0))
    parts = [first.fit, first.judged, second.fit, second.judged]
    assert [len(part) for part in parts] == [25] * 4
    assert len(set(np.concatenate(parts).tolist())) == 100


def test_false_alarms_of_a_broken_attack_would_show(pool: Readings) -> None:
    """Two kinds of models among the oracles are no null: the count must rise when split by kind."""
    mixed = read_answers(world(24, 1, shift=2.0))
    rng = np.random.default_rng(0)
    tried = run_attacks(Game(mixed, pool, halves(np.arange(24), rng), halves(np.arange(24), rng)))
    assert attacks_found(tried)


def test_low_rates_are_refused_where_they_cannot_be_resolved() -> None:
    rng = np.random.default_rng(0)
    few = low_rates((rng.normal(size=(5, 20)), rng.normal(size=(5, 20))), rng)
    assert [rate.fpr for rate in few] == [0.01, 0.001]
    assert "takes 299" in few[0].reason
    assert "takes 2995" in few[1].reason
    many = low_rates((rng.normal(1, 1, (20, 40)), rng.normal(size=(20, 40))), rng)
    assert many[0].reason == "" and many[0].low <= many[0].value <= many[0].high


def test_an_example_that_moved_away_is_named() -> None:
    rng = np.random.default_rng(0)
    original, oracle = rng.normal(size=(40, 25)), rng.normal(size=(40, 25))
    subject = rng.normal(size=(40, 25))
    subject[:, 7] -= 4
    found = more_exposed(subject, original, oracle)
    assert [at for at, _ in found.worst] == [7]
    assert (found.share, found.count) == (1 / 25, 25)


def test_rows_are_spread_evenly_and_large_sets_are_thinned() -> None:
    assert spread_rows(10, 20).tolist() == list(range(10))
    assert spread_rows(101, 3).tolist() == [0, 50, 100]
    sets = {"forget": slice(0, 6000), "test": slice(6000, 12000)}
    made = read_answers(world(3, 0, sets=sets))
    assert made.phi["forget"].shape == (3, 6000)
    assert made.phi["test"].shape == (3, MOST_EXAMPLES)
    assert made.thinned(10).phi["forget"].shape == (3, 10)
