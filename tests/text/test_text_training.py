"""Training language models: pieces, precision, checkpoints, adapters, and what is held."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import tiny_text
import torch
from torch import nn

import tiny
from expunge.core.problem import Problem
from expunge.core.schedules import SGD, AdamW, Slowed
from expunge.core.term import Term
from expunge.engine.loop import SingleModel, backward, train_group
from expunge.engine.memory import apart
from expunge.engine.run import Run, adapter_alone, compares, sharing
from expunge.engine.training import Negate, Repeat, Train
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.losses.answers import CE, KL, L1
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.other_answers import DPO, RandomAnswers
from expunge.methods.losses.representation import Match, Steer
from expunge.methods.losses.teachers import TopKL
from expunge.methods.selectors.places import Last, Named
from expunge.methods.sentences import as_method
from expunge.methods.steps.adapter import Adapter, LoRA
from expunge.methods.steps.dampening import Dampen
from expunge.methods.steps.edits import Blend, Noise
from expunge.methods.steps.influence import Newton
from expunge.methods.steps.watched import Until
from expunge.problems.networks.language import tiny_llama
from expunge.problems.text.encode import of_plain
from expunge.unlearn import unlearn

BOTH = NPO("forget") + 0.5 * KL("retain")


def train(objective: Term = BOTH, **rest: Any) -> Train:
    rest = {"epochs": 2, "lr": 0.01, "batch": 4, "optimiser": AdamW(), **rest}
    return Train(objective, **rest)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_sets_are_worked_out_one_after_another() -> None:
    objective = -CE("forget") + 2.0 * KL("retain") + 0.1 * NPO("forget") + L1()
    task = tiny_text.problem()
    read = {name: task.data(name).batch(torch.arange(3)) for name in ("forget", "retain")}
    parts = apart(objective, read)
    assert [repr(part) for part in parts] == [
        "2.0 * KL('retain')", "-CE('forget') + 0.1 * NPO('forget')", "L1()",
    ]  # fmt: skip
    joined = apart(CE("forget") + CE("retain") + RandomAnswers("forget", "retain"), read)
    assert [set(part.sets) for part in joined] == [{"forget", "retain"}]
    images = tiny.problem()
    seen = {name: images.data(name).batch(torch.arange(3)) for name in ("forget", "retain")}
    assert apart(CE("forget") + CE("retain"), seen) == [CE("forget") + CE("retain")]


def test_the_first_set_s_gradient_is_there_before_the_second_is_read() -> None:
    model, step = tiny_text.taught(), train(-CE("forget") + CE("retain"))
    run = Run(copy.deepcopy(model), sharing(model), tiny_text.problem(), 0)
    group = SingleModel(run)
    group.begin(step)
    read = {name: run.data(name).batch(torch.arange(3)) for name in ("forget", "retain")}
    known: list[bool] = []
    weight = next(iter(group.weights.values()))
    run.model.register_forward_pre_hook(lambda *_: known.append(weight.grad is not None))
    losses = backward(step.objective, step, group, read, 0.0)
    assert known == [False, True]
    mine = {name: w.grad.clone() for name, w in group.weights.items() if w.grad is not None}
    whole = group.losses(step.objective, read, 0.0)
    assert losses.item() == pytest.approx(whole.item(), rel=1e-6)
    slopes = torch.autograd.grad(whole.sum(), [group.weights[name] for name in mine])
    for own, other in zip(mine.values(), slopes, strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_a_part_beneath_all_that_moves_is_no_mistake() -> None:
    upper = Named(r"layers\.1\..*")
    both = -CE("forget") + Match("retain", layer=0)
    before, task = tiny_text.taught(), tiny_text.problem()
    after = unlearn(before, train(both, where=upper, over="forget"), task).model
    alone = unlearn(before, train(-CE("forget"), where=upper), task).model
    assert not same(before, after)
    for a, b in zip(alone.parameters(), after.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def ragged() -> Problem:
    """Texts of 2 to 9 tokens, so that pieces hold unequal numbers of targets."""
    told = [" ".join(tiny_text.NAMES[: n + 1]) for n in range(8)]
    forget, retain = (
        of_plain(told[part], tiny_text.tokenizer()) for part in (slice(5), slice(5, 8))
    )
    return Problem.of(forget=forget, retain=retain, name="ragged")


@pytest.mark.parametrize("objective", [-CE("forget") + KL("retain"), BOTH], ids=repr)
def test_pieces_give_the_gradient_of_the_whole_minibatch(objective: Term) -> None:
    task, done = ragged(), []
    for count in (1, 2, 4):
        step = train(objective, batch=5, optimiser=SGD(), accumulate=count, lr=0.1)
        done.append(unlearn(tiny_text.taught(), step, task))
    first = done[0]
    for other in done[1:]:
        for (_, _, a), (_, _, b) in zip(first.receipt.curve, other.receipt.curve, strict=True):
            assert a == pytest.approx(b, rel=1e-4)
        for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-5)
        assert other.receipt.examples == first.receipt.examples


def test_a_mean_of_means_would_not_pass() -> None:
    """The ragged texts can tell: the mean over pieces is another number."""
    data = ragged().data("forget")
    batch = data.batch(torch.arange(5))
    model = tiny_text.taught()
    with torch.no_grad():
        whole = nn.functional.cross_entropy(
            batch.logits(model).flatten(0, 1), batch.targets.flatten()
        )
        halves = [batch.rows(slice(0, 2)), batch.rows(slice(2, 5))]
        means = [
            nn.functional.cross_entropy(h.logits(model).flatten(0, 1), h.targets.flatten())
            for h in halves
        ]
    assert abs(float(whole) - float(sum(means)) / 2) > 0.01


def test_bf16_trains_weights_that_stay_in_single_precision() -> None:
    done = unlearn(tiny_text.taught(), train(precision="bf16"), tiny_text.problem())
    plain = unlearn(tiny_text.taught(), train(), tiny_text.problem())
    assert {w.dtype for w in done.model.parameters()} == {torch.float32}
    assert not same(done.model, plain.model)
    ours, theirs = done.receipt.curve[0][2], plain.receipt.curve[0][2]
    assert ours == pytest.approx(theirs, rel=0.02)
    with pytest.raises(BadSentence, match="bf16"):
        train(precision="half")


def test_checkpoints_change_nothing_but_memory() -> None:
    task = tiny_text.problem()
    done, plain = (
        unlearn(tiny_text.taught(), train(checkpointing=on), task) for on in (True, False)
    )
    for a, b in zip(done.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in done.model.modules())


@pytest.mark.parametrize("lora", [True, False])
def test_checkpoints_work_out_activations_twice(lora: bool) -> None:
    begun = []
    for checkpointing in (False, True):
        run = Run(
            copy.deepcopy(tiny_text.taught()), sharing(tiny_text.taught()), tiny_text.problem(), 0
        )
        calls: list[int] = []
        layer = run.model.get_submodule("model.layers.0.mlp")
        layer.register_forward_pre_hook(lambda m, a, calls=calls: calls.append(1))
        step = train(CE("forget"), checkpointing=checkpointing)
        (LoRA((step,)) if lora else step)(run)
        begun.append(len(calls))
    assert begun[1] == 2 * begun[0] > 0


def test_a_model_that_knows_no_checkpoints_says_so() -> None:
    import tiny

    with pytest.raises(Unsupported, match="checkpointing"):
        unlearn(tiny.made(), Train(CE("retain"), checkpointing=True), tiny.problem())


@pytest.mark.parametrize("checkpointing", [True, False])
def test_every_adapter_gets_a_gradient(checkpointing: bool) -> None:
    """peft behind frozen embeddings trains nothing with checkpoints of the older kind."""
    run = Run(sharing(tiny_text.taught()), sharing(tiny_text.taught()), tiny_text.problem(), 0)
    lora = LoRA((train(),))
    lora._adapted(run)
    group = Adapter(run)
    frozen = [n for n, w in run.model.named_parameters() if n not in group.weights]
    assert len(group.weights) == 2 * 2 * 7
    before = {n: w.detach().clone() for n, w in group.weights.items()}
    seen: dict[str, float] = {}
    for name, weight in group.weights.items():
        weight.register_hook(lambda g, n=name: seen.__setitem__(n, float(g.abs().max())))
    for _ in train_group(train(checkpointing=checkpointing), group):
        pass
    assert seen.keys() == group.weights.keys()
    assert all(size > 0 for size in seen.values())
    assert all(not torch.equal(before[n], w) for n, w in group.weights.items())
    assert all(run.model.get_parameter(n).grad is None for n in frozen)


def test_an_adapter_holds_no_second_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they are merged, the weights are the caller's own tensors, in the original too."""
    model, told = tiny_text.taught(), []
    merged = LoRA.__call__

    def watched(self: LoRA, run: Run) -> None:
        theirs = {w.data_ptr() for w in model.parameters()}
        told.append({w.data_ptr() for w in run.original.parameters()} == theirs)
        told.append({w.data_ptr() for w in run.model.parameters()} == theirs)
        merged(self, run)

    monkeypatch.setattr(LoRA, "__call__", watched)
    before = copy.deepcopy(model)
    done = unlearn(model, LoRA((train(),)), tiny_text.problem())
    assert told == [True, True]
    assert same(model, before)
    assert not same(done.model, before)


