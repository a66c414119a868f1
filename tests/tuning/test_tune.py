"""Tuning: equal budgets, the sentence as given first, fresh seeds last, nothing made twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tuning_tools import FEW, bench, ended, experiment, verdicts, words

from expunge.core.store import Store
from expunge.errors import BadSentence
from expunge.experiments.experiment import Experiment, read
from expunge.experiments.tuning.evaluate import Bench, Evaluation, evaluate
from expunge.experiments.tuning.record import curve, keep, tuning_record
from expunge.experiments.tuning.space import search_space
from expunge.experiments.tuning.tune import (
    Budget,
    Finalist,
    Sampler,
    Trial,
    Tuned,
    Tuning,
    best,
    fixed,
    limited,
    tune,
    tuned,
)
from expunge.methods.sentences import as_method


def carried_out(chosen: Experiment, folder: Path, budget: Budget = FEW) -> Tuning:
    found: Tuning = ended(tune(chosen, Store(folder / "store"), budget))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def found(folder: Path) -> Tuning:
    return carried_out(experiment(), folder)


def test_every_method_has_the_same_number_of_trials(found: Tuning) -> None:
    assert [len(each.trials) for each in found.methods] == [FEW.trials] * 2
    assert [each.method.name for each in found.methods] == ["finetune", "noise"]


def test_the_first_trial_is_the_sentence_as_given(found: Tuning) -> None:
    for each in found.methods:
        assert each.trials[0].method == each.method
        assert not each.trials[0].shortened
        assert each.given is not None


def test_only_numbers_differ_between_trials(found: Tuning) -> None:
    for each in found.methods:
        found_words = {words(trial.method.sentence) for trial in each.trials}
        assert found_words == {words(each.method.sentence)}
        assert len({trial.method.sentence for trial in each.trials}) > 2


def test_the_finalists_are_evaluated_by_other_seeds_and_the_winner_by_those(found: Tuning) -> None:
    for each in found.methods:
        assert each.winner in each.finalists
        assert each.winner.distance == min(one.distance for one in each.finalists)
        for one in each.finalists:
            assert len({one.trial.verdict.distance, *(v.distance for v in one.fresh)}) == 3
            assert one.optimism == one.trial.verdict.distance - one.distance


def test_the_anchors_are_in_their_order(found: Tuning) -> None:
    assert 0 < found.retrained < found.original


def test_the_record_is_json_and_holds_the_whole_curve(found: Tuning, folder: Path) -> None:
    told = json.loads(json.dumps(tuning_record(found), allow_nan=False))
    assert len(told["methods"]["noise"]["trials"]) == FEW.trials
    assert {"numbers", "distance", "cost"} <= set(told["methods"]["noise"]["trials"][1])
    so_far = told["methods"]["noise"]["best_so_far"]
    assert so_far == sorted(so_far, reverse=True)
    assert "The protocol." in told["protocol"]
    store = Store(folder / "store")
    keep("tuning", found.experiment, tuning_record(found), store)
    assert store.named("tuning", "tiny") == told


def test_the_tuned_experiment_keeps_each_source(found: Tuning) -> None:
    methods = {method.name: method for method in found.experiment_tuned.methods}
    assert methods["finetune"].source.startswith("a paper; ")
    assert "expunge tune" in methods["noise"].source
    again = read(tuning_record(found)["tuned"], "the record")
    assert again == found.experiment_tuned


def test_a_second_run_makes_nothing_and_says_the_same(
    found: Tuning, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verdicts(Store(folder / "store"))
    monkeypatch.setattr(Bench, "unlearn", lambda *_: pytest.fail("trained again"))
    assert carried_out(experiment(), folder) == found
    assert verdicts(Store(folder / "store")) == before


def test_a_run_that_is_stopped_goes_on_to_exactly_the_budget(
    found: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, count = Bench.unlearn, 0

    def dying(self: Bench, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Bench, "unlearn", dying)
    stops = 0
    while True:
        try:
            again = carried_out(experiment(), tmp_path)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2
    assert [sentences(each) for each in again.methods] == [sentences(m) for m in found.methods]
    assert count - stops == verdicts(Store(tmp_path / "store"))


def sentences(each: Tuned) -> list[str]:
    return [trial.method.sentence for trial in each.trials]


def test_a_larger_budget_goes_on_from_a_smaller(found: Tuning, folder: Path) -> None:
    more = Budget(FEW.trials + 2, FEW.members, FEW.oracles, FEW.cost)
    grown = carried_out(experiment(), folder, more)
    assert [m.trials[: FEW.trials] for m in grown.methods] == [m.trials for m in found.methods]


def test_no_configuration_costs_more_than_allowed(tmp_path: Path) -> None:
    own = bench(tmp_path)
    method = as_method("Train(CE('retain'), epochs=0.9, batch=32)", "dear")
    told = tuned(method, own, Budget(trials=3, members=2, oracles=2, cost=0.1))
    assert all(trial.verdict.cost <= 0.1 for trial in told.trials)
    assert told.trials[0].shortened
    assert told.trials[0].method.sentence != method.sentence


def test_a_trial_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    wild = as_method("Train(-CE('forget'), epochs=20, lr=1e30, batch=8)", "wild")
    told = tuned(wild, bench(tmp_path), Budget(trials=2, members=2, oracles=2, cost=1))
    assert told.winner is None
    assert all("infinite" in trial.verdict.reason for trial in told.trials)
    assert curve(told.trials) == {"failed": 2, "of": 2}


def test_a_number_that_does_not_fit_is_a_failed_trial_and_others_are_tried(tmp_path: Path) -> None:
    # a fiftieth is forgotten, so nothing matters 100 times more to it; a third of that may
    own = bench(tmp_path, recipe="\"Train(CE('train'), epochs=3, lr=0.1, batch=128)\"")
    deaf = as_method("Dampen(alpha=100.0), Train(CE('retain'), epochs=0.1, batch=128)", "deaf")
    told = tuned(deaf, own, Budget(trials=5, members=2, oracles=2, cost=1))
    assert "Choose a smaller alpha" in told.trials[0].verdict.reason
    assert told.winner is not None


def test_a_method_that_does_not_fit_is_reported_as_such(tmp_path: Path) -> None:
    chosen = experiment(noise="\"Train(CE('vall'))\"")
    found = carried_out(chosen, tmp_path, Budget(2, 2, 2, 0.5))
    told = tuning_record(found)["methods"]["noise"]
    assert "vall" in told["trials"][0]["failed"]
    assert told["tuned"] == ""
    assert found.experiment_tuned.methods[1] == chosen.methods[1]
    json.dumps(told, allow_nan=False)


def test_a_failed_verdict_is_kept_with_its_reason(tmp_path: Path) -> None:
    own = bench(tmp_path)
    still = as_method("Train(CE('retain'), lr=0.0)", "still")
    first = evaluate(still, own, 2)
    assert first.failed
    assert "left every weight as it was" in first.reason
    assert evaluate(still, own, 2) == first
    assert verdicts(own.store) == 1


def test_equal_sentences_share_a_verdict_and_other_seeds_do_not(tmp_path: Path) -> None:
    own = bench(tmp_path)
    one = as_method("Train(CE('retain'), epochs=0.1)", "one")
    other = as_method("Train(CE('retain'), epochs=0.1)", "other")
    assert evaluate(one, own, 2) == evaluate(other, own, 2)
    assert evaluate(one, own, 2, 1) != evaluate(one, own, 2)
    assert evaluate(one, own, 2, fresh=True) != evaluate(one, own, 2)
    assert verdicts(own.store) == 3


def test_under_the_paired_protocol_every_member_has_an_original(tmp_path: Path) -> None:
    own = bench(tmp_path, forget='"RandomShare(0.02)"\nprotocol = "paired"')
    evaluate(as_method("Train(CE('retain'), epochs=0.1)"), own, 3)
    assert len(list((own.store.root / "original").glob("*/*/job.json"))) == 3


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"trials": 1}, "each method twice"),
        ({"members": 1}, "2 or more"),
        ({"oracles": 1}, "2 or more"),
        ({"cost": 0.0}, "share of retraining"),
        ({"cost": 1.5}, "share of retraining"),
    ],
)
def test_budgets_that_say_nothing_are_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadSentence, match=complaint):
        Budget(**said)


def test_the_first_places_are_the_given_and_its_scalings() -> None:
    space = search_space(as_method("Noise(0.1), Train(CE('retain'), epochs=2, lr=0.3, batch=32)"))
    places = fixed(space)
    values = [[knob.range.at(u) for knob, u in zip(space, units, strict=True)] for units in places]
    assert values == [
        [0.1, 2.0, 0.3, 32],
        [0.1, 2.0, 0.1, 32],
        [0.1, 2.0, 0.9, 32],
        [pytest.approx(0.0333, rel=0.01), 2.0, 0.3, 32],
        [0.3, 2.0, 0.3, 32],
    ]


def test_the_sampler_is_the_same_each_time_and_learns_from_failures() -> None:
    space = search_space(as_method("Train(CE('retain'), epochs=2, lr=0.3)"))

    def course() -> list[tuple[float, ...]]:
        sampler, asked = Sampler(space, 7), []
        for _ in range(14):
            handle, units = sampler.ask()
            asked.append(units)
            # all that is above half fails
            sampler.tell(handle, math.inf if units[1] > 0.5 else units[1])
        return asked

    first = course()
    assert first == course()
    assert first != sorted(first)
    assert sum(units[1] > 0.5 for units in first[10:]) == 0


def test_epochs_end_where_they_use_up_the_cost(tmp_path: Path) -> None:
    problem = bench(tmp_path).split.problem
    method = as_method("Train(CE('retain'), epochs=0.2, batch=128)")
    (epochs, _, _) = limited(search_space(method), method, problem, 0.5)
    assert 0.45 < epochs.range.at(1.0) < 0.6
    assert epochs.range.at(0.0) == 0.02


def test_the_best_are_three_and_the_given_none_of_them_twice() -> None:
    said = [0.5, 0.1, 0.1, 0.3, 0.2, math.inf, 0.4]
    methods = [as_method(f"Noise({number % 6 + 1})") for number in (0, 1, 1, 2, 3, 4, 5)]
    trials = [
        Trial(i, method, (), Evaluation(far, reason="" if far < 9 else "failed"))
        for i, (method, far) in enumerate(zip(methods, said, strict=True))
    ]
    assert [trial.number for trial in best(trials)] == [0, 1, 4, 3]
    assert [trial.number for trial in best(trials[5:])] == [6]
    again = Finalist(trials[1], (Evaluation(0.2), Evaluation(0.4)))
    assert again.distance == pytest.approx(0.3)
    assert again.optimism == pytest.approx(-0.2)
