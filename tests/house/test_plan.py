"""Keys: what is changed is made again, with all that depends on it, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from house_tools import DIGITS, METHODS, net, pictures, plan, problem
from torch import nn
from torch.utils.data import Dataset

from expunge.core.batch import Indexed, Tensors
from expunge.core.problem import Problem
from expunge.core.store import Job, Store
from expunge.engine.training import Train
from expunge.errors import BadData
from expunge.experiments.experiment import load, read
from expunge.experiments.plan import Plan, digest, problem_spec
from expunge.experiments.planning import architecture, load_pool, plan_for
from expunge.experiments.progress import run_with_progress
from expunge.methods.sentences import as_method

Keys = dict[str, set[str]]


def keys(made: Plan) -> Keys:
    """The keys of all jobs of a plan, by what they are."""
    seeds, named = made.experiment.seeds, made.methods
    found = {
        "problem": {made.root.key},
        "original": {made.original(s).key for s in seeds},
        "oracle": {made.oracle(s).key for s in seeds},
        "original evidence": {made.evidence(made.original(s)).key for s in seeds},
        "oracle evidence": {made.evidence(made.oracle(s)).key for s in seeds},
    }
    for method in named:
        models = [made.unlearned(method, s) for s in seeds]
        found[method.name] = {job.key for job in models}
        found[f"{method.name} evidence"] = {made.evidence(job).key for job in models}
        found[f"{method.name} score"] = {made.score(method).key}
        found[f"{method.name} failure"] = {made.failure(method).key}
    return found


def changed(before: Plan, after: Plan) -> set[str]:
    """What shares no key with before."""
    one, two = keys(before), keys(after)
    assert one.keys() == two.keys()
    return {name for name in one if not one[name] & two[name]}


BASE = plan()
EVERYTHING = set(keys(BASE))
SCORES = {name for name in EVERYTHING if name.endswith(" score")}
# The untouched original is no unlearned model: its failure alone follows the original.
OF_FINETUNE = {name for name in EVERYTHING if name.startswith("finetune")}


def relabelled() -> Problem:
    data = pictures(60, 1)
    targets = data.targets.clone()
    targets[59] = (targets[59] + 1) % 3
    return Problem.split(
        replace(data, targets=targets),
        torch.arange(5),
        name="tiny",
        val=pictures(9, 3),
        test=pictures(30, 2),
        architecture=net,
        recipe=BASE.problem.recipe,
    )


def wider() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.Linear(9, 3))


def other_rows() -> Problem:
    rest = {name: BASE.problem.sets[name] for name in ("val", "test")}
    made = BASE.problem
    return Problem.split(
        pictures(60, 1),
        torch.arange(1, 6),
        name="tiny",
        architecture=made.architecture,
        recipe=made.recipe,
        **rest,
    )


def recipe(sentence: str) -> Plan:
    return plan(problem(recipe=as_method(sentence, "recipe")))


CHANGES: dict[str, tuple[Callable[[], Plan], set[str]]] = {
    "nothing": (plan, set()),
    "the rule": (lambda: plan(rule="exact"), SCORES),
    "one method": (
        lambda: plan(methods={**METHODS, "finetune": "Train(CE('retain'), lr=0.06)"}),
        OF_FINETUNE,
    ),
    "a method's name": (lambda: plan(methods=dict(METHODS)), set()),
    "one target": (lambda: plan(relabelled()), EVERYTHING),
    "the forget set": (lambda: plan(other_rows()), EVERYTHING),
    "the recipe": (lambda: recipe("Train(CE('train'), epochs=3)"), EVERYTHING),
    "the network": (lambda: plan(problem(architecture=wider)), EVERYTHING),
    "the test set": (lambda: plan(problem(test=False)), EVERYTHING),
    "the seed": (lambda: plan(seed=1), EVERYTHING - {"problem"}),
}


@pytest.mark.parametrize(("other", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change_makes_new_keys_of_what_depends_on_it(
    other: Callable[[], Plan], expected: set[str]
) -> None:
    assert changed(BASE, other()) == expected


def test_a_changed_default_makes_new_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sentences leave defaults out: the key must not.
    terse = {"finetune": "Train(CE('retain'))", "ascent": METHODS["ascent"]}
    before = plan(methods=terse)
    said = before.methods[2].sentence
    real = Train.__init__.__defaults__
    assert real is not None
    monkeypatch.setattr(Train.__init__, "__defaults__", (real[0] + 1, *real[1:]))
    after = plan(methods=terse)
    assert after.methods[2].steps != before.methods[2].steps
    assert said == "Train(CE('retain'))"
    assert changed(before, after) == OF_FINETUNE


def test_a_raised_version_of_a_step_makes_new_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"finetune": "Noise(0.1)", "ascent": METHODS["ascent"]}
    before = keys(plan(methods=methods))
    monkeypatch.setattr(type(as_method("Noise(0.1)").steps[0]), "version", 99, raising=False)
    after = keys(plan(methods=methods))
    assert {name for name in before if not before[name] & after[name]} == OF_FINETUNE


def test_more_members_keep_those_that_are_there() -> None:
    few, many = keys(plan(members=4)), keys(plan(members=6))
    for name in ("oracle", "finetune", "finetune evidence"):
        assert few[name] < many[name]
    assert not few["finetune score"] & many["finetune score"]


def test_no_two_products_share_a_key() -> None:
    found = keys(BASE)
    # The method that does nothing gives the original itself.
    assert found.pop("nothing") == found["original"]
    assert found.pop("nothing evidence") == found["original evidence"]
    every = [key for group in found.values() for key in group]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(("protocol", "originals"), [("challenge", 1), ("paired", 4)])
def test_a_protocol_says_which_original_a_member_has(protocol: str, originals: int) -> None:
    made = plan(protocol=protocol)
    method, seeds = made.methods[2], made.experiment.seeds
    assert len({made.original(s).key for s in seeds}) == originals
    for seed in seeds:
        inputs = made.unlearned(method, seed).inputs
        assert inputs == (made.root, made.original(seed))
        assert made.original(seed).seed == (0 if protocol == "challenge" else seed)
    assert len({made.unlearned(method, s).key for s in seeds}) == 4
    assert len({made.oracle(s).key for s in seeds}) == 4


def test_the_protocols_share_oracles_and_the_first_original() -> None:
    one, two = keys(plan()), keys(plan(protocol="paired"))
    assert one["oracle"] == two["oracle"]
    assert one["original"] < two["original"]


def test_the_oracle_and_the_ceiling_are_made_alike_and_apart() -> None:
    retrain = BASE.retrain
    oracle, ceiling = BASE.oracle(0), BASE.unlearned(retrain, 0)
    assert oracle.spec == ceiling.spec
    assert oracle.key != ceiling.key
    assert "set='train'" not in oracle.spec
    assert "set='train'" in BASE.original(0).spec


def test_an_order_of_steps_is_part_of_the_key() -> None:
    one, two = ("Noise(0.1), Train(CE('retain'))", "Train(CE('retain')), Noise(0.1)")
    made = [plan(methods={"m": said}) for said in (one, two)]
    assert len({each.unlearned(each.methods[2], 0).key for each in made}) == 2


def test_a_score_is_made_from_the_evidence_of_every_member() -> None:
    seeds, method = BASE.experiment.seeds, BASE.methods[2]
    subjects = {BASE.evidence(BASE.unlearned(method, seed)) for seed in seeds}
    oracles = {BASE.evidence(BASE.oracle(seed)) for seed in seeds}
    assert len(subjects) == len(oracles) == 4
    assert set(BASE.score(method).inputs) == subjects | oracles


def test_every_seed_counts() -> None:
    assert Job("oracle", "x", 0).key != Job("oracle", "x", 1).key


class Photographs(Dataset[Any]):
    def __init__(self, data: Tensors) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.data.inputs[row], int(self.data.targets[row])


def test_a_digest_sees_every_picture_in_memory_and_the_targets_of_lazy_ones() -> None:
    data = pictures(60, 1)
    touched = data.inputs.clone()
    touched[59, 0, 3, 3] += 1e-6
    assert digest(data) == digest(copy.deepcopy(data))
    assert digest(replace(data, inputs=touched)) != digest(data)
    assert digest(replace(data, mean=(0.5,), std=(1.0,))) != digest(data)
    lazy = Indexed(Photographs(data))
    targets = data.targets.clone()
    targets[59] = 0
    assert targets[59] != data.targets[59]
    assert digest(Indexed(Photographs(replace(data, targets=targets)))) != digest(lazy)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.uint8])
def test_pictures_of_every_kind_have_a_digest(kind: torch.dtype) -> None:
    data = pictures(9, 1)
    found = digest(replace(data, inputs=data.inputs.to(kind)))
    assert found != digest(data)
    assert found == digest(replace(data, inputs=data.inputs.to(kind)))


def test_an_experiment_file_becomes_a_plan() -> None:
    made = plan_for(read(DIGITS, "x"))
    sizes = {name: len(data) for name, data in made.problem.sets.items()}
    assert sizes == {"train": 1297, "forget": 13, "retain": 1284, "val": 200, "test": 300}
    assert made.measured == ("retain", "forget", "test")
    assert plan_for(read(DIGITS, "x")).spec == made.spec


@pytest.mark.parametrize(
    "text",
    ["forget_seed = 1", 'architecture = "convnet"', 'forget = "WholeClass(3)"'],
)
def test_what_decides_a_problem_is_in_its_spec(text: str) -> None:
    whole = DIGITS.replace('forget = "RandomShare(0.01)"', "") if "forget =" in text else DIGITS
    assert plan_for(read(f"{text}\n{whole}", "x")).spec != plan_for(read(DIGITS, "x")).spec


def test_unknown_names_are_told_with_the_nearest() -> None:
    base = read(DIGITS, "x")
    with pytest.raises(BadData, match="Did you mean digits"):
        load_pool(replace(base, problem="digit"))
    with pytest.raises(BadData, match="Did you mean convnet"):
        architecture("convnt", load_pool(base))


def test_data_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPUNGE_DATA", raising=False)
    with pytest.raises(BadData, match="--data FOLDER"):
        plan_for(load("cifar10"))
    for name in ("cifar10", "image-folder"):
        with pytest.raises(BadData, match="missing"):
            plan_for(replace(load(name), data=str(tmp_path / "missing")))
    monkeypatch.setenv("EXPUNGE_DATA", str(tmp_path / "missing"))
    with pytest.raises(BadData, match="missing"):
        plan_for(load("cifar10"))


class Halved(nn.Module):
    """The same layers as `Whole`, used in another way."""

    factor = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.factor * self.layer(inputs.flatten(1))


def test_modules_with_the_same_layers_and_another_forward_have_other_keys() -> None:
    data = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    whole = type("Halved", (Halved,), {"factor": 1.0, "__module__": Halved.__module__})
    specs = [
        problem_spec(Problem.split(data, [0], architecture=architecture))
        for architecture in (Halved, whole)
    ]
    assert repr(Halved()) == repr(whole())
    assert specs[0] != specs[1]


@pytest.mark.parametrize("sentence", ["Canaries(6)", "PatternCanaries(6)"])
def test_canaries_are_planted_in_what_the_original_is_trained_on(sentence: str) -> None:
    plain, made = (plan_for(replace(load("digits"), forget=f)) for f in ("Given((0,))", sentence))
    forget, before = made.problem.sets["forget"], plain.problem.sets["train"]
    assert len(forget) == 6
    known = before.batch(forget.index)  # type: ignore[attr-defined]
    seen = forget.batch(torch.arange(6))
    changed = (known.targets != seen.targets) | (known.inputs != seen.inputs).flatten(1).any(1)
    assert changed.all()


def test_what_cannot_be_run_leaves_no_name_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(BadData, match="class 99"):
        run_with_progress(replace(read(DIGITS, "x"), forget="WholeClass(99)"), store, 1)
    assert store.names("experiment") == []