def test_a_merged_adapter_is_a_plain_model() -> None:
    model = tiny_text.taught()
    done = unlearn(model, LoRA((train(),), rank=2, alpha=4), tiny_text.problem())
    assert [n for n, _ in done.model.named_parameters()] == [n for n, _ in model.named_parameters()]
    # of low rank, and nothing but the linear layers of the blocks
    for (name, a), b in zip(done.model.named_parameters(), model.parameters(), strict=True):
        if "proj" in name:
            assert torch.linalg.matrix_rank((a - b).float(), atol=1e-5) == 2
        else:
            assert torch.equal(a, b)
    assert done.receipt.curve[0][0] == "/0/0"
    assert done.receipt.examples == {"forget": 9, "retain": 10}


def test_where_says_which_layers_are_adapted() -> None:
    model = tiny_text.taught()
    step = LoRA((train(),), where=Named(r"layers\.1.*q_proj"))
    done = unlearn(model, step, tiny_text.problem())
    pairs = zip(done.model.named_parameters(), model.parameters(), strict=True)
    moved = [n for (n, a), b in pairs if not torch.equal(a, b)]
    assert moved == ["model.layers.1.self_attn.q_proj.weight"]
    with pytest.raises(Unsupported, match="linear"):
        unlearn(model, replace(step, where=Named("norm")), tiny_text.problem())


