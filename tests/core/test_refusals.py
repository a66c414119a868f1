"""What would go wrong in silence is refused in a sentence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from expunge.core.problem import Problem
from expunge.core.selector import Selector
from expunge.engine import check
from expunge.engine.run import Judged
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.losses.answers import CE
from expunge.unlearn import unlearn


def test_noise_on_convolutions_of_a_model_without_any() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    inputs, targets = torch.randn(12, 1, 2, 2), torch.arange(12) % 2
    problem = Problem.split((inputs, targets), [0, 1])
    with pytest.raises(Unsupported, match="no convolution"):
        unlearn(model, "Noise(0.1, Convs()), Train(CE('retain'))", problem)


def test_a_class_beyond_the_outputs() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    problem = Problem.split((torch.randn(12, 1, 2, 2), torch.arange(12) % 3), [0, 1])
    with pytest.raises(BadData, match="beyond the model's outputs"):
        unlearn(model, "Train(CE('retain'))", problem)


def test_more_turns_than_memory_holds() -> None:
    with pytest.raises(BadSentence, match="times between 1 and"):
        parse("Repeat((Noise(0.1),), times=1000000000)")


def test_the_tiny_net_has_convolutions() -> None:
    assert any(isinstance(module, nn.Conv2d) for module in tiny.net().modules())


def test_every_member_counts_what_a_shared_part_reads() -> None:
    memo: dict[Selector, Judged] = {}
    counts = []
    for seed in (0, 1):
        run = tiny.run(seed=seed)
        run.memo = memo  # as members of one original share it
        run.mask(parse("Salient('forget', share=0.5)"))
        run.mask(parse("Salient('forget', share=0.5)"))
        counts.append(run.counts.examples)
    assert counts[0] == counts[1] != {}


def pictures(count: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(count)
    return torch.randn(count, *shape, generator=draw), torch.arange(count) % 2


def test_a_picture_in_both_sets_is_refused_and_one_with_another_class_is_not() -> None:
    forget, retain = pictures(3, 1, 2, 2), pictures(9, 1, 2, 2)
    both = torch.cat([retain[0], forget[0][:2]])
    with pytest.raises(BadData, match=r"2 examples are in the forget set and in the retain set"):
        Problem.of(forget=forget, retain=(both, torch.cat([retain[1], forget[1][:2]])))
    corrected = torch.cat([retain[1], 1 - forget[1][:2]])
    assert len(Problem.of(forget=forget, retain=(both, corrected)).sets["train"]) == 14


def test_a_shape_that_the_model_does_not_take() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    problem = Problem.of(forget=pictures(3, 1, 2, 2), retain=pictures(9, 1, 3, 3))
    with pytest.raises(BadData, match=r"the set retain.*\(1, 3, 3\)"):
        unlearn(model, "Train(CE('retain'))", problem)
    unlearn(model, "Train(CE('forget'))", problem)  # retain is not read
    assert model.training
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("source", ["digits", (1, 2, 3), None, 3])
def test_what_is_no_data(source: object) -> None:
    with pytest.raises(BadData, match="expected a pair of tensors"):
        Problem.of(forget=source, retain=pictures(9, 1, 2, 2))


def test_a_name_in_the_place_of_a_model_or_a_problem() -> None:
    problem = Problem.of(forget=pictures(3, 1, 2, 2), retain=pictures(9, 1, 2, 2))
    with pytest.raises(BadData, match="Got a str as the model; expected a torch"):
        unlearn("model", "finetune", problem)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="Got a str as the problem; expected a Problem"):
        unlearn(nn.Linear(2, 2), "finetune", "digits")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_sentence(text: str) -> None:
    with pytest.raises(BadSentence, match="The sentence is empty"):
        parse(text)


def test_a_long_list_of_parameters_is_cut() -> None:
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(4, 4) for _ in range(9)))
    problem = Problem.of(forget=pictures(3, 1, 2, 2), retain=pictures(9, 1, 2, 2))
    with pytest.raises(BadSentence, match=r"it has 1\.weight, .*6\.bias and 6 more\.$"):
        unlearn(model, "Noise(0.1, Named('down_proj'))", problem)


def test_every_question_is_asked_once_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def counted(name: str, question: Any) -> Any:
        def ask(*given: Any) -> Any:
            asked[name] += 1
            return question(*given)

        return ask

    due = ("check", "check_fit", "check_sets", "unfit", "refuse_broken", "check_texts")
    for name in due:
        monkeypatch.setattr(check, name, counted(name, getattr(check, name)))
    monkeypatch.setattr("expunge.engine.unlearning.check", check.check)

    def first_loss(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CE, "__call__", first_loss)
    with pytest.raises(KeyboardInterrupt):
        unlearn(tiny.made(), "Train(CE('retain') - CE('forget'))", tiny.problem())
    assert asked == dict.fromkeys(due, 1)


def test_a_model_and_a_method_that_changed_places() -> None:
    with pytest.raises(BadData, match="Got a str as the model"):
        unlearn("scrub", tiny.made(), tiny.problem())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "near"),
    [("tets", "Did you mean test?"), ("holdouts", "holdout?"), ("recipee", "recipe?"), ("q", "")],
)
def test_a_problem_says_what_it_takes(name: str, near: str) -> None:
    made = pictures(3, 1, 2, 2), pictures(9, 1, 3, 3)
    with pytest.raises(BadData) as fault:
        Problem.of(forget=made[0], retain=made[1], **{name: made[1]})
    assert str(fault.value).startswith(f"A problem takes no '{name}'; it takes forget, retain, val")
    assert str(fault.value).endswith(near or "classes.")
    with pytest.raises(BadData, match="takes no"):
        Problem.split(made[1], [0], **{name: made[1]})
