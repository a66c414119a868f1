"""Evidence of texts: one forward pass an example, arrays that know no batch, greedy answers."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import tiny_text
import torch

import tiny
from expunge.core.texts import Texts
from expunge.engine.inference import end_tokens, generate, likelihoods
from expunge.errors import BadData, BadEvidence, Diverged
from expunge.problems.text.encode import of_pairs, of_plain

TEXTS = [
    "Ada lives in Rome.",
    "Bo",
    "Where does Cy live? Cy lives in Bern. Di lives in Lima.",
    "Ed lives",
]


def plain(side: str = "right") -> Texts:
    return dataclasses.replace(of_plain(TEXTS, tiny_text.tokenizer()), side=side)


def test_each_example_goes_through_each_model_once() -> None:
    seen: list[int] = []
    models = [copy.deepcopy(tiny_text.taught()) for _ in range(2)]
    for model in models:
        model.register_forward_pre_hook(
            lambda m, a, k: seen.append(len(k["input_ids"])), with_kwargs=True
        )
    told = likelihoods(models, plain(), batch=3)
    assert seen == [3, 3, 1, 1]
    for number in range(2):
        answers = told.answers(number)
        assert answers.logprobs is not None
        assert answers.means is not None
    assert sum(seen) == 2 * len(TEXTS)


def test_the_numbers_are_those_of_each_text_alone() -> None:
    model = tiny_text.taught()
    answers = likelihoods([model], plain(), batch=4).answers(0)
    assert answers.index.tolist() == [0, 1, 2, 3]
    for place, text in enumerate(TEXTS):
        ids = torch.tensor([tiny_text.tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            logp = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1).numpy()
        true = ids[0, 1:].numpy()
        means = (np.exp(logp) * logp).sum(-1)
        spread = np.sqrt((np.exp(logp) * (logp - means[:, None]) ** 2).sum(-1))
        wanted = {
            "logprobs": logp[range(len(true)), true],
            "hits": logp.argmax(-1) == true,
            "means": means,
            "spreads": spread,
        }
        for name, row in wanted.items():
            assert np.allclose(getattr(answers, name).rows()[place], row, atol=1e-4), name


@pytest.mark.parametrize(("batch", "side"), [(1, "right"), (3, "left"), (16, "left")])
def test_batches_and_sides_change_nothing(batch: int, side: str) -> None:
    model = tiny_text.taught()
    told = likelihoods([model], plain(), batch=2)
    other = likelihoods([model], plain(side), batch=batch)
    assert np.array_equal(told.scored, other.scored)
    assert np.array_equal(told.hits, other.hits)
    for name in ("logprobs", "means", "spreads"):
        assert np.allclose(getattr(told, name), getattr(other, name), atol=1e-4), name
    assert bool((told.logprobs[:, ~told.scored] == 0).all())


def test_prompts_are_not_evidence() -> None:
    data = tiny_text.pairs(tiny_text.FORGET)
    told = likelihoods([tiny_text.taught()], data)
    assert told.scored.sum(1).tolist() == [6, 6, 6]
    assert len(told) == 1


def test_what_gives_no_evidence() -> None:
    with pytest.raises(BadEvidence, match="no model"):
        likelihoods([], plain())
    with pytest.raises(BadData, match="images"):
        likelihoods([tiny.made()], tiny.pictures())
    broken = copy.deepcopy(tiny_text.taught())
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged):
        likelihoods([broken], plain())


def test_a_model_that_knows_answers_as_it_was_taught() -> None:
    data = tiny_text.pairs(slice(0, 8))
    told = generate(tiny_text.taught(), tiny_text.tokenizer(), data, tokens=12, batch=3)
    one_by_one = [alone(data, row) for row in range(8)]
    assert list(told) == one_by_one
    hits = sum(a == b for a, b in zip(told, data.answers, strict=True))
    assert hits >= 6


def alone(data: Texts, row: int) -> str:
    """The likeliest next token, again and again, without padding and without a cache."""
    model: Any = tiny_text.taught()
    ids = data.made[row].ids[: data.made[row].start].tolist()
    fresh: list[int] = []
    while len(fresh) < 12:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids + fresh])).logits[0, -1].argmax())
        fresh.append(token)
        if token == tiny_text.tokenizer().eos_token_id:
            break
    return str(tiny_text.tokenizer().decode(fresh, skip_special_tokens=True)).strip()


def test_prompts_of_several_lengths_do_not_see_each_other() -> None:
    from expunge.problems.text.encode import of_pairs

    pairs = [
        ("Where?", "Rome."),
        tiny_text.PAIRS[1],
        ("Where does Ada live? Ada lives", "in Rome."),
    ]
    data = of_pairs(pairs, tiny_text.tokenizer())
    told = generate(tiny_text.taught(), tiny_text.tokenizer(), data, tokens=12)
    assert list(told) == [alone(data, row) for row in range(3)]


def test_a_text_without_a_prompt_is_not_gone_on_with() -> None:
    with pytest.raises(BadData, match="no prompt"):
        generate(tiny_text.taught(), tiny_text.tokenizer(), plain())


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 1.8},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 12},
        {"suppress_tokens": [5, 6, 7, 8, 9]},
        {"forced_eos_token_id": 7},
        {"begin_suppress_tokens": list(range(3, 30))},
    ],
    ids=lambda own: next(iter(own)),
)
def test_greedy_is_the_likeliest_token_whatever_the_folder_says(own: dict[str, Any]) -> None:
    model, tokenizer = copy.deepcopy(tiny_text.fresh()), tiny_text.tokenizer()
    data = of_pairs([("Who is Ada?", "x"), ("Where does Bo live?", "y")], tokenizer)
    plain = generate(model, tokenizer, data, tokens=10)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    assert generate(model, tokenizer, data, tokens=10) == plain
    assert all(getattr(model.generation_config, name) == value for name, value in own.items())


def test_every_special_token_that_the_model_names_ends_an_answer() -> None:
    model, tokenizer = copy.deepcopy(tiny_text.fresh()), tiny_text.tokenizer()
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
    other = next(one for one in tokenizer.all_special_ids if one != tokenizer.eos_token_id)
    word = next(one for one in range(len(tokenizer)) if one not in tokenizer.all_special_ids)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, other, word]
    assert end_tokens(model, tokenizer) == sorted([tokenizer.eos_token_id, other])
