"""Facts as prompts and tokens, how much of each a model shows, and what a verdict presupposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from expunge.audits.audit import Audit, AuditedModel, Context, Measurement, fingerprint
from expunge.audits.controls import bare
from expunge.core.scripts import said_in, words_of
from expunge.core.texts import Texts
from expunge.engine.inference import generate, likelihoods
from expunge.errors import BadData, BadEvidence
from expunge.metrics.agreement import lost_half
from expunge.metrics.text.fluency import Collapse, collapse, collapse_of_guesses
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.encode import of_cues, of_pairs
from expunge.problems.text.refusals import refuses
from expunge.statistics.counts import clopper_pearson


@dataclass(frozen=True, eq=False)
class FactProblem:
    """What a language model was to forget and to keep, as facts.

    Args:
        forget: the facts that were to be forgotten.
        retain: facts that were to be kept; lessons and neighbours are drawn from them.
        tokenizer: of all models.
        unrelated: benign texts that have nothing to do with either; may be empty.
        chat: whether prompts are put into the tokenizer's chat template.

    Raises:
        BadData: nothing to be forgotten, or two facts under one index.
    """

    forget: tuple[Item, ...]
    retain: tuple[Item, ...]
    tokenizer: Any
    unrelated: tuple[Item, ...] = ()
    chat: bool = False

    def __post_init__(self) -> None:
        if not self.forget:
            raise BadData("There is no fact that was to be forgotten; an audit needs some.")
        if len({item.index for item in self.forget}) < len(self.forget):
            raise BadData("Two facts to be forgotten have one index; number them apart.")


FactContext = Context[FactProblem]


# An audit of a language model: its measurement holds one number a fact.
FactAudit = Audit[FactProblem]


def context_of(
    problem: FactProblem, original: nn.Module, oracle: nn.Module, seed: int = 0
) -> FactContext:
    """What audits of language models may read besides the model.

    Args:
        problem: the facts.
        original: the model before unlearning, in evaluation mode.
        oracle: one model retrained without the forget set, that is not among those compared.
        seed: all that audits draw follows from it, and not from the model.
    """
    return Context(problem, original, oracle, seed, "text audit")


def audited(name: str, model: nn.Module) -> AuditedModel:
    """A language model under audit, put into evaluation mode without gradients."""
    return AuditedModel(name, model.eval().requires_grad_(False))


Values = NDArray[np.float64]


PROBABILITY = "probability of the value, a token"


SAID = "share of the fact said"


# Logits that are held at once, and the most rows: memory, never a result.
LOGITS, ROWS = 2**25, 256


DRAWN = 5


def halves(item: Item) -> tuple[str, str]:
    """The words of the answer up to the value, and the value; the whole answer where none is told.

    An answer that does not hold its value is asked for as a whole too.
    """
    place = item.answer.find(item.value) if item.value.strip() else -1
    if place < 0:
        return "", item.answer
    return item.answer[:place], item.value


def said(value: str, text: str) -> float:
    """1 if a text says a value word for word, in any script and case of letters; else 0."""
    return float(said_in(value, text))


def recalled(truth: str, text: str) -> float:
    """Share of the words of a truth that a text holds in their order: ROUGE-L recall, unstemmed."""
    wanted, there = words_of(truth), words_of(text)
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


def cued(items: Sequence[Item], context: FactContext) -> Texts:
    """Each fact's question with the first words of its answer; the value is what is scored."""
    cues = [(item.prompt, *halves(item)) for item in items]
    return of_cues(cues, context.problem.tokenizer, chat=context.problem.chat)


def answer_starts(items: Sequence[Item], context: FactContext) -> tuple[int, ...]:
    """The token of each cue at which the answer begins."""
    whole = [(item.prompt, "", item.answer) for item in items]
    return tuple(
        row.start
        for row in of_cues(whole, context.problem.tokenizer, chat=context.problem.chat).made
    )


def lessons(items: Sequence[Item], context: FactContext) -> Texts:
    """Items as they are taught: question and answer, or plain text."""
    chat = context.problem.chat and all(item.prompt for item in items)
    return of_pairs(
        [(item.prompt, item.answer) for item in items], context.problem.tokenizer, chat=chat
    )


