"""Everything is made once, a failure is recorded and stops nothing else, and damage is mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from house_tools import LOOPED, METHODS, STACKED, bits, carried_out, net, plan, problem, timed, torn
from torch import nn

import expunge.experiments.make
from expunge.core.store import Job, Store
from expunge.engine.stacking import Looped, Timing
from expunge.errors import BadEvidence, BadSentence, Diverged, OffLimits, StoreError
from expunge.experiments.graph import Progress, make
from expunge.experiments.make import blocks, choose_engine, counts, make_block, missing, product
from expunge.experiments.plan import Plan
from expunge.experiments.summary import keep, summary


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny experiment, carried out; not to be changed."""
    return carried_out(plan(), Store(tmp_path_factory.mktemp("done") / "store"))


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every product's file with its inode and time of change."""
    files = [f for f in root.rglob("*") if f.is_file() and f.parent.name != "locks"]
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def rows(made: Plan, store: Store) -> dict[str, Any]:
    return {row["name"]: row for row in summary(made, store)["rows"]}


def test_everything_is_made(done: Store) -> None:
    made = plan()
    for method in made.methods:
        assert done.has(made.score(method))
        for seed in made.experiment.seeds:
            assert done.has(made.evidence(made.unlearned(method, seed)))
    assert torn(done.root) == []
    assert list((done.root / "tmp").iterdir()) == []
    assert len(list(done.root.glob("original/*/*"))) == 1
    assert len(list(done.root.glob("oracle/*/*"))) == 4
    assert len(list(done.root.glob("unlearned/*/*"))) == 12


def test_the_second_run_makes_nothing(done: Store) -> None:
    before = snapshot(done.root)
    assert list(make(plan(), done)) == []
    assert snapshot(done.root) == before


def test_progress_counts_members_up_to_the_end(tmp_path: Path) -> None:
    store, small = Store(tmp_path / "s"), plan()
    timed(small, store)
    told = list(make(small, store))
    assert told[:2] == [Progress("originals", "originals", made, 1) for made in (0, 1)]
    ends = {piece.stage: (piece.made, piece.of) for piece in told}
    assert ends == {"originals": (1, 1), "models": (16, 16), "scores": (4, 4)}
    assert [p.made for p in told if p.stage == "models"] == list(range(0, 17, 2))


def test_a_change_of_rule_makes_scores_alone(done: Store) -> None:
    told = list(make(plan(rule="exact"), done))
    assert {piece.stage for piece in told} == {"scores"}


def test_a_store_is_shared_by_experiments(tmp_path: Path) -> None:
    store = carried_out(plan(methods={"finetune": METHODS["finetune"]}), Store(tmp_path / "s"))
    told = list(make(plan(), store))
    assert {p.title for p in told if p.stage == "models"} == {"ascent"}


def test_members_do_not_depend_on_how_many_are_asked_for(done: Store, tmp_path: Path) -> None:
    few = bits(carried_out(plan(members=2), Store(tmp_path / "s")).root)
    all_ = bits(done.root)
    models = {name for name in few if name.startswith(("oracle", "unlearned", "original"))}
    assert len(models) == 1 + 2 * 4
    assert {name: few[name] for name in models} == {name: all_[name] for name in models}


def test_equal_runs_give_equal_bits(done: Store, tmp_path: Path) -> None:
    again = carried_out(plan(), Store(tmp_path / "s"))
    assert bits(again.root) == bits(done.root)


def test_members_differ_from_one_another(done: Store) -> None:
    found = bits(done.root)
    made = plan()
    # Not by ascent, which has few orders of five examples to draw from.
    jobs = [made.unlearned(m, s) for m in made.methods[:3] for s in made.experiment.seeds]
    jobs += [made.oracle(seed) for seed in made.experiment.seeds]
    models = [found[f"{job.kind}/{job.key[:2]}/{job.key}/model.safetensors"] for job in jobs]
    # The method that does nothing gives the one original four times.
    assert (len(models), len(set(models))) == (16, 13)


def test_the_oracle_never_saw_the_forget_set(done: Store) -> None:
    made = plan()
    for seed in made.experiment.seeds:
        for job in (made.oracle(seed), made.unlearned(made.retrain, seed)):
            assert done.about(job)["receipt"]["examples"] == {"retain": 110}
    assert done.about(made.original(0))["receipt"]["examples"] == {"train": 120}


