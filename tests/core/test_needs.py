"""What a method declares is what it does: needs and costs against runs, refusals, and doubts.

Where a word must say something of itself, these tests compare what it says with what happens: a
new word that says nothing, or something else, fails with the sentence that names what is missing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

import tiny
from contracts import ON_IMAGES, TERMS
from expunge.core.batch import Data, Images, all_targets
from expunge.core.method import Method, Step, own_sets, words_of
from expunge.core.problem import Problem
from expunge.core.vocabulary import word
from expunge.engine.check import check_fit, doubts, needs, unfit
from expunge.engine.run import Run
from expunge.engine.training import Repeat, Reset, Train
from expunge.errors import BadData, OffLimits, Unsupported
from expunge.methods.cost import forecast
from expunge.methods.losses.answers import CE, KL, L1, Uniform
from expunge.methods.losses.classes import Relabel
from expunge.methods.published import PUBLISHED
from expunge.methods.selectors.judged import Salient, Similar, Smallest
from expunge.methods.sentences import as_method
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Blend, Noise, Zero
from expunge.methods.steps.influence import Newton
from expunge.unlearn import unlearn


def named(*steps: Step) -> Method:
    return Method("x", steps)


@dataclass(frozen=True)
class Ran:
    """What one run gave: weights and statistics, examples read, teachers asked."""

    state: Tensor
    examples: dict[str, int]
    asked: frozenset[str]


@cache
def ran(name: str, seed: int) -> Ran:
    asked, real = set(), Run.teacher

    def teacher(run: Run, who: str) -> torch.nn.Module:
        asked.add(who)
        return real(run, who)

    method = ON_IMAGES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "teacher", teacher)
        done = unlearn(tiny.made(), method, tiny.fitting(method), seed=seed)
    state = torch.cat([w.flatten() for w in done.model.state_dict().values()])
    return Ran(state, done.receipt.examples, frozenset(asked))


def with_published_slow() -> list[object]:
    """Every name of the table; single words are quick, and published methods consist of them."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in PUBLISHED)) for n in ON_IMAGES]


def compare(name: str, task: Problem, read: dict[str, int]) -> None:
    cost = forecast(ON_IMAGES[name], task)
    if cost.at_most:
        assert all(count <= cost.examples.get(key, 0) for key, count in read.items()), name
        return
    assert cost.examples == read, (
        f"{name} was to read {cost.examples}, and its receipt says {read}. A word that reads "
        "sets by itself declares how much in `reads(problem)`; if its course may end earlier, "
        "it says `may_stop_early = True`."
    )


@pytest.mark.parametrize("name", ON_IMAGES)
def test_the_forecast_is_the_receipt(name: str) -> None:
    compare(name, tiny.fitting(ON_IMAGES[name]), ran(name, 0).examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_IMAGES)
def test_the_forecast_is_the_receipt_with_one_example_to_forget(name: str) -> None:
    task = tiny.fitting(ON_IMAGES[name], 1)
    compare(name, task, unlearn(tiny.made(), ON_IMAGES[name], task).receipt.examples)


def test_a_forecast_by_hand() -> None:
    task = tiny.problem()  # 12 to forget, 48 to retain; the recipe is one pass over train
    kl = forecast(named(Train(CE("retain") + KL("retain"), epochs=1.5, batch=10)), task)
    # minibatches 10 10 10 10 8: 7.5 of them are rounded to 8, and begin the second pass
    assert (kl.examples, kl.answered, kl.made) == ({"retain": 78}, 78, 0)
    assert kl.epochs == pytest.approx((78 + 26) / 48)
    assert kl.share == pytest.approx((78 + 26) / 48)
    merged = Train(CE("retain"), epochs=1.5, batch=47)  # the one left over joins the others
    assert forecast(named(merged), task).examples == {"retain": 96}
    two = Train(Relabel("forget") + CE("retain"), batch=10)
    assert forecast(named(Repeat((two,), 3)), task).examples == {"forget": 102, "retain": 144}
    once = named(Noise(0.1, Salient()), Train(CE("forget"), where=Salient()), Zero(~Salient()))
    assert forecast(once, task).examples == {"forget": 24}  # judged once, read once
    anew = named(Noise(0.1, Similar()), Noise(0.1, Similar()))
    assert forecast(anew, task).examples == {"retain": 24, "forget": 24}
    newton = forecast(named(Newton(CE("retain"), iterations=4)), task)
    assert (newton.examples, newton.at_most) == ({"retain": 240}, True)
    oracle = forecast(named(Train(KL("retain", teacher="oracle"))), task)
    assert oracle.examples == {"retain": 96}  # 48 of them to train the oracle
    assert forecast(named(), task).epochs == 0.0
    bare = Problem.of(forget=tiny.pictures(4), retain=tiny.unseen())
    assert forecast(named(two), bare).share is None


