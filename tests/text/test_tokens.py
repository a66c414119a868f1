"""Minibatches of tokens: the shift, padding on either side, joining, and what is never scored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tiny_text
import torch
from torch import Tensor

import tiny
from expunge.core.batch import (
    UNSCORED,
    Joined,
    Subset,
    Tensors,
    Tokens,
    all_targets,
    holds_tokens,
    scored_in,
)
from expunge.core.method import Method
from expunge.core.texts import Texts, TokenRow
from expunge.engine.run import Run, sharing
from expunge.engine.stacking import stackable
from expunge.engine.training import Train
from expunge.errors import BadData, Unsupported
from expunge.methods.losses.answers import CE


def texts(side: str = "right", instead: bool = False) -> Texts:
    rows = [
        TokenRow(torch.tensor([5, 6, 7, 8]), 2, "p", "a"),
        TokenRow(torch.tensor([5, 9]), 1, "q", "b"),
    ]
    return Texts(tuple(rows), pad=9, side=side, instead=tuple(rows) if instead else ())


def test_each_answer_is_scored_by_the_next_token() -> None:
    batch = texts().batch(torch.arange(2))
    assert batch.inputs.tolist() == [[5, 6, 7, 8], [5, 9, 9, 9]]
    assert batch.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.targets.tolist() == [[-100, 7, 8], [9, -100, -100]]
    assert batch.scored.tolist() == [[False, True, True], [True, False, False]]


def test_padding_on_the_left_scores_the_same_targets() -> None:
    batch = texts("left").batch(torch.tensor([1, 0]))
    assert batch.inputs.tolist() == [[9, 9, 5, 9], [5, 6, 7, 8]]
    assert batch.targets.tolist() == [[-100, -100, 9], [-100, 7, 8]]
    assert batch.index.tolist() == [1, 0]


def test_the_first_token_of_a_plain_text_is_never_scored_by_padding() -> None:
    plain = (
        TokenRow(torch.tensor([3, 4]), 0, "", "x"),
        TokenRow(torch.tensor([3, 4, 5]), 0, "", "y"),
    )
    for side in ("right", "left"):
        told = Texts(plain, side=side).batch(torch.arange(2)).targets
        assert sorted(told[told != UNSCORED].tolist()) == [4, 4, 5]


def test_logits_are_shifted_once_and_positions_begin_at_the_text() -> None:
    seen: dict[str, Any] = {}

    def model(**named: Any) -> Any:
        seen.update(named)
        return SimpleNamespace(logits=named["input_ids"][..., None].bfloat16())

    batch = texts("left").batch(torch.tensor([1, 0]))
    told = batch.logits(model)
    assert told.dtype == torch.float32
    assert told[..., 0].tolist() == [[9, 9, 5], [5, 6, 7]]
    assert seen["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert seen["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    texts().batch(torch.arange(2)).logits(model)


def test_the_right_side_needs_no_positions() -> None:
    names: list[str] = []

    def model(**named: Any) -> Any:
        names.extend(named)
        return SimpleNamespace(logits=torch.zeros(2, 4, 3, dtype=torch.float64))

    assert texts().batch(torch.arange(2)).logits(model).dtype == torch.float64
    assert "position_ids" not in names


def test_some_rows_are_as_wide_as_they_need() -> None:
    for side in ("right", "left"):
        batch = texts(side, instead=True).batch(torch.arange(2)).rows(slice(1, 2))
        assert batch.inputs.tolist() == [[5, 9]]
        assert batch.instead is not None
        assert batch.instead.inputs.tolist() == [[5, 9]]
        assert batch.index.tolist() == [1]


def test_joined_sets_are_padded_to_one_width() -> None:
    short, long = texts(instead=True), tiny_text.pairs(tiny_text.FORGET)
    both = Joined(Subset(short, torch.tensor([1])), Subset(long, torch.tensor([2, 0])))
    told = both.batch(torch.tensor([2, 0, 1]))
    assert isinstance(told, Tokens)
    assert told.index.tolist() == [2, 0, 1]
    for place, source in enumerate((long.batch(torch.tensor([0])), short.batch(torch.tensor([1])))):
        mine = told.rows(slice(place, place + 1))
        assert torch.equal(mine.inputs, source.inputs)
        assert torch.equal(mine.targets, source.targets)
        assert mine.instead is not None
        assert source.instead is not None
        assert torch.equal(mine.instead.targets, source.instead.targets)


def test_images_and_texts_do_not_join() -> None:
    mixed = Joined(tiny.pictures(), texts())
    with pytest.raises(BadData, match="images"):
        mixed.batch(torch.tensor([0, 61]))


def test_texts_have_no_classes() -> None:
    for data in (texts(), Subset(texts(), torch.tensor([0])), Joined(texts(), texts())):
        assert holds_tokens(data)
        with pytest.raises(Unsupported, match="none"):
            all_targets(data)
    assert not holds_tokens(tiny.pictures())
    assert scored_in(texts(), torch.arange(2)) == 3
    assert scored_in(tiny.pictures(), torch.arange(2)) == 2
    assert isinstance(tiny.pictures(), Tensors)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "no text"),
        ((TokenRow(torch.tensor([1, 2]), 2, "", ""),), "empty"),
        ((TokenRow(torch.tensor([1]), 0, "", ""),), "empty"),
    ],
    ids=["none", "no answer", "one token"],
)
def test_texts_without_a_target_are_refused(rows: tuple[TokenRow, ...], words: str) -> None:
    with pytest.raises(BadData, match=words):
        Texts(rows)


def test_other_answers_must_match() -> None:
    made = texts().made
    with pytest.raises(BadData, match="other answers"):
        Texts(made, instead=made[:1])
    with pytest.raises(BadData, match="on the right or on the left"):
        Texts(made, side="middle")


def test_language_models_are_not_stacked_and_it_says_why() -> None:
    method = Method("m", (Train(CE("forget")),))
    model = tiny_text.fresh()
    runs = [Run(sharing(model), sharing(model), tiny_text.problem(), seed) for seed in (0, 1)]
    assert "ragged" in stackable(runs, method)


def test_no_label_indexes_the_last_token_of_the_vocabulary() -> None:
    """-100 as an index would be the vocabulary's 100th from the end."""
    batch = texts().batch(torch.arange(2))
    logits = torch.zeros(2, 3, 100, requires_grad=True)

    def model(**named: Any) -> Any:
        whole: Tensor = torch.cat([logits, logits[:, :1]], 1)
        return SimpleNamespace(logits=whole)

    from expunge.core.view import View

    view = View(model, {"s": batch}, {}, {}, 0.0, 0)
    CE("s")(view).backward()
    assert logits.grad is not None
    assert bool((logits.grad[~batch.scored] == 0).all())
    assert bool((logits.grad[batch.scored] != 0).all())