def test_evidence_is_what_the_stored_model_answers(done: Store) -> None:
    made = plan()
    job = made.unlearned(made.methods[2], 3)
    model = net()
    model.load_state_dict(done.tensors(job, "model"))
    sets = made.problem.sets
    inputs = torch.cat([sets[n].batch(torch.arange(len(sets[n]))).inputs for n in made.measured])
    with torch.no_grad():
        expected = model.eval()(inputs)
    found = done.tensors(made.evidence(job), "evidence")["logits"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


BROKEN = {
    "diverges": ("Train(-CE('forget'), epochs=40, lr=1e9, batch=4)", "infinite or not a number"),
    "changes nothing": ("Train(CE('retain'), epochs=0.1, lr=1e-30)", "left every weight as it was"),
    "asks for test": ("Train(CE('test'))", "for measuring only"),
    "asks for holdout": ("Train(KL('holdout'))", "for measuring only"),
    "asks for a set that is not there": ("Train(CE('forgot'))", "Did you mean forget"),
    "names no layer": ("Reset(Named('nothing here'))", "nothing here"),
    "has no convolution": ("Train(CE('retain'), where=Convs())", ""),
}


@pytest.mark.parametrize("engine", [LOOPED, STACKED], ids=["looped", "stacked"])
def test_a_method_that_fails_is_unscored_and_the_others_are_complete(
    tmp_path: Path, engine: Timing
) -> None:
    methods = {name: said for name, (said, _) in BROKEN.items()}
    made = plan(methods={**methods, "finetune": METHODS["finetune"]}, members=3)
    store = Store(tmp_path / "s")
    timed(made, store, engine)
    list(make(made, store))
    found = rows(made, store)
    for name, (_, reason) in BROKEN.items():
        assert found[name]["verdict"] == "unscored"
        assert reason in found[name]["unscored"]
        assert "scores" not in found[name]
    for name in ("retrain", "nothing", "finetune"):
        assert "scores" in found[name]
    assert list(make(made, store)) == []


def test_a_failed_method_is_not_due(tmp_path: Path) -> None:
    made = plan(methods={"bad": BROKEN["changes nothing"][0]}, members=2)
    store = Store(tmp_path / "s")
    before = counts(made, store)
    assert before["bad"] == (0, 2, None)
    carried_out(made, store)
    after = counts(made, store)
    assert after.pop("bad") == (0, 0, None)
    assert {name: pair[:2] for name, pair in after.items()} == {
        "originals": (1, 1),
        "oracles": (2, 2),
        "retrain": (2, 2),
    }
    assert all(seconds is not None and seconds > 0 for _, _, seconds in after.values())


class Brittle(nn.Module):
    """Answers with infinity once its weights were scaled up: finite weights, endless logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.inner(inputs.flatten(1))
        return answers * answers.abs().max().clamp(max=1e30)


def test_logits_that_are_infinite_leave_one_row_unscored(tmp_path: Path) -> None:
    task = problem(architecture=Brittle, recipe=None)
    task = replace(task, recipe=plan().problem.recipe)
    made = plan(task, {"bad": "Noise(1e25)", "finetune": METHODS["finetune"]}, members=2)
    found = rows(made, carried_out(made, Store(tmp_path / "s")))
    assert "infinite logits" in found["bad"]["unscored"]
    assert "scores" in found["finetune"]


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("Train(CE('train'), epochs=40, lr=1e12)", Diverged),
        ("Train(CE('train') + CE('test'))", OffLimits),
    ],
)
def test_a_recipe_that_fails_stops_everything_with_its_reason(
    tmp_path: Path, sentence: str, fault: type[Exception]
) -> None:
    from expunge.methods.sentences import as_method

    made = plan(problem(recipe=as_method(sentence, "recipe")), members=2)
    store = Store(tmp_path / "s")
    timed(made, store)
    with pytest.raises(fault):
        list(make(made, store))
    assert torn(store.root) == []
    assert not store.has(made.failure(made.retrain))


def test_a_ceiling_that_diverges_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = expunge.engine.stacking.unlearn_runs

    def lost(runs: Any, method: Any, engine: Any) -> Any:
        if method.name == "retrain":
            raise Diverged("the ceiling is lost")
        return really(runs, method, engine)

    monkeypatch.setattr("expunge.experiments.make.unlearn_runs", lost)
    made, store = plan(members=2), Store(tmp_path / "s")
    timed(made, store)
    with pytest.raises(Diverged, match="the ceiling is lost"):
        list(make(made, store))
    assert not store.has(made.failure(made.retrain))


def test_a_recipe_that_trains_nothing_is_refused() -> None:
    from expunge.methods.sentences import as_method

    with pytest.raises(BadSentence, match="expected a Train on the set 'train'"):
        plan(problem(recipe=as_method("Noise(0.1)", "recipe")))


def damaged(made: Plan) -> dict[str, tuple[Job, str]]:
    method = made.methods[2]
    model = made.unlearned(method, 1)
    return {
        "original": (made.original(0), "model"),
        "evidence of an oracle": (made.evidence(made.oracle(2)), "evidence"),
        "evidence of a method": (made.evidence(model), "evidence"),
        "evidence of the original": (made.evidence(made.original(0)), "evidence"),
    }


@pytest.mark.parametrize("what", list(damaged(plan())))
@pytest.mark.parametrize("how", ["truncated", "gone", "whole product gone", "no record"])
def test_what_was_damaged_between_runs_is_made_again_to_the_bit(
    done: Store, tmp_path: Path, what: str, how: str
) -> None:
    shutil.copytree(done.root, tmp_path / "s")
    made, store = plan(), Store(tmp_path / "s")
    job, name = damaged(made)[what]
    file = store.folder(job) / f"{name}.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-5])
    if how == "gone":
        file.unlink()
    if how == "no record":
        (file.parent / "job.json").unlink()
    if how == "whole product gone":
        (file.parent / "job.json").unlink()
        file.unlink()
        file.parent.rmdir()
    # Scores are worked out anew, and so read all evidence; a new method reads the original.
    shutil.rmtree(store.root / "score")
    later = plan(methods={**METHODS, "noise": "Noise(0.1)"})
    timed(later, store)
    list(make(later, store))
    assert all("scores" in row for row in rows(later, store).values())
    assert bits(store.root).items() >= bits(done.root).items()
    assert torn(store.root) == []


def test_a_disk_that_tears_everything_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.read_bytes
    made, store = plan(members=2), Store(tmp_path / "s")
    timed(made, store)

    def torn_read(self: Path) -> bytes:
        data = really(self)
        return data[:-1] if self.name == "evidence.safetensors" else data

    monkeypatch.setattr(Path, "read_bytes", torn_read)
    with pytest.raises(StoreError, match="corrupt again and again"):
        list(make(made, store))


def test_another_who_holds_a_block_is_not_doubled(tmp_path: Path) -> None:
    made, store = plan(members=2), Store(tmp_path / "s")
    first = blocks(made, 2)[0]
    name = product(made, first, first.seeds[0]).key
    with store.claim(f"{name}-{len(first.seeds)}"):
        assert make_block(made, store, first, Looped(), wait=False) == "busy"
        assert missing(made, store, first)
    assert make_block(made, store, first, Looped(), wait=False) == "made"
    assert not missing(made, store, first)


def test_of_two_timings_the_first_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = plan(), Store(tmp_path / "s")

    def other_was_first(*_: object) -> Timing:
        timed(made, store, Timing(7.0, 3.0))
        return LOOPED

    monkeypatch.setattr("expunge.experiments.make.fastest", other_was_first)
    assert choose_engine(made, store) == Timing(7.0, 3.0)
    assert choose_engine(made, store) == Timing(7.0, 3.0)


@pytest.mark.parametrize("size", [1, 2, 3, 64])
@pytest.mark.parametrize("protocol", ["challenge", "paired"])
def test_blocks_hold_every_member_once_and_inputs_come_first(size: int, protocol: str) -> None:
    made = plan(members=5, protocol=protocol)
    found = blocks(made, size)
    jobs = [product(made, block, seed) for block in found for seed in block.seeds]
    assert len({job.key for job in jobs}) == len(jobs)
    assert len(jobs) == (1 if protocol == "challenge" else 5) + 5 + 3 * 5
    assert max(len(block.seeds) for block in found) <= size
    seen: set[str] = set()
    for job in jobs:
        assert all(each.key in seen for each in job.inputs if each.kind != "problem")
        seen.add(job.key)


def test_a_summary_is_told_apart_from_one_that_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, store = plan(members=2), Store(tmp_path / "s")
    carried_out(made, store)
    first = keep(made, store)
    assert store.named("summary", "tiny") == keep(made, store)
    monkeypatch.setattr("expunge.experiments.classification.NOT_SHOWN", ("otherwise",))
    second = keep(made, store)
    assert store.named("summary", "tiny")["not_shown"][0] == "otherwise"
    assert first["not_shown"][0] != second["not_shown"][0]
    assert store.names("summary") == ["tiny"]


def test_a_score_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no score"):
        summary(plan(), Store(tmp_path / "s"))


def test_controls_without_evidence_stop_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Callable[..., Any]:
        raise BadEvidence("no ratio")

    monkeypatch.setattr("expunge.experiments.classification.score", never)
    made, store = plan(members=2), Store(tmp_path / "s")
    timed(made, store)
    with pytest.raises(BadEvidence, match="no ratio"):
        list(make(made, store))
    assert not store.has(made.failure(made.retrain))
