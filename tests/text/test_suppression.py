"""Guards: they hide, they say that they removed nothing, and what is scored is what is written."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_text
import torch
from torch import Tensor

import tiny
from contracts import GUARDS
from expunge.core.batch import Tokens
from expunge.engine.inference import generate, likelihoods
from expunge.engine.run import sharing
from expunge.engine.training import Train
from expunge.errors import BadData, BadSentence, Unsupported
from expunge.experiments.experiment import parse
from expunge.methods.guardrails.guard import (
    ULD,
    Guard,
    GuardSetting,
    Mechanism,
    Suppressed,
    contrast,
    digest,
    first_layers,
    suppress,
)
from expunge.methods.guardrails.prompts import (
    ECO,
    Detector,
    Instruction,
    KeywordFilter,
    logistic,
    running_mean,
)
from expunge.methods.losses.answers import CE
from expunge.problems.text.models import save

HIDING = ("keywords", "eco", "uld")
MADE: dict[str, Suppressed] = {}


def guarded(name: str) -> Suppressed:
    if name not in MADE:
        MADE[name] = suppress(
            tiny_text.taught(), GUARDS[name], tiny_text.problem(), tokenizer=tiny_text.tokenizer()
        )
    return MADE[name]


def sure(model: Any, name: str) -> float:
    """The mean probability of the scored tokens of a set."""
    found = likelihoods([model], tiny_text.problem().data(name))
    return float(np.exp(found.logprobs[0][found.scored]).mean())


@pytest.mark.parametrize("name", GUARDS)
def test_the_receipt_says_that_nothing_was_removed(name: str) -> None:
    before = digest(tiny_text.taught())
    done = guarded(name)
    assert digest(done.model.base) == before == digest(tiny_text.taught())
    assert done.receipt.removed is False
    assert "nothing was removed" in str(done.receipt)
    assert done.receipt.weights == sum(w.numel() for w in tiny_text.taught().parameters())
    assert done.receipt.guard == repr(GUARDS[name])
    # who takes the guard off has the original
    assert sure(done.model.base, "forget") == sure(tiny_text.taught(), "forget") > 0.9


@pytest.mark.parametrize("name", HIDING)
def test_a_guard_hides_what_is_forbidden_and_keeps_the_rest(name: str) -> None:
    model = guarded(name).model
    assert sure(model, "forget") < 0.6 * sure(tiny_text.taught(), "forget")
    assert sure(model, "retain") > 0.8 * sure(tiny_text.taught(), "retain")


@pytest.mark.parametrize("name", GUARDS)
def test_padding_changes_nothing(name: str) -> None:
    model = guarded(name).model
    right = tiny_text.pairs(slice(0, 8))
    left = replace(right, side="left")
    rows = torch.arange(8)
    a, b = (data.batch(rows) for data in (right, left))
    with torch.no_grad():
        told, same = a.logits(model)[a.scored], b.logits(model)[b.scored]
        wide = a.widened(a.inputs.shape[1] + 3)
        wider = wide.logits(model)[wide.scored]
    assert torch.allclose(told, same, atol=1e-3)
    assert torch.allclose(told, wider, atol=1e-3)


@pytest.mark.parametrize("name", GUARDS)
def test_no_answer_depends_on_what_comes_later(name: str) -> None:
    """So what is scored with the answer in sight is what would be written without it."""
    model, batch = guarded(name).model, tiny_text.pairs(slice(0, 3)).batch(torch.arange(3))
    assert isinstance(batch, Tokens)
    cut = 6
    other = batch.inputs.clone()
    other[:, cut:] = 7
    mask = torch.ones_like(batch.mask)
    with torch.no_grad():
        told, same = (model(ids, mask).logits[:, :cut] for ids in (batch.inputs, other))
    assert torch.allclose(told, same, atol=1e-4)


@pytest.mark.parametrize("name", GUARDS)
def test_what_is_written_is_what_is_likeliest(name: str) -> None:
    model = guarded(name).model
    said = generate(model, tiny_text.tokenizer(), tiny_text.pairs(tiny_text.RETAIN), tokens=6)
    assert len(said) == 5
    if name == "keywords":  # silent about the one, as ever about the other
        assert said[0] == tiny_text.PAIRS[3][1]
        hidden = generate(model, tiny_text.tokenizer(), tiny_text.pairs(tiny_text.FORGET), tokens=6)
        assert hidden == ("", "", "")


def test_a_model_without_a_guard_writes_the_same_here_and_there() -> None:
    """The writing itself, against transformers' own: a filter for a word that never comes."""
    free = suppress(
        tiny_text.taught(),
        KeywordFilter(("I",)),
        tiny_text.problem(),
        tokenizer=tiny_text.tokenizer(),
    ).model
    rows = tiny_text.pairs(slice(0, 8))
    ours, theirs = (
        generate(m, tiny_text.tokenizer(), rows, tokens=8) for m in (free, tiny_text.taught())
    )
    assert ours == theirs
    with pytest.raises(Unsupported, match="greedily"):
        free.generate(rows.batch(torch.arange(1)).inputs, torch.ones(1, 9), Sampling())