def test_lora_s_steps_train_and_nothing_else() -> None:
    for steps in (
        (),
        (Noise(0.1),),
        (train(where=Last(1)),),
        (train(slowed=Slowed(Last(1))),),
        (Repeat((Noise(0.1),), 2),),
    ):
        with pytest.raises(BadSentence, match="LoRA"):
            LoRA(steps)
    with pytest.raises(BadSentence, match="rank"):
        LoRA((train(),), rank=0)


STEPS = (
    (train(),),
    (train(DPO("forget") + Match("retain", layer=1)),),
    (train(Steer("forget", layer=0)),),
    (train(NPO("forget") + TopKL("retain", 4), accumulate=2),),
    (LoRA((train(),)),),
    (LoRA((Repeat((train(), train(CE("retain"))), 2),)),),
    (Repeat((LoRA((train(),)), train(CE("retain"))), 2),),
    (train(NPO("forget")), Blend(0.5)),
    (Noise(0.1), train(NPO("forget"))),
    (Negate(train(CE("forget"))),),
    (Dampen(alpha=0.5),),
    (Newton(CE("forget"), damping=10.0, iterations=2, scale=0.1),),
    (Until((train(-CE("forget")),), times=2),),
)


@pytest.mark.parametrize("steps", STEPS, ids=lambda s: repr(s)[:60])
def test_in_place_gives_the_same_model_and_receipt(steps: tuple[Any, ...]) -> None:
    task, mine = tiny_text.problem(), copy.deepcopy(tiny_text.taught())
    kept = copy.deepcopy(mine)
    apart = unlearn(mine, steps, task, seed=3)
    assert same(mine, kept)
    there = unlearn(mine, steps, task, seed=3, in_place=True)
    assert there.model is mine
    assert same(there.model, apart.model)
    for name in ("moved", "touched", "largest", "curve", "examples", "drawn", "method"):
        assert getattr(there.receipt, name) == getattr(apart.receipt, name), name
    assert parse(apart.receipt.method) in (steps, steps[0])


def test_a_copy_is_kept_only_to_compare_with() -> None:
    assert not compares(as_method("npo"))
    assert not compares(as_method("simnpo"))
    assert not compares(as_method("idk_dpo"))
    assert not compares(as_method((train(NPO("forget") + TopKL("retain")),)))
    assert compares(as_method("npo_kl"))
    assert compares(as_method("rmu"))
    assert adapter_alone(as_method((LoRA((train(),)),)))
    assert not adapter_alone(as_method((LoRA((train(),)), Noise(0.1))))
    assert not adapter_alone(as_method(()))


def test_in_place_npo_looks_at_the_original_before_it_trains() -> None:
    """Were the likelihoods worked out later, from the model itself, the loss would not move."""
    task = tiny_text.problem()
    done = unlearn(
        copy.deepcopy(tiny_text.taught()), train(NPO("forget"), epochs=6), task, in_place=True
    )
    losses = [loss for _, _, loss in done.receipt.curve]
    assert losses[-1] < 0.5 * losses[0]


def test_tied_weights_are_moved_back_once() -> None:
    """A blend through the state would move a shared matrix twice: to 0.75 of the way, not half."""
    model = tiny_text.taught()
    far = unlearn(model, Noise(0.1), tiny_text.problem(), seed=1)
    half = unlearn(model, (Noise(0.1), Blend(0.5)), tiny_text.problem(), seed=1)
    name = "model.embed_tokens.weight"
    a, b, c = (m.get_parameter(name) for m in (model, far.model, half.model))
    assert torch.allclose(c, (a + b) / 2, atol=1e-6)


def test_a_model_that_cannot_read_the_texts_is_refused_before_anything_is_done() -> None:
    import tiny

    task, step = tiny_text.problem(), train(NPO("forget"))
    with pytest.raises(Unsupported, match="no language model"):
        unlearn(tiny.made(), step, task)
    for net, words in (
        (tiny_llama(9, width=16, heads=2), "vocabulary ends at 8"),
        (tiny_llama(99, width=16, heads=2, context=8), "12 tokens.* reads 8"),
    ):
        for in_place in (True, False):
            with pytest.raises(BadData, match=words):
                unlearn(net.eval(), step, task, in_place=in_place)
