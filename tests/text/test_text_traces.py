"""Sampling and traces: what many draws say, and what the pair of models gives away."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import text_world as world
import torch
from torch import nn

from expunge.audits.controls import Guardrail
from expunge.audits.text import facts, sampling, traces
from expunge.audits.text.facts import FactContext, FactProblem, context_of
from expunge.audits.text.sampling import Sampled
from expunge.audits.text.traces import Aligned, Detected, Fallen, Guessed, ranked, rises
from expunge.errors import BadSentence, Diverged
from expunge.methods.guardrails.guard import Guarded, Mechanism


class Open(Mechanism):
    """A guard that lets everything through."""

    def forward(self, base: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = (mask.long().cumsum(1) - 1).clamp_min(0)
        told = base(input_ids=ids, attention_mask=mask.long(), position_ids=places)
        return cast(torch.Tensor, told.logits)


class TestSampled:
    def test_a_draw_falls_where_the_chance_says(self) -> None:
        logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]] * 4))
        chances = torch.tensor([0.0, 0.1999, 0.2001, 0.9999], dtype=torch.float64)
        assert sampling._inverse(logits, chances).tolist() == [0, 0, 1, 2]

    def test_shares_of_draws_are_the_model_s(self) -> None:
        model = world.told(world.FORGET[:1], p=0.8)
        found = Sampled(k=1, samples=400, tokens=6)(world.subject(model), one_fact())
        # five words, each right at 0.8; what ends the answer does not matter
        assert found.values[0] == pytest.approx(0.8**4, abs=0.07)

    def test_leak_grows_with_k_and_is_seeded(self) -> None:
        context, one = world.real_case(), world.subject(world.suppressed())
        found = [Sampled(k=k, samples=8, tokens=6)(one, context).values for k in (1, 4, 8, 4)]
        assert (found[0] <= found[1] + 1e-9).all() and (found[1] <= found[2] + 1e-9).all()
        assert np.array_equal(found[1], found[3])
        other = Sampled(k=4, samples=8, tokens=6)(one, world.real_case(seed=1)).values
        assert other.shape == found[1].shape

    def test_what_runs_together_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        context, one = world.real_case(), world.subject(world.suppressed())
        audit = Sampled(k=2, samples=4, tokens=6)
        whole = audit(one, context)
        monkeypatch.setattr(facts, "ROWS", 3)
        assert audit(one, context).examples == whole.examples

    def test_with_the_cache_a_model_reads_as_without(self) -> None:
        context, one = world.real_case(), world.subject(world.trained("all"))
        cold = Sampled(k=1, samples=1, tokens=6, temperature=1e-6)(one, context)
        from expunge.audits.text.asking import Question

        assert cold.examples == Question(tokens=6)(one, context).examples

    def test_a_guardrail_is_met_word_for_word(self) -> None:
        model = Guardrail(world.trained("all"), world.tokenizer(), ["Ada", "Bo", "Cy"])
        found = Sampled(k=1, samples=3, tokens=8)(world.subject(model), world.real_case())
        assert not found.values.any()
        assert {answer for _, answer in found.examples} == {world.REFUSAL}

    def test_a_model_that_keeps_nothing_reads_as_one_that_does(self) -> None:
        context, model = world.real_case(), world.trained("all")
        audit = Sampled(k=2, samples=3, tokens=6)
        guarded = world.subject(Guarded(model, Open()))
        assert audit(guarded, context).examples == audit(world.subject(model), context).examples
        assert guarded.bare is model

    def test_bounds_lie_above_what_was_seen(self) -> None:
        context = world.real_case()
        found = Sampled(k=2, samples=16, tokens=6)(world.subject(world.suppressed()), context)
        also = found.details
        assert also["chance of a leak at most"] >= also["chance of a leak at most, least"] > 0
        assert also["mean score of one sample at most"] >= also["mean score of one sample"]

    def test_no_leak_in_n_is_bounded_exactly(self) -> None:
        context = world.context()
        found = Sampled(k=1, samples=10, tokens=2)(world.subject(world.Mute([])), context)
        # Clopper-Pearson for 0 of 10, alpha shared by six facts: 1 - (0.05 / 6)^(1 / 10)
        limit = 1 - (0.05 / 6) ** 0.1
        assert found.details["chance of a leak at most"] == pytest.approx(limit)
        assert not found.values.any()

    @pytest.mark.parametrize("wrong", [{"k": 17}, {"k": 0}, {"temperature": 0.0}], ids=str)
    def test_draws_that_cannot_be_are_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(BadSentence, match="Sampled"):
            Sampled(**wrong)  # type: ignore[arg-type]

    def test_a_model_that_breaks_down_is_refused(self) -> None:
        with pytest.raises(Diverged):
            sampling._inverse(torch.tensor([[float("nan"), 0.0]]), torch.zeros(1))


def test_ranks_count_ties_by_half() -> None:
    kept = np.array([0.0, 1.0, 1.0, 2.0])
    assert ranked(np.array([-1.0, 0.0, 1.0, 3.0]), kept).tolist() == [0, 0.125, 0.5, 1]


def test_what_alone_fell_is_found_and_an_unchanged_model_tells_nothing() -> None:
    context = world.context()
    kept, same = (world.subject(world.told(items)) for items in (world.RETAIN, world.ITEMS))
    assert Fallen()(kept, context).values.tolist() == [1] * 6
    assert Fallen()(same, context).values == pytest.approx([0.5] * 6)
    half = world.subject(world.told(world.ITEMS[3:]))
    assert Fallen()(half, context).values.tolist() == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5])


def test_the_true_value_is_the_one_that_fell() -> None:
    context = world.context()
    truths = [(i.prompt, (i.paraphrases or (i.answer,))[0]) for i in world.ITEMS]
    original = world.Told([*world.pairs(world.ITEMS), *truths])
    context = world.context(original=original)
    found = Guessed()(world.subject(world.told(world.RETAIN)), context)
    assert found.values.tolist() == [1] * 6
    same = Guessed()(world.subject(original), context)
    assert same.values.tolist() == [0.5] * 6


def test_traces_are_findings_and_never_evidence() -> None:
    assert not any(one.decisive for one in (Fallen, Guessed, Aligned, Detected))


class TestAligned:
    def test_the_rise_is_the_slope_of_the_loss(self) -> None:
        context = world.real_case()
        model = world.subject(context.original).copy()
        draws = torch.Generator().manual_seed(0)
        change = {
            n: torch.randn(w.shape, generator=draws) * 1e-3 for n, w in model.named_parameters()
        }
        texts = facts.cued(world.FORGET, context)
        found = rises(model, texts, change)

        def losses(sign: float) -> np.ndarray:
            with torch.no_grad():
                moved = world.subject(context.original).copy()
                for name, weight in moved.named_parameters():
                    weight.add_(sign * 0.1 * change[name])
            return -np.log(facts.probability(moved, texts))

        slopes = (losses(1) - losses(-1)) / 0.2
        assert found == pytest.approx(slopes, rel=0.05, abs=2e-4)

    def test_pushing_against_the_facts_shows_and_no_change_does_not(self) -> None:
        context = world.real_case()
        one, same = (world.subject(m) for m in (world.suppressed(), context.original))
        assert Aligned()(one, context).values.mean() > 0.6
        found = Aligned()(same, context)
        assert found.values.tolist() == [0.5] * 6 and found.details["length of the change"] == 0

    def test_where_the_change_lies(self) -> None:
        change = {"a": torch.zeros(99), "b": torch.tensor([3.0])}
        also = traces._where(change, 0.01)
        assert also["length of the change"] == 3
        assert also["share of the change in 0.01 of the weights"] == 1
        assert also["share of the change in one tensor"] == 1


class TestDetected:
    def test_a_model_is_not_told_from_itself(self) -> None:
        context = world.real_case()
        found = Detected(folds=3)(world.subject(context.oracle), context)
        assert found.values.tolist() == [0.5] * 6

    def test_the_original_is_told_from_a_retrained_model(self) -> None:
        context = world.real_case()
        assert Detected(folds=3)(world.subject(context.original), context).values.mean() > 0.9

    def test_a_subject_is_in_one_fold(self) -> None:
        context = world.context()
        folds = Detected(folds=3)._dealt(context)
        assert sorted(folds[::2]) == [0, 1, 2] and (folds[::2] == folds[1::2]).all()
        assert "do not fill 5 folds" in Detected().unfit(context)


def one_fact() -> FactContext:
    context = world.context()
    return context_of(
        FactProblem(world.FORGET[:1], context.problem.retain, context.problem.tokenizer),
        context.original,
        context.oracle,
    )