class Sampling:
    do_sample, num_beams = True, 1


@pytest.mark.parametrize("name", GUARDS)
def test_the_same_seed_makes_the_same_guard(name: str) -> None:
    again = suppress(
        tiny_text.taught(), GUARDS[name], tiny_text.problem(), tokenizer=tiny_text.tokenizer()
    )
    batch = tiny_text.pairs(slice(0, 3)).batch(torch.arange(3))
    with torch.no_grad():
        assert torch.equal(batch.logits(again.model), batch.logits(guarded(name).model))
    generator = torch.get_rng_state()
    ECO().made(GuardSetting(tiny_text.taught(), tiny_text.problem(), None, 0))
    assert torch.equal(generator, torch.get_rng_state())


def test_what_is_read_stands_in_the_receipt() -> None:
    assert guarded("keywords").receipt.examples == {}
    assert guarded("eco").receipt.examples == {"forget": 3, "retain": 5}
    assert guarded("uld").receipt.examples == {"forget": 180, "retain": 300}


def test_a_guarded_model_cannot_be_saved(tmp_path: Any) -> None:
    with pytest.raises(Unsupported, match="no weight"):
        save(guarded("eco").model, None, tmp_path / "there")
    assert not list(tmp_path.iterdir())


class Meddling(Guard):
    """A guard that moves a weight of the model."""

    def made(self, setting: GuardSetting) -> Mechanism:
        with torch.no_grad():
            next(setting.model.parameters()).add_(1e-3)
        return KeywordFilter(("Ada",)).made(setting)


def test_a_guard_that_changes_the_model_is_refused() -> None:
    model = copy.deepcopy(tiny_text.taught())
    with pytest.raises(BadData, match="leave it as it is"):
        suppress(model, Meddling(), tiny_text.problem(), tokenizer=tiny_text.tokenizer())


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_guard_reads_back_from_its_sentence(guard: Guard) -> None:
    assert parse(repr(guard)) == guard


def test_words_are_found_where_their_tokens_end() -> None:
    tokens = tiny_text.tokenizer()
    made: Any = KeywordFilter(("Rome", "lives in")).made(
        GuardSetting(tiny_text.taught(), tiny_text.problem(), tokens, 0)
    )
    ids = torch.tensor([tokens("Ada lives in Rome.")["input_ids"]])
    # <s> Ada lives in Rome .
    found = made.seen(ids, torch.ones_like(ids).bool())
    assert found.tolist() == [[False, False, False, True, True, True]]
    hidden = torch.tensor([[True, True, False, True, True, True]])  # "lives" is padding
    assert made.seen(ids, hidden).tolist() == [[False, False, False, False, True, True]]


