"""Asks language models, and brings their answers back from the store as arrays and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge.core.evidence import Answers, Nested, Ragged
from expunge.core.store import Job, Store
from expunge.core.texts import Texts
from expunge.engine.inference import generate, likelihoods
from expunge.experiments.plan import Product
from expunge.experiments.text.normalised_metrics import MetricRow, RecordedAnswers
from expunge.metrics.text.likelihood import probability
from expunge.problems.text.evaluation_sets import EvaluationSet, Options

BATCH = 64


# A greedy answer may be half as long again as the longest true one before it is cut off.
SLACK = 1.5


FIELDS = ("logprobs", "hits", "means", "spreads")


def collect_answers(model: nn.Module, tokenizer: Any, sets: Sequence[EvaluationSet]) -> Product:
    """Ask a model everything: a forward pass an answer, and greedy answers in its own words.

    Returns:
        tensors "SET/FIELD", float32 [token], those of the first question first, with
        "SET/lengths", int32 [question]; and the generations of each set.

    Raises:
        Diverged: a model whose answers are NaN.
    """
    tensors: dict[str, Tensor] = {}
    said: dict[str, list[str]] = {}
    for asked in sets:
        told = likelihoods([model], asked.texts, BATCH).answers(0)
        tensors |= _flat(asked.name, told.tokens("logprobs"), "lengths")
        for field in FIELDS:
            tensors[f"{asked.name}/{field}"] = torch.tensor(told.tokens(field).flat).float()
        for name in ("paraphrased", "wrong"):
            if (options := getattr(asked, name)) is not None:
                tensors |= _options(f"{asked.name}/{name}", model, options)
        if asked.written:
            said[asked.name] = list(generated_answers(model, tokenizer, asked.texts))
    return {"evidence": tensors}, {"generations": said}


def generated_answers(model: nn.Module, tokenizer: Any, texts: Texts) -> tuple[str, ...]:
    """Return what a model writes after each prompt, at most half longer than the true answers.

    Prompts of like lengths are written to together: fillings cost time.
    """
    longest = max(len(row.ids) - row.start for row in texts.made)
    order = sorted(range(len(texts)), key=lambda place: texts.made[place].start)
    sorted_ = Texts(tuple(texts.made[place] for place in order), texts.pad)
    said = generate(model, tokenizer, sorted_, tokens=int(SLACK * longest) + 1, batch=2 * BATCH)
    back = dict(zip(order, said, strict=True))
    return tuple(back[place] for place in range(len(texts)))


def _options(name: str, model: nn.Module, options: Options) -> dict[str, Tensor]:
    told = likelihoods([model], options.texts, BATCH).answers(0).tokens("logprobs")
    return {f"{name}/logprobs": torch.tensor(told.flat).float(), **_flat(name, told, "lengths")}


def _flat(name: str, rows: Ragged, field: str) -> dict[str, Tensor]:
    return {f"{name}/{field}": torch.tensor(rows.lengths, dtype=torch.int32)}


def read_answers(store: Store, evidence: Job, sets: Sequence[EvaluationSet]) -> dict[str, Answers]:
    """Return what a model answered, from the store: name of a set -> answers.

    Raises:
        Corrupt: the product was changed.
    """
    tensors = store.tensors(evidence, "evidence")
    said = store.about(evidence)["generations"]
    return {asked.name: _answers(asked, tensors, said) for asked in sets}


def _answers(
    asked: EvaluationSet, tensors: Mapping[str, Tensor], said: Mapping[str, Any]
) -> Answers:
    fields: dict[str, Any] = {
        name: _rows(tensors, f"{asked.name}/{name}", asked.name) for name in FIELDS
    }
    for name in ("paraphrased", "wrong"):
        if (options := getattr(asked, name)) is not None:
            rows = _rows(tensors, f"{asked.name}/{name}/logprobs", f"{asked.name}/{name}")
            fields[name] = Nested(rows, options.counts)
    if asked.name in said:
        fields["generations"] = tuple(said[asked.name])
    index = np.array([item.index for item in asked.items])
    return Answers(index, references=asked.texts.answers, **fields)


def _rows(tensors: Mapping[str, Tensor], name: str, of: str) -> Ragged:
    lengths = tensors[f"{of}/lengths"].numpy().astype(np.int64)
    return Ragged(tensors[name].numpy().astype(np.float64), lengths)


# Texts a side: a few, since every model reads them after every epoch.
FEW = 24


SIDES = ("forget", "retain")


# The same model read twice, in minibatches of other sizes.
ROUNDING = 1e-4


def traced_sets(sets: Sequence[EvaluationSet]) -> dict[str, EvaluationSet]:
    """Return the set of each side that models are asked after every epoch, its first."""
    return {side: next(one for one in sets if one.side == side) for side in SIDES}


def trace_of(model: nn.Module, sets: Sequence[EvaluationSet]) -> dict[str, float]:
    """Return the mean probability of the true answers to the first texts of each side.

    Args:
        model: put into evaluation mode, and back.
        sets: what models are asked.
    """
    found = {}
    with modes_kept(model):
        for side, asked in traced_sets(sets).items():
            few = Texts(asked.texts.made[:FEW], asked.texts.pad)
            told = likelihoods([model], few, FEW).answers(0)
            found[side] = float(probability(told).mean())
    return found


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module's mode back: some may be frozen while others train."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def path(row: MetricRow, traces: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return a row's path from the original to the unlearned models, means over its models.

    Args:
        row: all models.
        traces: of each model (step's place, epoch, `traced`); may be empty.

    Returns:
        records: a mapping of side to probability before the method, after each epoch that every
            model has, and at the end where that is no epoch's; epochs: how many of them;
            retrained: the oracles'; sets, questions: what was asked.
    """
    asked = traced_sets(row.sets)
    few = {side: min(FEW, len(one.items)) for side, one in asked.items()}

    def mean(models: Sequence[RecordedAnswers]) -> dict[str, float]:
        return {
            side: float(np.mean([m.values(probability, one.name)[:FEW] for m in models]))
            for side, one in asked.items()
        }

    epochs = [
        {side: float(np.mean([told[side] for _, _, told in each])) for side in SIDES}
        for each in zip(*traces, strict=False)
    ]
    last = mean(row.subject)
    if epochs and all(abs(epochs[-1][side] - last[side]) < ROUNDING for side in SIDES):
        epochs, last = epochs[:-1], epochs[-1]
    return {
        "records": [mean(row.original), *epochs, last],
        "epochs": min(map(len, traces)),
        "retrained": mean(row.oracle),
        "sets": {side: one.name for side, one in asked.items()},
        "questions": few,
    }