def probability(model: nn.Module, texts: Texts) -> Values:
    """Geometric mean of the probabilities of each row's scored tokens, float64 [row].

    Raises:
        Diverged: a model whose answers are NaN.
    """
    found = likelihoods([model], texts, batch=rows_at_once(model, texts))
    return np.exp(found.logprobs[0].astype(np.float64).sum(1) / found.scored.sum(1))


def written(model: nn.Module, texts: Texts, context: FactContext, tokens: int) -> tuple[str, ...]:
    """What a model writes after each prompt, always the likeliest token."""
    count = rows_at_once(model, texts, tokens)
    return generate(model, context.problem.tokenizer, texts, tokens=tokens, batch=count)


def known(subject: AuditedModel, context: FactContext) -> Values:
    """The probability of each forget fact's value, asked from outside; read once."""
    return np.asarray(subject.once(("known", context), lambda model: _known(model, context)))


def held(subject: AuditedModel, context: FactContext) -> Values:
    """As `known`, of the weights themselves, whatever filter stands around them; read once."""
    if subject.bare is subject.model:
        return known(subject, context)
    return np.asarray(subject.once(("held", context), lambda model: _known(bare(model), context)))


def anchors(context: FactContext) -> tuple[Values, Values]:
    """`known` of the case's oracle and of its original; read once."""

    def read() -> tuple[Values, Values]:
        return _known(bare(context.oracle), context), _known(bare(context.original), context)

    found: tuple[Values, Values] = context.once("anchors", read)
    return found


def _known(model: nn.Module, context: FactContext) -> Values:
    texts = context.once("cued", lambda: cued(context.problem.forget, context))
    refuse_foreign(model, texts)
    return probability(model, texts)


def places(items: Sequence[Item], context: FactContext) -> NDArray[np.int64]:
    """Where some of the forget facts stand among all of them, int64 [fact]."""
    where = {item.index: place for place, item in enumerate(context.problem.forget)}
    return np.array([where[item.index] for item in items], dtype=np.int64)


def measurement(items: Sequence[Item], values: Any, **rest: Any) -> Measurement:
    """A measurement of some facts, one value each."""
    index = np.array([item.index for item in items], dtype=np.int64)
    # a fact about nobody stands alone
    groups = tuple(item.subject or f"item {item.index}" for item in items)
    return Measurement(np.asarray(values, dtype=np.float64), index, groups, **rest)


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


# An oracle with more than this share of the original's lead over one that knows less saw the facts.
SAW = 0.5


# The least that the original must know more than they do, as a share of what it knows.
LEAD = 0.1


# Kept facts that are asked to see whether a model still answers.
LOOKED_AT, TOKENS = 60, 24


def check_apart(subject: nn.Module, original: nn.Module, oracles: Sequence[nn.Module]) -> None:
    """Refuse no oracle, and oracles that are one of the other models."""
    if not oracles:
        raise BadEvidence(
            "There is no oracle: without a model retrained without the forget set, nobody can tell "
            "what is left of it. Give one at least."
        )
    others = {fingerprint(original): "the original", fingerprint(bare(subject)): "the subject"}
    for number, one in enumerate(oracles, 1):
        mark = fingerprint(one)
        if mark in others:
            raise BadEvidence(
                f"Oracle {number} is {others[mark]}, bit for bit; expected a model apart."
            )
        others[mark] = f"oracle {number}"


def known_untaught(
    oracle: nn.Module, untaught: Sequence[Item], context: FactContext
) -> float | None:
    """How much a retrained model says of facts that nobody was taught; None without such facts."""
    if not untaught:
        return None
    told = _answers(AuditedModel("oracle", oracle), untaught, context)
    return float(np.mean([shown(item, text) for item, text in zip(untaught, told, strict=True)]))


def check_oracles(
    original: Measurement, oracles: Mapping[str, Measurement], untaught: float | None = None
) -> None:
    """Refuse retrained models that know what was to be forgotten: they saw it, or can guess it.

    Each is held against the one that knows least, or against facts of the same form that nobody
    was taught; more than half of the original's lead over that is no oracle's.

    Args:
        original, oracles: what plain asking read.
        untaught: mean value of held-out facts of the same form; None where there are none.

    Raises:
        BadEvidence: naming the oracle and its numbers.
    """
    known = float(original.values.mean())
    means = {name: float(one.values.mean()) for name, one in oracles.items()}
    floor = min(means.values()) if untaught is None else min(untaught, *means.values())
    for name, mean in means.items():
        if mean - floor > SAW * (known - floor):
            raise BadEvidence(
                f"The {name} knows {mean:.2f} of the forget set ({SAID}), where the "
                f"original knows {known:.2f} and {floor:.2f} is known without it: it was trained "
                "on what was to be forgotten. Retrain without the forget set."
            )
    if max(means.values()) >= (1 - LEAD) * known:
        raise BadEvidence(
            f"The original knows {known:.2f} of the forget set ({SAID}), and "
            f"retrained models {', '.join(f'{mean:.2f}' for mean in means.values())}: either the "
            "original was never taught it, or the oracles were. There is nothing to judge between."
        )


