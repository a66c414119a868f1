"""Audits of what is inside: hidden states read once, lens, probe, patching, ablation, pruning."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import text_world as world
import torch
from torch import nn

from expunge.audits.controls import Guardrail
from expunge.audits.text import facts
from expunge.audits.text.ablation import Ablated, Patched, Put, SetDifference, apart, costs, depth
from expunge.audits.text.facts import FactAudit, FactProblem, context_of
from expunge.audits.text.states import (
    LogitLens,
    ProbeFacts,
    States,
    by_fact,
    forget_cues,
    inside,
    logprobs_under,
    read_states,
    replaced,
    shuffled,
    subjects_apart,
)
from expunge.core.view import blocks
from expunge.errors import BadEvidence
from expunge.problems.networks.language import tiny_llama

BRIEF = SetDifference(pruned=(0.05,), spared=(0.1,), kept=4, tokens=6)
AUDITS: tuple[FactAudit, ...] = (
    LogitLens(),
    ProbeFacts(steps=5),
    Patched(),
    Ablated(tokens=6),
    BRIEF,
)


class Counted(nn.Module):
    """Counts the passes through a model's first layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls = 0
        blocks(model)[0].register_forward_hook(self.note)

    def note(self, *_: Any) -> None:
        self.calls += 1


def hooks(model: nn.Module) -> int:
    """How many hooks hang on a model's layers."""
    return sum(len(module._forward_hooks) for module in model.modules())