@dataclass(frozen=True)
class Swapped:
    """A set whose labels were exchanged among its own classes; all else is the same."""

    base: Data

    def __len__(self) -> int:
        return len(self.base)

    def batch(self, positions: Tensor) -> Images:
        there = all_targets(self.base).unique()
        batch = self.base.batch(positions)
        place = torch.searchsorted(there, batch.targets)
        return dataclasses.replace(batch, targets=there[(place + 1) % len(there)])


def swapped(task: Problem, name: str) -> Problem:
    return dataclasses.replace(task, sets={**task.sets, name: Swapped(task.sets[name])})


def weights(method: Method, task: Problem, seed: int = 0, original: int = 0) -> Tensor:
    model = unlearn(tiny.made(seed=original), method, task, seed=seed).model
    return torch.cat([w.flatten() for w in model.state_dict().values()])


@pytest.mark.parametrize("name", with_published_slow())
def test_labels_that_are_not_needed_change_nothing(name: str) -> None:
    method, said = ON_IMAGES[name], needs(ON_IMAGES[name])
    for unread in set(said.sets) - set(said.labels):
        other = weights(method, swapped(tiny.fitting(method), unread))
        assert torch.equal(ran(name, 0).state, other), f"{name} reads the labels of {unread!r}"


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_labels_that_are_needed_change_what_comes_out(term: object) -> None:
    method = Method("x", (Train(term, batch=8, lr=0.01),))  # type: ignore[arg-type]
    task = tiny.problem()
    for name in needs(method).labels:
        same = torch.equal(weights(method, task), weights(method, swapped(task, name)))
        # the oracle's own training and datamodels go by the problem's recipe, on "train"
        if same and not {"oracle"} & set(needs(method).teachers):
            said = f"{term!r} gives the same for other labels of {name!r}"
            pytest.fail(f"{said}; declare `reads_labels` without it, () for none.")


@pytest.mark.parametrize("name", with_published_slow())
def test_what_draws_says_so(name: str) -> None:
    same = torch.equal(ran(name, 0).state, ran(name, 1).state)
    assert same == needs(ON_IMAGES[name]).deterministic, (
        f"{name}: two seeds give {'one model' if same else 'two models'}. A step or term that "
        "draws says `draws = True`, a part `redraws`; one that does not says nothing."
    )


@pytest.mark.parametrize("name", ON_IMAGES)
def test_the_teachers_that_are_asked_are_declared(name: str) -> None:
    said, asked = frozenset(needs(ON_IMAGES[name]).teachers), ran(name, 0).asked
    if asked != said:
        asked |= ran(name, 1).asked  # of several ways each member goes one
    assert asked == said, f"{name} asks {set(asked)}: declare `teachers`"


EXACT = [
    "Reset(), Train(CE('retain'))",
    "Reset(), Noise(0.01), Train(CE('retain') + Linear(0.001) * L1(), where=Last(1))",
    "Reset(), Repeat((Zero(Random(0.1)), Train(KL('retain', teacher='random'))), times=2)",
    "Repeat((Reset(), Train(CE('retain'))), times=2)",
    "Reset(), Newton(CE('retain'), damping=1.0, iterations=3, scale=0.1)",
]
NOT_EXACT = {
    "no reset": "Train(CE('retain'))",
    "a part is reset": "Reset(Last(1)), Train(CE('retain'))",
    "the reset comes late": "Noise(0.1), Reset(), Train(CE('retain'))",
    "nothing is trained": "Reset()",
    "the forget set is read": "Reset(), Train(CE('retain') - CE('forget'))",
    "the whole training set is read": "Reset(), Train(CE('train'))",
    "a teacher saw the forget set": "Reset(), Train(KL('retain'))",
    "it goes back to the original": "Reset(), Train(CE('retain')), Blend(0.5)",
    "a part is judged on the original": "Reset(), Zero(Smallest(0.5)), Train(CE('retain'))",
    "its turned part, too": "Reset(), Train(CE('retain'), where=~Smallest(0.5) & Last(1))",
    "nothing at all": "()",
}


@pytest.mark.parametrize("sentence", EXACT)
def test_retraining_is_exact_and_does_not_know_the_original(sentence: str) -> None:
    method = as_method(sentence)
    assert needs(method).guarantee == "exact"
    task = tiny.problem(recipe=None)
    assert torch.equal(weights(method, task, original=0), weights(method, task, original=1))