def test_an_instruction_stands_before_the_text() -> None:
    tokens, model = tiny_text.tokenizer(), tiny_text.taught()
    told, asked = tokens("I do not know.")["input_ids"], tokens("Where does Ada live?")["input_ids"]
    with torch.no_grad():
        # a text's own mark of beginning is not seen twice
        whole = model(torch.tensor([[*told, *asked[1:]]])).logits[:, len(told) :]
        found = guarded("instruction").model(torch.tensor([asked])).logits[:, 1:]
    assert torch.allclose(found, whole, atol=1e-4)


def test_logits_are_taken_off_where_the_model_finds_a_token_likely() -> None:
    ours = torch.tensor([[2.0, 1.0, -9.0]])
    theirs = torch.tensor([[4.0, 0.5, 7.0]])
    assert contrast(ours, theirs, 0.5, 0.0).tolist() == [[0.0, 0.75, -12.5]]
    # the last token is e^-11 as likely as the first
    assert contrast(ours, theirs, 0.5, 0.01).tolist() == [[0.0, 0.75, -9.0]]
    # two thirds of three tokens count as likely in any case
    assert contrast(ours - torch.tensor([0.0, 9.0, 0.0]), theirs, 0.5, 0.67).tolist() == [
        [0.0, -8.25, -9.0]
    ]


def test_an_assistant_is_the_first_layers() -> None:
    whole, small = sharing(tiny_text.taught()), first_layers(tiny_text.taught(), 1)
    assert len(small.model.layers) == 1  # type: ignore[union-attr, arg-type]
    assert len(whole.model.layers) == 2  # type: ignore[union-attr, arg-type]
    assert tiny_text.taught().config.num_hidden_layers == 2
    with pytest.raises(Unsupported, match="the model has 2"):
        first_layers(tiny_text.taught(), 3)


def test_the_detector_by_hand() -> None:
    states = torch.tensor([[[1.0], [3.0], [8.0]]])
    mask = torch.tensor([[False, True, True]])
    assert running_mean(states, mask).tolist() == [[[0.0], [3.0], [5.5]]]
    one = torch.ones(1)
    detector = Detector(3 * one, 2 * one, one, torch.tensor(0.5))
    wanted = torch.sigmoid(torch.tensor([[-1.0, 0.5, 1.75]]))
    assert torch.allclose(detector(states, mask), wanted)


def test_the_regression_is_at_its_minimum() -> None:
    rng = np.random.default_rng(1)
    features = torch.tensor(rng.normal(size=(40, 3)))
    wanted = torch.tensor((rng.random(40) < 0.5).astype(float))
    share = torch.full((40,), 1 / 40, dtype=torch.float64)
    found = logistic(features, wanted, share, 0.01).requires_grad_(True)

    def loss(at: Tensor) -> Tensor:
        said = features @ at[:-1] + at[-1]
        each = torch.nn.functional.binary_cross_entropy_with_logits(said, wanted, reduction="none")
        return (share * each).sum() + 0.01 * at[:-1].square().sum()

    (slope,) = torch.autograd.grad(loss(found), found)
    assert float(slope.abs().max()) < 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ECO(strength=0.0),
        lambda: ECO(dims=0),
        lambda: ECO(threshold=1.0),
        lambda: ULD(weight=0.0),
        lambda: ULD(floor=1.0),
        lambda: ULD(layers=0),
        lambda: KeywordFilter(()),
        lambda: KeywordFilter((" ",)),
        lambda: KeywordFilter(("a",), margin=0.0),
        lambda: Instruction(" "),
    ],
)
def test_sentences_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(BadSentence):
        wrong()


def test_what_cannot_be_guarded_is_refused() -> None:
    task, model = tiny_text.problem(), tiny_text.taught()
    with pytest.raises(BadSentence, match="takes methods"):
        suppress(model, Train(CE("forget")), task)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="tokenizer"):
        suppress(model, Instruction("Hush."), task)
    with pytest.raises(BadSentence, match="an embedding has 16"):
        suppress(model, ECO(dims=17), task)
    with pytest.raises(Unsupported, match="the model has 2"):
        suppress(model, ULD(), task)
    with pytest.raises(Unsupported, match="no language model"):
        suppress(tiny.net(), ECO(), task)