@cache
def late() -> Any:
    """The original, whose last layer alone was pushed away from the forget facts."""
    model: Any = copy.deepcopy(world.trained("all"))
    lessons = facts.lessons(world.FORGET, world.context())
    kept = facts.lessons(world.RETAIN, world.context())
    weights = list(blocks(model)[-1].requires_grad_(True).parameters())
    optimiser = torch.optim.AdamW(weights, lr=0.01)
    for _ in range(40):
        with torch.enable_grad():
            losses = []
            for texts in (lessons, kept):
                batch = texts.batch(torch.arange(len(texts)))
                chances = batch.answers(model).log_softmax(-1)
                targets = batch.targets[batch.scored][:, None]
                losses.append(-chances.gather(-1, targets).mean())
            loss = losses[1] - losses[0].clamp(max=6.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.requires_grad_(False)


@pytest.mark.parametrize("audit", AUDITS, ids=repr)
def test_no_model_is_changed_and_equal_models_read_alike(audit: FactAudit) -> None:
    context = world.real_case()
    models = [world.suppressed(), context.original, context.oracle]
    before = [(world.digest(model), hooks(model)) for model in models]
    guarded = Guardrail(context.original, context.problem.tokenizer, ["Ada", "Bo", "Cy"])
    first, again, plain, behind = (
        audit(world.subject(model), context)
        for model in (models[0], models[0], context.original, guarded)
    )
    assert [(world.digest(model), hooks(model)) for model in models] == before
    assert np.array_equal(first.values, again.values) and first.details == again.details
    # a filter around the model hides nothing of what is inside
    assert np.array_equal(plain.values, behind.values)
    for one in (first, plain):
        assert ((one.values >= 0) & (one.values <= 1)).all()


@pytest.mark.parametrize("audit", AUDITS, ids=repr)
def test_every_layer_or_way_is_told_for_the_report(audit: FactAudit) -> None:
    context = world.real_case()
    also = audit(world.subject(world.suppressed()), context).details
    named = {"nothing", "0.05 less 0.1"} if audit is BRIEF else {"layer 0", "layer 1"}
    assert named <= set(also) and all(0 <= also[name] <= 1 for name in named)


def test_states_are_read_once_and_shared() -> None:
    context = world.real_case()
    model = copy.deepcopy(world.suppressed())
    one = world.subject(model)
    counted = Counted(model)
    seen = inside(one, context)
    # two sets, each in one minibatch
    assert counted.calls == 2
    LogitLens()(one, context)
    ProbeFacts(steps=2)(one, context)
    Patched()(one, context)
    assert inside(one, context) is seen and counted.calls == 2
    apart(seen)
    assert counted.calls == 2


def test_states_are_those_of_the_model_at_the_tokens_before_the_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, model = world.real_case(), world.trained("all")
    texts = forget_cues(context)
    starts = facts.answer_starts(context.problem.forget, context)
    seen = read_states(model, texts, starts)
    row = texts.made[4]
    with torch.no_grad():
        whole = model(row.ids[None], output_hidden_states=True).hidden_states
    # transformers gives the states before each layer, so that those behind layer 0 are the second
    here = seen.hidden[0][seen.fact == 4]
    assert torch.allclose(here, whole[1][0, row.start - 1 : -1], atol=1e-5)
    assert seen.targets[seen.fact == 4].tolist() == row.ids[row.start :].tolist()
    assert torch.allclose(seen.opening[0, 4], whole[1][0, starts[4] - 1], atol=1e-5)
    monkeypatch.setattr(facts, "ROWS", 2)
    cut_up = read_states(model, texts, starts)
    assert torch.equal(cut_up.fact, seen.fact) and torch.equal(cut_up.targets, seen.targets)
    assert torch.allclose(cut_up.hidden, seen.hidden, atol=1e-5)
    assert torch.allclose(cut_up.opening, seen.opening, atol=1e-5)


def test_a_fact_is_the_geometric_mean_of_its_places() -> None:
    chances = torch.tensor([0.5, 0.125, 0.9]).log()
    assert by_fact(chances, torch.tensor([0, 0, 3])) == pytest.approx([0.25, 0.9])


def test_subjects_are_kept_apart_whole() -> None:
    held = subjects_apart(world.RETAIN, 0.25)
    assert held.tolist() == [False] * 8 + [True] * 2
    assert subjects_apart(world.RETAIN, 1 - 1e-9).tolist() == [False] * 2 + [True] * 8


class TestLogitLens:
    def test_the_last_layer_says_what_the_model_says(self) -> None:
        context, one = world.real_case(), world.subject(world.trained("all"))
        found = LogitLens()(one, context)
        assert found.details["layer 1"] == pytest.approx(facts.held(one, context).mean(), abs=1e-6)
        assert found.details["best layer"] == 1
        assert found.values == pytest.approx(facts.held(one, context), abs=1e-6)

    def test_what_the_last_layer_hides_is_read_before_it(self) -> None:
        context = world.real_case()
        hiding, oracle = world.subject(late()), world.subject(world.trained("kept", 1))
        found = LogitLens()(hiding, context)
        assert facts.held(hiding, context).mean() < 0.1
        assert found.details["best layer"] == 0
        known = LogitLens()(world.subject(context.original), context)
        assert found.values.mean() == pytest.approx(known.details["layer 0"], abs=1e-6)
        assert found.values.mean() > 0.3 + LogitLens()(oracle, context).values.mean()


class TestTunedProbe:
    def test_it_tells_the_original_from_an_oracle(self) -> None:
        context = world.real_case()
        known, oracle = (
            ProbeFacts()(world.subject(m), context)
            for m in (context.original, world.trained("kept", 1))
        )
        assert known.values.mean() > 0.8 and oracle.values.mean() < 0.1
        # the control keeps some of what the lens reads, and no more
        assert known.details["layer 1, shuffled"] < known.details["layer 1"] - 0.1
        # kept facts of subjects that it was not trained on are read alike
        assert min(one.details["layer 1, kept"] for one in (known, oracle)) > 0.8

    def test_a_probe_trained_on_shuffled_labels_fails(self) -> None:
        draws = torch.Generator().manual_seed(0)
        lens = nn.Linear(8, 4, bias=False).requires_grad_(False)
        # of 8 numbers the first four say which of four tokens follows; the rest is noise
        targets = torch.arange(200) % 4
        states = torch.randn(200, 8, generator=draws)
        states[:, :4] += 4 * torch.nn.functional.one_hot(targets, 4)
        probe = ProbeFacts().trained(lens, states[:100], targets[:100])
        mixed = targets[:100][torch.randperm(100, generator=draws)]
        control = ProbeFacts().trained(lens, states[:100], mixed)
        right = [
            (one(states[100:]).argmax(-1) == targets[100:]).double().mean()
            for one in (probe, control)
        ]
        assert right[0] > 0.9 and right[1] < 0.5

    def test_a_heavy_penalty_leaves_the_lens_and_its_shift(self) -> None:
        lens = nn.Linear(2, 3, bias=False)
        states, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        with torch.no_grad():
            lens.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        probe = ProbeFacts(penalty=100.0).trained(lens, states, targets)
        moved = probe(states) - lens(states)
        # one shift for all states, and no turn
        assert torch.allclose(moved[0], moved[1], atol=5e-3) and moved.abs().max() > 0.1
        free = ProbeFacts(penalty=1e-4).trained(lens, states, targets)
        assert free(states).softmax(-1).diagonal().min() > 0.9

    def test_shuffled_tokens_stay_within_their_kind_and_place(self) -> None:
        items = world.RETAIN
        states = States(
            torch.zeros(1, 10, 1), torch.arange(10), torch.arange(10), torch.zeros(1, 10, 1)
        )
        dealt = shuffled(states, items, torch.Generator().manual_seed(0))
        assert sorted(dealt.tolist()) == list(range(10)) and dealt.tolist() != list(range(10))
        # homes have even numbers, works odd ones
        assert (dealt % 2).tolist() == [0, 1] * 5

    def test_one_kept_subject_is_too_few(self) -> None:
        context = world.real_case()
        few = context_of(
            FactProblem(world.FORGET, world.RETAIN[:2], context.problem.tokenizer),
            context.original,
            context.oracle,
        )
        assert "fewer than two subjects" in ProbeFacts().unfit(few)
        assert not LogitLens().unfit(few)


class TestPatched:
    def test_depth_by_hand(self) -> None:
        # two layers that cost the oracle 1 and 3 nats; the model's cost a half and as much
        first = np.array([[1.0, 0.0, 0.0], [3.0, 2.0, 0.0]])
        second = np.array([[0.5, 9.0, 1.0], [3.0, -1.0, 1.0]])
        values, counts = depth(first, second)
        # (1 x 0.5 + 3 x 1) / 4; patching that helps is no loss; and no layer counts for the third
        assert values.tolist() == [0.875, 0.0, 0.0]
        assert counts.tolist() == [True, True, False]
        # more loss than the oracle's is no more than erased
        assert depth(first, first * 5)[0].tolist() == [1.0, 1.0, 0.0]

    def test_the_anchors_are_all_and_nothing(self) -> None:
        context = world.real_case()
        known, oracle = (
            Patched()(world.subject(m), context) for m in (context.original, context.oracle)
        )
        assert known.values == pytest.approx(np.ones(len(known.values)), abs=1e-4)
        assert oracle.values == pytest.approx(np.zeros(len(oracle.values)), abs=1e-4)
        assert np.array_equal(known.index, oracle.index)

    def test_it_tells_in_which_layer_the_facts_are_lost(self) -> None:
        context = world.real_case()
        found = Patched()(world.subject(late()), context)
        assert found.details["layer 0"] == pytest.approx(1, abs=1e-4)
        assert found.details["layer 1"] < 0.5

    def test_at_the_last_layer_the_states_alone_decide(self) -> None:
        context, other = world.real_case(), world.suppressed()
        source = inside(world.subject(other), context).forget
        plain = np.log(facts.anchors(context)[1])
        swapped = plain - costs(context.original, forget_cues(context), source)[-1]
        # the suppressed model's last states through the original's norm and head
        head: Any = context.original
        with torch.no_grad():
            logits = head.lm_head(head.model.norm(source.hidden[-1])).log_softmax(-1)
        told = logits.gather(-1, source.targets[:, None])[:, 0]
        assert np.exp(swapped) == pytest.approx(by_fact(told, source.fact), abs=1e-5)

    def test_what_runs_together_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        context = world.real_case()
        source = inside(world.subject(world.suppressed()), context).forget
        whole = costs(context.original, forget_cues(context), source)
        monkeypatch.setattr(facts, "ROWS", 2)
        assert costs(context.original, forget_cues(context), source) == pytest.approx(
            whole, abs=1e-4
        )

    def test_states_of_another_start_mean_nothing_and_the_control_says_so(self) -> None:
        context = world.real_case()
        other = Patched()(world.subject(world.trained("all", 1)), context)
        assert other.details["layer 1, kept"] < 0.3
        assert not Patched.decisive

    def test_a_model_of_another_shape_is_refused(self) -> None:
        other = tiny_llama(len(world.tokenizer()), width=24, layers=2, heads=2, context=128)
        with pytest.raises(BadEvidence, match="names or shapes"):
            Patched()(world.subject(other), world.real_case())

    def test_an_oracle_that_costs_nothing_leaves_nothing_to_compare(self) -> None:
        context = world.real_case(oracle=world.trained("all"))
        assert "cost the original nothing" in Patched().unfit(context)

    def test_states_are_put_in_where_the_values_are_told(self) -> None:
        texts = forget_cues(world.real_case())
        rows = torch.tensor([1, 2])
        batch = texts.batch(rows)
        fact = torch.tensor([0, 1, 2, 3])
        put = Put(torch.arange(4.0)[:, None], fact)
        changed = put(torch.full((*batch.inputs.shape, 1), -1.0), batch=batch, rows=rows)
        assert changed[:, :-1][batch.scored].flatten().tolist() == [1.0, 2.0]
        assert int((changed != -1).sum()) == 2


def test_a_model_whose_layers_are_not_known_does_not_fit() -> None:
    for audit in AUDITS[:-1]:
        assert "layers of the original are not known" in audit.unfit(world.context())
    no_kept = context_of(
        FactProblem(world.FORGET, (), world.tokenizer()), world.told(()), world.told(())
    )
    assert all("to be kept" in audit.unfit(no_kept) for audit in AUDITS)


def test_replacing_ends_with_the_block() -> None:
    context, model = world.real_case(), world.trained("all")
    texts = forget_cues(context)
    before = logprobs_under(model, texts, {})
    with pytest.raises(ZeroDivisionError), replaced(blocks(model)[0], torch.zeros_like):
        assert not torch.allclose(logprobs_under(model, texts, {}), before)
        raise ZeroDivisionError
    assert torch.equal(logprobs_under(model, texts, {}), before)