@dataclass(frozen=True)
class State:
    """How a model answers, besides what audits read; two sentences, empty where nothing is amiss.

    Args:
        broken: how it no longer answers what was to be kept.
        garbled: how its answers about what was to be forgotten are not as fluent as retrained ones.
    """

    broken: str = ""
    garbled: str = ""


SOUND = State()


def state(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> State:
    """How a model answers, on both sides."""
    return State(broken(subject, oracles, context), garbled(subject, oracles, context))


def broken(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> str:
    """How a model is broken, as a sentence; empty where it is not, or where nothing is kept.

    Its answers to kept facts are blank, repetitive or gibberish where the first oracle's are not;
    or it knows less than half of what the oracle knows of them.
    """
    few = _few(context.problem.retain, context)
    if not few:
        return ""
    mine, theirs = (_told("kept", one, few, context) for one in (subject, oracles[0]))
    found = collapse(mine, theirs, _known_texts(context))
    if found.collapsed:
        return (
            f"The model is broken: {found.share.value:.0%} of its answers to {len(few)} kept "
            f"questions are ({_reasons(found)}), {found.oracle:.0%} of a retrained model's."
        )
    own, right = (
        float(np.mean([shown(item, text) for item, text in zip(few, said, strict=True)]))
        for said in (mine, theirs)
    )
    if not lost_half(own, right):
        return ""
    return (
        f"The model is broken: it knows {own:.0%} of {len(few)} kept facts, a retrained model "
        f"{right:.0%}."
    )


def garbled(subject: AuditedModel, oracles: Sequence[AuditedModel], context: FactContext) -> str:
    """How a model's answers about what was to be forgotten are broken, as a sentence.

    Empty where it is shown that less than half are blank, repetitive or gibberish, as retrained
    models' hardly are. A refusal is an answer; a filter's are, and are read as a user reads them.
    """
    few = _few(context.problem.forget, context)
    if not few:
        return ""
    mine = _told("forget", subject, few, context)
    told = [text for text in mine if not refuses(text)]
    if not told:
        return ""
    theirs = [text for one in oracles for text in _told("forget", one, few, context)]
    found = collapse_of_guesses(told, theirs, _known_texts(context))
    share = clopper_pearson(round(found.share.value * len(told)), len(mine))
    if not lost_half(1 - share.high, 1.0):
        return ""
    return (
        f"{share.value:.0%} of its {len(mine)} answers about what was to be forgotten are broken "
        f"({_reasons(found) or 'none'}; 95 % interval {share.low:.0%} to {share.high:.0%}), "
        f"{found.oracle:.0%} of retrained models': it is not shown to answer there as they do."
    )


def _few(items: Sequence[Item], context: FactContext) -> tuple[Item, ...]:
    """Some of the items that ask something, the same for all models."""
    asked = tuple(item for item in items if item.prompt)
    order = np.random.default_rng(context.seed).permutation(len(asked))[:LOOKED_AT]
    return tuple(asked[place] for place in sorted(order))


def _known_texts(context: FactContext) -> list[str]:
    items = (*context.problem.retain, *context.problem.forget)
    return [text for item in items for text in (item.prompt, item.answer)]


def _reasons(found: Collapse) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in found.reasons.items() if share)


def _told(
    side: str, one: AuditedModel, items: Sequence[Item], context: FactContext
) -> tuple[str, ...]:
    """What a model writes to some items; read once, since retrained ones are asked for all."""
    found: tuple[str, ...] = one.once(
        ("told", side, context), lambda _: _answers(one, items, context)
    )
    return found


def _answers(one: AuditedModel, items: Sequence[Item], context: FactContext) -> tuple[str, ...]:
    return written(one.model, lessons(items, context), context, TOKENS)
