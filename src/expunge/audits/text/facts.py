"""What an audit of a language model is: one number a fact, measured alike for every model."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.audits.text.guardrail import bare
from expunge.core.seeds import stream
from expunge.core.texts import Texts
from expunge.engine.inference import generate, likelihoods
from expunge.errors import BadData, BadEvidence
from expunge.problems.text.benchmarks.items import Item
from expunge.problems.text.encode import of_cues, of_pairs

Family = Literal["asking", "relearning", "transforms", "sampling", "inside", "traces"]


@dataclass(frozen=True, eq=False)
class Case:
    """What is audited: the facts to be forgotten, those kept, and the two anchors.

    Args:
        forget: the facts that were to be forgotten.
        retain: facts that were to be kept; lessons and neighbours are drawn from them.
        unrelated: benign texts that have nothing to do with either; may be empty.
        tokenizer: of all models.
        original: the model before unlearning, in evaluation mode.
        oracle: one model retrained without the forget set, that is not among those compared.
        seed: all that audits draw follows from it, and not from the model.
        chat: whether prompts are put into the tokenizer's chat template.
        facts: what was worked out once for all models.

    Raises:
        BadData: nothing to be forgotten, or two facts under one index.
    """

    forget: tuple[Item, ...]
    retain: tuple[Item, ...]
    tokenizer: Any
    original: nn.Module
    oracle: nn.Module
    unrelated: tuple[Item, ...] = ()
    seed: int = 0
    chat: bool = False
    facts: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.forget:
            raise BadData("There is no fact that was to be forgotten; an audit needs some.")
        if len({item.index for item in self.forget}) < len(self.forget):
            raise BadData("Two facts to be forgotten have one index; number them apart.")

    def stream(self, *names: object) -> torch.Generator:
        """A generator for one purpose, the same for every model."""
        return stream("text audit", self.seed, *names)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What depends on the case alone, worked out for the first model and kept."""
        if key not in self.facts:
            self.facts[key] = make()
        return self.facts[key]


class Subject:
    """One model under audit: never changed; what is read from it once is shared by all audits.

    Args:
        name: what the report calls it.
        model: the model, in evaluation mode; a filter around it is met by audits that ask.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name, self.model = name, model.eval().requires_grad_(False)
        self._read: dict[Any, Any] = {}

    def copy(self) -> nn.Module:
        """A private copy of the weights, without a filter around; anything may be done to it."""
        return copy.deepcopy(self.bare)

    @property
    def bare(self) -> nn.Module:
        """The weights as their holder sees them, without a filter around; to be read only."""
        return bare(self.model)

    def once(self, key: object, read: Callable[[nn.Module], Any]) -> Any:
        """What is read from the model as it is, such as its hidden states; read once."""
        if key not in self._read:
            self._read[key] = read(self.model)
        return self._read[key]


@dataclass(frozen=True, eq=False)
class Reading:
    """What one audit reads from one model.

    Args:
        values: float64 [fact], how much of each measured fact the model shows, 0 nothing, 1 all.
        index: int64 [fact], `Item.index` of each; the same for every model of a case.
        groups: str [fact], the subject of each; facts of one stand or fall together.
        cost: what it took, name -> number ("steps", "queries", "tokens").
        drawn: (prompt, what the model wrote) of a few facts, the most telling first.
        curve: (cost, mean value) along the way, for an audit that goes on step by step.
        also: other numbers worth printing, name -> number, such as bounds.
    """

    values: NDArray[np.float64]
    index: NDArray[np.int64]
    groups: tuple[str, ...]
    cost: dict[str, float] = field(default_factory=dict)
    drawn: tuple[tuple[str, str], ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    also: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {len(self.values), len(self.index), len(self.groups)}
        if len(sizes) != 1 or not len(self.values):
            raise BadEvidence(
                f"Got {len(self.values)} values, {len(self.index)} indices and "
                f"{len(self.groups)} groups; expected one of each for every fact, and a fact."
            )
        if not np.isfinite(self.values).all():
            raise BadEvidence("Some values are NaN or infinite; the model's answers broke down.")


class TextAudit(ABC):
    """An experiment on one language model that ends in one number a fact; abstract.

    `family` groups audits of one kind; `unit` is what a value counts. `decisive` is False for an
    audit that can make a model say what it never knew, as a soft prompt can: it is shown, and is
    never evidence by itself. `margin` is the share of the original's lead over the retrained model
    that matters.
    """

    family: ClassVar[Family]
    unit: ClassVar[str]
    decisive: ClassVar[bool] = True
    margin: ClassVar[float] = 0.1

    @abstractmethod
    def read(self, subject: Subject, case: Case) -> Reading:
        """What the audit reads from one model; its budget is fixed and in the audit's fields."""

    def unfit(self, case: Case) -> str:
        """Why the audit makes no sense on a case, as a clause; empty if it does."""
        return ""


Values = NDArray[np.float64]


PROBABILITY = "probability of the value, a token"


SAID = "share of the fact said"


# Logits that are held at once, and the most rows: memory, never a result.
LOGITS, ROWS = 2**25, 256


DRAWN = 5


WORD = re.compile(r"\w+")


def halves(item: Item) -> tuple[str, str]:
    """The words of the answer up to the value, and the value; the whole answer where none is told.

    An answer that does not hold its value is asked for as a whole too.
    """
    place = item.answer.find(item.value) if item.value.strip() else -1
    if place < 0:
        return "", item.answer
    return item.answer[:place], item.value


