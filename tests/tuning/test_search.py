"""Searching: seeded, taken up again, and honest about what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_tools import ended, experiment, verdicts

from expunge.core.store import Store
from expunge.errors import BadSentence
from expunge.experiments.experiment import read, to_toml
from expunge.experiments.tuning.evaluate import Bench
from expunge.experiments.tuning.held_out import held_out
from expunge.experiments.tuning.mutations import search_vocabulary
from expunge.experiments.tuning.record import between, finding, keep, search_record
from expunge.experiments.tuning.search import (
    Candidate,
    SearchBudget,
    SearchResult,
    children_of,
    scored,
    search,
)
from expunge.methods.cost import share_of_retraining
from expunge.methods.sentences import as_method

TERMS = SearchBudget(budget=10, members=2, oracles=2, cost=0.5)
WORDS = search_vocabulary()


def searched(folder: Path, terms: SearchBudget = TERMS, **changes: str) -> SearchResult:
    store = Store(folder / "store")
    found: SearchResult = ended(search(experiment(**changes), store, terms, WORDS))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def found(folder: Path) -> SearchResult:
    return searched(folder)


def test_what_is_found_is_new_and_within_the_cost(found: SearchResult) -> None:
    problem = held_out(experiment(), 2).problem
    published = {method.sentence for method in found.experiment.methods}
    assert found.found
    for one in found.found:
        assert one.method.sentence not in published
        assert as_method(one.method.sentence).steps == one.method.steps
        assert share_of_retraining(one.method, problem) <= TERMS.cost


def test_the_published_are_evaluated_by_the_same_fresh_seeds(found: SearchResult) -> None:
    assert {one.method.name for one in found.published} == {"finetune", "noise"}
    assert {len(one.verdicts) for one in (*found.found, *found.published)} == {8}
    for kind in (found.found, found.published):
        assert [one.distance for one in kind] == sorted(one.distance for one in kind)


def test_the_population_never_gets_worse(found: SearchResult) -> None:
    course = found.best_so_far
    assert list(course) == sorted(course, reverse=True)


def test_it_is_the_same_again_and_nothing_is_made_twice(
    found: SearchResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verdicts(Store(folder / "store"))
    monkeypatch.setattr(Bench, "unlearn", lambda *_: pytest.fail("trained again"))
    assert searched(folder) == found
    assert verdicts(Store(folder / "store")) == before


def test_stopped_at_any_candidate_it_goes_on_from_there(
    found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, count = Bench.unlearn, 0

    def dying(self: Bench, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count % 11 == 0:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Bench, "unlearn", dying)
    stops, again = 0, None
    while again is None:
        try:
            again = searched(tmp_path)
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2
    assert [one.method.sentence for one in again.found] == [o.method.sentence for o in found.found]
    assert count - stops == verdicts(Store(tmp_path / "store"))


def test_other_seeds_make_other_mutations(found: SearchResult, folder: Path) -> None:
    other = searched(folder, SearchBudget(10, 2, 2, 0.5, seed=1))
    assert {o.method.sentence for o in other.found} != {o.method.sentence for o in found.found}


def test_what_is_scored_is_scored_as_by_run_and_reported_honestly(
    found: SearchResult, folder: Path
) -> None:
    store = Store(folder / "store")
    summary = ended(scored(found, experiment(), store, 1))
    names = [row["name"] for row in summary["rows"]]
    assert names[:2] == ["retrain", "nothing"]
    assert set(names[2:]) == {method.name for method in found.to_score}
    told = json.loads(json.dumps(search_record(found, [summary]), allow_nan=False))
    assert told["scored"][0]["finding"] == finding(summary)
    keep("search", found.experiment, search_record(found, [summary]), store)
    assert store.named("search", "tiny") == told
    assert {m.name for m in read(to_toml(found.experiment_with_found), "a test").methods} >= {
        "finetune",
        "found_1",
    }


def row(name: str, value: float, sentence: str = "Noise(0.1)") -> dict[str, Any]:
    quality = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {"name": name, "sentence": sentence, "scores": {"quality": quality}}


@pytest.mark.parametrize(
    ("found_1", "said"),
    [(0.15, "is better than"), (0.105, "is not better than"), (0.05, "is worse than")],
)
def test_the_finding_says_better_only_beyond_noise(found_1: float, said: str) -> None:
    # found_2 is the best by score, but it was not the first on the tuning split
    rows = [row("retrain", 0.2), row("noise", 0.1), row("old", 0.06)]
    rows += [row("found_1", found_1), row("found_2", 0.19)]
    assert f"found_1 {said} the best published, noise" in finding({"rows": rows})
    assert "Nothing to compare" in finding({"rows": rows[:3]})


def test_other_numbers_are_not_told_as_another_combination() -> None:
    old = [row("noise", 0.1), row("reset", 0.05, "Reset(Last(2)), Train(CE('retain'))")]
    same = row("found_1", 0.2, "Reset(Last(3)), Train(CE('retain'), lr=0.5)")
    other = row("found_1", 0.2, "Reset(Last(3)), Train(CE('forget'))")
    assert "those of reset; only numbers differ" in finding({"rows": [*old, same]})
    assert "only numbers" not in finding({"rows": [*old, other]})


def test_children_are_new_and_never_above_the_cost() -> None:
    problem = held_out(experiment(), 2).problem
    parents = [Candidate(as_method("Train(CE('retain'), epochs=0.9, lr=0.1, batch=32)"))]
    seen, draws = {parents[0].method.sentence}, np.random.default_rng(0)
    children = children_of(parents, WORDS, problem, 0.12, seen, draws, 12, "child")
    assert len(children) == len({one.method.sentence for one in children}) == 12
    assert parents[0].method.sentence not in {one.method.sentence for one in children}
    shares = [share_of_retraining(one.method, problem) for one in children]
    assert max(shares) <= 0.12
    assert max(shares) > 0.1


def test_a_normalised_score_lies_between_its_anchors() -> None:
    summary = {"floor": {"value": 0.0}, "ceiling": {"value": 0.2}}
    quality = {"value": 0.1, "low": 0.05, "high": 0.15}
    expected = {"value": 0.5, "low": 0.25, "high": 0.75}
    assert between(quality, summary) == pytest.approx(expected)
    assert isinstance(between(quality, {**summary, "floor": {"value": 0.2}}), str)


def test_without_a_sentence_that_can_be_carried_out_it_says_so(tmp_path: Path) -> None:
    chosen = experiment(finetune="\"Train(CE('vall'))\"", noise="\"Train(CE('vall'))\"")
    with pytest.raises(BadSentence, match="none to start at"):
        ended(search(chosen, Store(tmp_path / "store"), TERMS, WORDS))


@pytest.mark.parametrize("said", [{"budget": 1}, {"members": 1}, {"oracles": 0}, {"cost": 2.0}])
def test_terms_that_say_nothing_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadSentence):
        SearchBudget(**said)
