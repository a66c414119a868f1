"""A language experiment so small that a test can carry it out, and answers that nobody gave."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from expunge.comparison import named
from expunge.core.batch import Joined
from expunge.core.evidence import Answers, Nested, Ragged
from expunge.core.problem import Problem
from expunge.experiments.experiment import Experiment, read
from expunge.experiments.plan import Plan, problem_spec
from expunge.experiments.text.task import Language
from expunge.methods.sentences import as_method
from expunge.problems.networks.language import tiny_llama, word_tokenizer
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.by_name import REFUSAL, LanguageSetting
from expunge.problems.text.evaluation_sets import Encoder

RECIPE = "Train(CE('train'), epochs=80, lr=Warmup(0.01, 0.1), batch=16, optimiser=AdamW())"
METHODS = {
    "gibberish": "Train(-CE('forget'), epochs=12, lr=0.01, batch=4, optimiser=AdamW())",
    "finetune": "Train(CE('retain'), epochs=4, lr=0.005, batch=16, optimiser=AdamW())",
}
NAMES = ("Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ivy", "Jo", "Kay", "Lee")
FACTS = {
    "home": ("Where does NAME live?", "NAME lives in VALUE.", "The home of NAME is VALUE."),
    "pet": ("Which pet has NAME?", "NAME keeps a VALUE.", "The pet of NAME is a VALUE."),
}
VALUES = {
    "home": ("Rome", "Oslo", "Bern", "Lima", "Cairo", "Quito"),
    "pet": ("cat", "dog", "hen", "pig", "cow", "fox"),
}


def items() -> list[Item]:
    """Two facts of each of twelve people."""
    found = []
    for number, name in enumerate(NAMES):
        for place, (kind, (question, answer, other)) in enumerate(FACTS.items()):
            pool = VALUES[kind]
            value = pool[(number * (place + 1) + number // 6) % 6]
            wrong = [one for one in pool if one != value][:2]
            asked = question.replace("NAME", name)
            said = [
                text.replace("NAME", name).replace("VALUE", v)
                for text, v in ((answer, value), (other, value), *((other, w) for w in wrong))
            ]
            found.append(
                Item(
                    10 * number + place,
                    asked,
                    said[0],
                    (f"Say, {asked}",),
                    (said[1],),
                    tuple(said[2:]),
                    subject=name,
                )
            )
    return found


@cache
def setting() -> LanguageSetting:
    every = items()
    parts = {"forget": every[:6], "retain": every[6:18], "holdout": every[18:]}
    texts = [REFUSAL, *(t for i in every for t in (i.prompt, i.answer, *i.paraphrases, *i.wrong))]
    texts += [i.questions[0] for i in every]
    tokenizer = word_tokenizer(texts, context=32)
    encoder = Encoder(tokenizer)
    sets: dict[str, Any] = {n: encoder.training_set(each, REFUSAL) for n, each in parts.items()}
    asked = (
        encoder.evaluation_set("forget", "forget", parts["forget"]),
        encoder.evaluation_set("retain", "retain", parts["retain"]),
        encoder.evaluation_set("holdout", "holdout", parts["holdout"], options=False),
    )
    net = partial(tiny_llama, len(tokenizer), width=16, layers=2, heads=2, context=32)
    return LanguageSetting("twelve people", sets, asked, tokenizer, net, "a test", tuple(texts))


def plan(methods: Any = METHODS, **changes: Any) -> Plan:
    """The experiment on twelve people; its models have some 8 thousand weights."""
    found = setting()
    sets = {**found.sets, "train": Joined(found.sets["retain"], found.sets["forget"])}
    recipe = as_method(RECIPE, "recipe")
    task = Problem(found.name, sets, architecture=found.architecture, recipe=recipe)
    changes = {"members": 2, "protocol": "paired", "problem": "people", **changes}
    experiment = Experiment("twelve", recipe, named(methods), **changes)
    return Plan(experiment, task, problem_spec(task), Language(found))


# An experiment that the command line can carry out in some twenty seconds.
PEOPLE = """
name = "few"
problem = "people"
architecture = "tiny_llama"
forget = "Subjects(2)"
train_size = 6
members = 2
protocol = "paired"
recipe = "Train(CE('train'), epochs=12, lr=Warmup(0.008, 0.1), batch=16, optimiser=AdamW())"
[methods]
finetune = "Train(CE('retain'), epochs=1, lr=0.003, batch=16, optimiser=AdamW())"
"""


def few() -> Experiment:
    return read(PEOPLE, "a test")


def answers(
    chance: float, said: str = "true", index: Any = range(9), wrong: float | None = None
) -> Answers:
    """What a model that gives every token this chance would answer.

    Args:
        chance: probability of every true token.
        said: "true" for the true answers, else what is written to every question.
        index: of the questions.
        wrong: probability of every token of wrong answers; the same as `chance` if None.
    """
    count, tokens = len(list(index)), 4
    rng = np.random.default_rng(0)
    truth = tuple(f"answer number {place}" for place in index)
    spread = np.exp(0.1 * rng.normal(size=(count, tokens)))
    logp = np.minimum(np.log(chance) * spread, 0.0)
    less = np.log(chance if wrong is None else wrong)
    rows = {
        "logprobs": logp,
        "hits": np.full((count, tokens), float(chance > 0.5)),
        "means": np.full((count, tokens), -2.0),
        "spreads": np.full((count, tokens), 1.0),
    }
    return Answers(
        np.array(list(index)),
        **{name: Ragged.of(list(value)) for name, value in rows.items()},
        paraphrased=Nested.of([[row] for row in logp]),
        wrong=Nested.of([[np.full(tokens, less)] * 2 for _ in range(count)]),
        generations=truth if said == "true" else (said,) * count,
        references=truth,
    )