def said(value: str, text: str) -> float:
    """1 if a text holds a value word for word, in any case of letters; else 0."""
    wanted, there = WORD.findall(value.casefold()), WORD.findall(text.casefold())
    if not value.isascii() or not wanted:
        # not all scripts put spaces between words
        return float(value.casefold().strip() in text.casefold())
    spans = range(len(there) - len(wanted) + 1)
    return float(any(there[first : first + len(wanted)] == wanted for first in spans))


def recalled(truth: str, text: str) -> float:
    """Share of the words of a truth that a text holds in their order: ROUGE-L recall, unstemmed."""
    wanted, there = WORD.findall(truth.casefold()), WORD.findall(text.casefold())
    if not wanted:
        return said(truth, text)
    row = [0] * (len(there) + 1)
    for word in wanted:
        above, corner = row[:], 0
        for place, other in enumerate(there, 1):
            corner = above[place - 1] + 1 if word == other else max(above[place], row[place - 1])
            row[place] = corner
    return row[-1] / len(wanted)


def shown(item: Item, text: str) -> float:
    """How much of a fact a text says: all or nothing of its value, or else a share of its words."""
    value = halves(item)[1]
    return recalled(value, text) if value == item.answer else said(value, text)


def cued(items: Sequence[Item], case: Case) -> Texts:
    """Each fact's question with the first words of its answer; the value is what is scored."""
    cues = [(item.prompt, *halves(item)) for item in items]
    return of_cues(cues, case.tokenizer, chat=case.chat)


def answer_starts(items: Sequence[Item], case: Case) -> tuple[int, ...]:
    """The token of each cue at which the answer begins."""
    whole = [(item.prompt, "", item.answer) for item in items]
    return tuple(row.start for row in of_cues(whole, case.tokenizer, chat=case.chat).made)


def lessons(items: Sequence[Item], case: Case) -> Texts:
    """Items as they are taught: question and answer, or plain text."""
    chat = case.chat and all(item.prompt for item in items)
    return of_pairs([(item.prompt, item.answer) for item in items], case.tokenizer, chat=chat)


def probability(model: nn.Module, texts: Texts) -> Values:
    """Geometric mean of the probabilities of each row's scored tokens, float64 [row].

    Raises:
        Diverged: a model whose answers are NaN.
    """
    found = likelihoods([model], texts, batch=rows_at_once(model, texts))
    return np.exp(found.logprobs[0].astype(np.float64).sum(1) / found.scored.sum(1))


def written(model: nn.Module, texts: Texts, case: Case, tokens: int) -> tuple[str, ...]:
    """What a model writes after each prompt, always the likeliest token."""
    count = rows_at_once(model, texts, tokens)
    return generate(model, case.tokenizer, texts, tokens=tokens, batch=count)


def known(subject: Subject, case: Case) -> Values:
    """The probability of each forget fact's value, asked from outside; read once."""
    return np.asarray(subject.once(("known", case), lambda model: _known(model, case)))


def held(subject: Subject, case: Case) -> Values:
    """As `known`, of the weights themselves, whatever filter stands around them; read once."""
    if subject.bare is subject.model:
        return known(subject, case)
    return np.asarray(subject.once(("held", case), lambda model: _known(bare(model), case)))


def anchors(case: Case) -> tuple[Values, Values]:
    """`known` of the case's oracle and of its original; read once."""

    def read() -> tuple[Values, Values]:
        return _known(bare(case.oracle), case), _known(bare(case.original), case)

    found: tuple[Values, Values] = case.once("anchors", read)
    return found


def _known(model: nn.Module, case: Case) -> Values:
    texts = case.once("cued", lambda: cued(case.forget, case))
    refuse_foreign(model, texts)
    return probability(model, texts)


def places(items: Sequence[Item], case: Case) -> NDArray[np.int64]:
    """Where some of the forget facts stand among all of them, int64 [fact]."""
    where = {item.index: place for place, item in enumerate(case.forget)}
    return np.array([where[item.index] for item in items], dtype=np.int64)


def reading(items: Sequence[Item], values: Any, **rest: Any) -> Reading:
    """A reading of some facts, one value each."""
    index = np.array([item.index for item in items], dtype=np.int64)
    # a fact about nobody stands alone
    groups = tuple(item.subject or f"item {item.index}" for item in items)
    return Reading(np.asarray(values, dtype=np.float64), index, groups, **rest)


def telling(
    prompts: Sequence[str], texts: Sequence[str], values: Sequence[float] | Values
) -> tuple[tuple[str, str], ...]:
    """A few prompts with what was written, those that say most first."""
    order = np.argsort(-np.asarray(values), kind="stable")[:DRAWN]
    return tuple((prompts[place], texts[place]) for place in order)


def refuse_foreign(model: Any, texts: Texts) -> None:
    """Refuse a model that cannot read the tokens of a case.

    Raises:
        BadData: a token beyond its vocabulary, or a text beyond its context.
    """
    size = model.get_input_embeddings().num_embeddings
    largest = max(int(row.ids.max()) for row in texts.made)
    if largest >= size:
        raise BadData(
            f"The case's tokenizer gives the token {largest}, and a model's vocabulary ends at "
            f"{size - 1}. Audit models that share one tokenizer, and give the case that one."
        )
    context = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    longest = int(texts.token_counts().max())
    if context and longest > context:
        raise BadData(f"A prompt has {longest} tokens, and the model reads {context}; shorten it.")


def rows_at_once(model: Any, texts: Texts, more: int = 0) -> int:
    """How many rows fit: by the logits of rows so long, with `more` tokens to be written."""
    width = int(texts.token_counts().max()) + more
    size = model.get_input_embeddings().num_embeddings
    return max(1, min(ROWS, LOGITS // (width * size)))