@pytest.mark.parametrize("sentence", NOT_EXACT.values(), ids=NOT_EXACT)
def test_what_is_not_retraining_is_not_exact(sentence: str) -> None:
    assert needs(as_method(sentence)).guarantee == "none"


@pytest.mark.parametrize("name", ON_IMAGES)
def test_no_word_looks_back_in_secret(name: str) -> None:
    fresh = named(Reset(), *ON_IMAGES[name].steps, Train(CE("retain"), batch=24))
    if needs(fresh).guarantee == "none":
        return
    task = tiny.problem()
    same = torch.equal(weights(fresh, task, original=0), weights(fresh, task, original=1))
    assert same, f"{name} depends on the original: leave `sees_original` True"


def test_the_needs_of_some_methods() -> None:
    winner = needs(PUBLISHED["winner"])
    assert winner.sets == ("forget", "retain")
    assert winner.labels == ("retain",)
    assert (winner.teachers, winner.class_wise, winner.deterministic) == ((), False, False)
    kl = needs(PUBLISHED["kl_retain"])
    assert (kl.labels, kl.teachers) == (("forget",), ("original",))
    assert str(kl) == "retain (no labels), forget, original teacher"
    assert needs(PUBLISHED["nothing"]).deterministic
    assert str(needs(PUBLISHED["nothing"])) == "nothing"
    assert needs(named(Dampen(), Blend(0.5), Zero(Smallest(0.1)))).deterministic
    assert needs(named(Train(KL("forget", teacher="oracle")))).sets == ("forget", "retain")
    assert needs(named(Train(Uniform("forget") + L1()))).labels == ()


def test_a_word_names_its_own_sets_alone() -> None:
    assert own_sets(Similar("retain", "val")) == ("retain", "val")
    assert own_sets(Train(CE("forget") + CE("retain"), over="forget")) == ()
    assert own_sets(Salient("forget") | Salient("val")) == ()
    assert [type(w).__name__ for w in words_of(Zero(~Salient()))] == ["Zero", "Outside", "Salient"]


@word
class Picky(Step):
    """A step that works where there are many to forget, and better where there are more."""

    def __call__(self, run: Run) -> None:
        raise AssertionError("nothing is done before the check")

    def unfit(self, problem: Problem) -> str:
        return "" if len(problem.data("forget")) > 1 else "one example is too few."

    def doubt(self, problem: Problem) -> str:
        return "few examples are hard to forget" if len(problem.data("forget")) < 20 else ""


@word
class Classes(Step):
    """A step for whole classes that says no more than that."""

    class_wise = True

    def __call__(self, run: Run) -> None:
        with torch.no_grad():
            next(run.model.parameters()).mul_(0.5)


def test_an_unfit_method_is_refused_before_anything_is_done() -> None:
    hidden = named(Repeat((Picky(),), 2))
    with pytest.raises(Unsupported) as fault:
        unlearn(tiny.made(), hidden, tiny.problem(forget=1))
    assert str(fault.value) == "x cannot work on tiny: one example is too few."
    assert doubts(hidden, tiny.problem(forget=12)) == ("few examples are hard to forget.",)
    assert doubts(hidden, tiny.problem(forget=30)) == ()


def test_a_word_for_whole_classes_is_refused_by_the_frame() -> None:
    assert needs(named(Classes())).class_wise
    with pytest.raises(Unsupported, match=r"forgets whole classes.*WholeClass"):
        check_fit(named(Classes()), tiny.problem())
    assert unfit(named(Classes()), tiny.classwise()) == ()
    assert tiny.classwise().class_wise
    assert not tiny.problem().class_wise


@pytest.mark.parametrize("name", PUBLISHED)
def test_class_wise_methods_are_those_that_a_random_set_refuses(name: str) -> None:
    method = PUBLISHED[name]
    random, whole = (unfit(method, task) for task in (tiny.problem(30), tiny.classwise()))
    assert needs(method).class_wise == bool(random and not whole), (
        f"{name}: on a random set {random or 'fits'}, on whole classes {whole or 'fits'}. A word "
        "that works on whole classes alone says `class_wise = True`."
    )


def test_a_missing_set_is_refused_with_what_to_do() -> None:
    bare = dataclasses.replace(tiny.problem(), sets=dict(tiny.problem().sets))
    bare.sets.pop("val")  # type: ignore[attr-defined]
    method = named(Train(CE("retain") + KL("val")))
    with pytest.raises(BadData, match=r"x reads the set 'val', and tiny has none.*val=\("):
        unlearn(tiny.made(), method, bare)
    with pytest.raises(OffLimits):
        check_fit(named(Train(CE("test"))), tiny.problem())
    with pytest.raises(BadData, match="Did you mean retain"):
        check_fit(named(Train(CE("retian"))), tiny.problem())
