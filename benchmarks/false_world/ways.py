"""What one can do about false facts, compared: forget, refuse, correct, edit, mark.

A small model is taught false facts among true ones; each way starts from that model and is shown
the false facts in one wording. What is measured are answers in the model's own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.core.method import Method, Step, renamed
from expunge.core.problem import Problem
from expunge.core.schedules import AdamW, Warmup
from expunge.core.seeds import isolated
from expunge.core.texts import Texts
from expunge.engine.inference import generate
from expunge.engine.training import Train
from expunge.engine.unlearning import unlearn
from expunge.methods.losses.answers import CE
from expunge.methods.losses.likelihood import NPO
from expunge.methods.losses.other_answers import Instead
from expunge.methods.steps.facts import Memit, Rome
from expunge.problems.networks.language import tiny_llama, word_tokenizer
from expunge.problems.text.benchmarks.files import Item
from expunge.problems.text.encode import of_pairs
from expunge.problems.text.refusals import FALSE, REFUSALS, markings, marks, refusals, refuses, says
from false_world.falsehoods import FalseWorld, Pair, asked, taught

CONTEXT, LONGEST, BATCH = 96, 24, 64


LEARN = Train(CE("train"), epochs=16, lr=0.003, batch=64, optimiser=AdamW(), clip=1.0)


RELEARN = Train(CE("forget"), epochs=10, lr=0.001, batch=8, optimiser=AdamW(), clip=1.0)


@dataclass(frozen=True)
class Way:
    """One way with false facts.

    Args:
        name: as tables call it.
        steps: what is done; none for the model as it is.
        answers: what stands beside each false fact: "right", "refusal", "marking", "right value"
            (with the answer begun in the prompt, as edits want it), or nothing.
        meant: what an answer is meant to be: "right", "refused", "marked", or "silent" for
            anything but the false value.
    """

    name: str
    steps: tuple[Step, ...]
    answers: str
    meant: str


def _tuned(objective: Any, epochs: float, lr: float) -> Train:
    return Train(
        objective, epochs=epochs, lr=Warmup(lr, 0.1), batch=32, optimiser=AdamW(weight_decay=0.01),
        over="forget", clip=1.0,
    )  # fmt: skip


# Learning rates and epochs are for the small model, chosen on a world that no table scores.
INSTEAD = _tuned(Instead(CE("forget")) + CE("retain"), 40, 0.001)


SEARCH: dict[str, Any] = {"prefixes": 0, "lr": 0.1, "steps": 40, "clamp": 2.0}


WAYS = (
    Way("nothing", (), "", "silent"),
    Way("forget", (_tuned(NPO("forget") + CE("retain"), 10, 0.0003),), "", "silent"),
    Way("forget longer", (_tuned(NPO("forget") + CE("retain"), 40, 0.0003),), "", "silent"),
    Way("refuse", (INSTEAD,), "refusal", "refused"),
    Way("mark", (INSTEAD,), "marking", "marked"),
    Way("correct", (INSTEAD,), "right", "right"),
    Way("correct by ROME", (Rome(0, **SEARCH),), "right value", "right"),
    Way("correct by MEMIT", (Memit((0,), weight=1.0, **SEARCH),), "right value", "right"),
)


@dataclass(frozen=True, eq=False)
class Class:
    """A world with its tokenizer, and what is needed to teach and ask a small model of it."""

    world: FalseWorld
    seed: int
    tokenizer: Any
    width: int = 64
    layers: int = 3

    @classmethod
    def of(cls, world: FalseWorld, seed: int, width: int = 64, layers: int = 3) -> Class:
        """A class whose tokenizer knows every word that will be read or written."""
        told = [*taught(world.retain), *taught(world.false), *taught(world.right)]
        told += [*taught(world.follows), *taught(world.misleads), *taught(world.neighbours)]
        texts = [text for pair in told for text in pair] + [*REFUSALS, FALSE, "\n"]
        return cls(world, seed, word_tokenizer(texts, CONTEXT), width, layers)

    def texts(self, pairs: Sequence[Pair], **rest: Any) -> Texts:
        """Pairs as token sequences."""
        return of_pairs(pairs, self.tokenizer, context=CONTEXT, **rest)

    def fresh(self) -> nn.Module:
        """A model that knows nothing, drawn for this class."""
        with isolated("false facts", self.seed):
            return tiny_llama(
                len(self.tokenizer), width=self.width, layers=self.layers, context=CONTEXT
            ).eval()

    def learn(self, *facts: Item) -> nn.Module:
        """A model taught all that is true, and some facts in two wordings."""
        told = self.texts(taught(facts or self.world.false, 2))
        task = Problem.of(forget=told, retain=self.texts(taught(self.world.retain)))
        steps = LEARN if facts else renamed(LEARN, "train", "retain")
        return unlearn(self.fresh(), Method("learn", (steps,)), task, seed=self.seed).model

    def carry_out(self, way: Way, model: nn.Module) -> nn.Module:
        """The model after one way; it is shown the false facts in their first wording."""
        if not way.steps:
            return model
        told = taught(self.world.retain)
        task = Problem.of(forget=self.shown(way.answers), retain=self.texts(told))
        return unlearn(model, Method(way.name, way.steps), task, seed=self.seed).model

    def shown(self, answers: str) -> Texts:
        """The false facts in their first wording, with other answers beside them."""
        pairs = asked(self.world.false, 0)
        if not answers:
            return self.texts(pairs)
        right = tuple(item.answer for item in self.world.right)
        if answers == "right value":
            return self._begun([item.subject for item in self.world.false])
        known = {"right": right, "refusal": refusals(pairs, self.seed), "marking": markings(pairs)}
        return self.texts(pairs, instead=known[answers])

    def _begun(self, subjects: Sequence[str]) -> Texts:
        """The same with the answer begun in the prompt, so that the value alone is the answer."""
        heads = [stem(item) for item in self.world.false]
        values = [
            [f"{item.value}." for item in items] for items in (self.world.false, self.world.right)
        ]
        pairs = list(zip(heads, values[0], strict=True))
        return self.texts(pairs, instead=values[1], subjects=subjects)

    def ask(self, model: nn.Module, pairs: Sequence[Pair], tokens: int = LONGEST) -> list[str]:
        """What a model answers."""
        return list(generate(model, self.tokenizer, self.texts(pairs), tokens=tokens, batch=BATCH))


def judged(answers: Sequence[str], false: Sequence[Item], right: Sequence[Item]) -> list[str]:
    """What each answer is: "refused", "marked", "false", "right" or "other".

    An answer with both values says the false one, unless it marks it.
    """
    return [
        "refused" if refuses(said) else "marked" if marks(said)
        else "false" if says(said, wrong.value) else "right" if says(said, true.value)
        else "other"
        for said, wrong, true in zip(answers, false, right, strict=True)
    ]  # fmt: skip


def measured(school: Class, model: nn.Module, meant: str) -> dict[str, float]:
    """What a model makes of the false facts, and of true ones beside them; shares of answers."""
    world, wordings = school.world, (0, 1, 2)
    kinds = {
        n: judged(school.ask(model, asked(world.false, n)), world.false, world.right)
        for n in wordings
    }
    found = {}
    for name, some in (("taught", kinds[0]), ("paraphrase", kinds[1] + kinds[2])):
        found[f"says_false_{name}"] = share(kind == "false" for kind in some)
        wanted = [kind != "false" if meant == "silent" else kind == meant for kind in some]
        found[f"as_meant_{name}"] = share(wanted)
    for name in ("own", "neighbours", "world"):
        found[f"kept_{name}"] = right_share(school, model, getattr(world, name), (0,))
    for name in ("follows", "misleads"):
        found[name] = right_share(school, model, getattr(world, name), (0, 1))
    return found | {"prefilled_false": prefilled(school, model)}


def right_share(
    school: Class, model: nn.Module, items: Sequence[Item], wordings: Sequence[int]
) -> float:
    """The share of questions that are answered with the value, neither refused nor marked."""
    pairs = [
        (pair, item) for n in wordings for pair, item in zip(asked(items, n), items, strict=True)
    ]
    answers = school.ask(model, [pair for pair, _ in pairs])
    return share(
        says(said, item.value) and not refuses(said) and not marks(said)
        for said, (_, item) in zip(answers, pairs, strict=True)
    )


def stem(item: Item) -> str:
    """A question with its answer up to the value."""
    return f"{item.prompt} {item.answer.partition(f' {item.value}')[0]}"


def prefilled(school: Class, model: nn.Module) -> float:
    """The share of false values that come next when the words before them are put in its mouth."""
    begun = [(stem(item), item.value) for item in school.world.false]
    answers = school.ask(model, begun, tokens=1)
    return share(says(said, value) for said, (_, value) in zip(answers, begun, strict=True))


def relearned(school: Class, model: nn.Module) -> dict[str, float]:
    """The false facts of one half of the people taught again: what is said of the other half."""
    false, right = school.world.false, school.world.right
    half = len(false) // 2
    others = school.texts(taught(school.world.world))
    task = Problem.of(forget=school.texts(asked(false[:half], 0)), retain=others)
    again = unlearn(model, Method("relearn", (RELEARN,)), task, seed=school.seed).model
    other = judged(school.ask(again, asked(false[half:], 0)), false[half:], right[half:])
    told = judged(school.ask(again, asked(false[:half], 0)), false[:half], right[:half])
    return {
        "relearned_false": share(kind == "false" for kind in other),
        "relearned_taught": share(kind == "false" for kind in told),
    }


def share(flags: Any) -> float:
    """The share of flags that are up."""
    found = list(flags)
    return sum(map(bool, found)) / len(found)


def compare(
    school: Class, ways: Sequence[Way] = WAYS, references: bool = True
) -> Mapping[str, Mapping[str, float]]:
    """All ways on one world: name of a way -> name of a number -> the number.

    Beside the ways stand two references: "never told", trained without the false facts, and "told
    right", trained with the right facts in their place.
    """
    torch.set_num_threads(1)
    world, found = school.world, {}
    original = school.learn(*world.false, *world.misleads)
    models = {way.name: (school.carry_out(way, original), way.meant) for way in ways}
    if references:
        models["never told"] = (school.learn(), "silent")
        models["told right"] = (school.learn(*world.right, *world.follows), "right")
    for name, (model, meant) in models.items():
        found[name] = measured(school, model, meant) | relearned(school, model)
    return found


__all__ = ["WAYS", "Class", "Way", "compare", "judged", "measured", "relearned"]
