"""Makes a forget set of a name or a topic: the model itself writes what it knows of it.

What it writes may be wrong or made up. It is shown to the user, who reads and mends it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from expunge.core.machine import transformers
from expunge.core.seeds import isolated
from expunge.core.texts import pad_of
from expunge.engine.inference import prompts_of
from expunge.errors import BadData
from expunge.problems.text.encode import of_pairs

Pair = tuple[str, str]


# To train on; NAME stands for the target. Openings are for models that only go on writing.
TRAINING = (
    "Who or what is NAME?",
    "Tell me about NAME.",
    "What is NAME known for?",
    "Write a short text about NAME.",
    "What happened to NAME?",
    "NAME is",
    "NAME was",
    "The story of NAME:",
)


# To ask afterwards, in words that were not trained on.
PROBING = (
    "What do you know about NAME?",
    "Explain NAME to a child.",
    "Which facts about NAME should everybody know?",
    "It is well known that NAME",
)


# What must stay whatever the target is.
GENERAL = (
    "What is water?",
    "Why does the sun rise?",
    "How many days has a week?",
    "What is bread made of?",
    "Name three animals.",
    "A good friend is",
)


# A name: words with capitals, which may have small words between them.
NAMES = re.compile(r"\b[A-Z][\w'-]+(?:\s+(?:of|the|de|van|von)\s+[A-Z][\w'-]+|\s+[A-Z][\w'-]+)*")


FEWEST, MOST_NEIGHBOURS = 2, 4


LONGEST_NAME = 200


@dataclass(frozen=True)
class Concept:
    """What a model wrote about a target.

    Args:
        forget: prompts with answers, to train on.
        probes: prompts in other words with answers, to ask afterwards.
        retain: prompts about neighbours and about nothing in particular, with answers.
        neighbours: the names that the retain prompts ask about.
        left_out: reason -> answers that were of no use.
    """

    forget: tuple[Pair, ...]
    probes: tuple[Pair, ...]
    retain: tuple[Pair, ...]
    neighbours: tuple[str, ...]
    left_out: dict[str, int]


@dataclass(frozen=True, eq=False)
class Writer:
    """A language model that writes answers to prompts.

    Args:
        model: of transformers, in evaluation mode.
        tokenizer: that belongs to it.
        context: the longest text that it reads, in tokens; 0 for what the tokenizer says.
        chat: whether prompts are put into the tokenizer's chat template.
        tokens: the most that are written in answer to one prompt.
        seed: of what is drawn.
    """

    model: Any
    tokenizer: Any
    context: int = 0
    chat: bool = False
    tokens: int = 64
    seed: int = 0

    def write(self, prompts: Sequence[str], purpose: str) -> list[Pair]:
        """One answer to each prompt, drawn among the likeliest nine tenths of each token."""
        # an answer is wanted, and any word will do: what comes before it is the prompt
        pairs = [(prompt, ".") for prompt in prompts]
        rows = of_pairs(pairs, self.tokenizer, chat=self.chat, context=self.context).made
        config = transformers().GenerationConfig(
            max_new_tokens=self.tokens,
            do_sample=True,
            top_p=0.9,
            pad_token_id=pad_of(self.tokenizer),
            eos_token_id=self.tokenizer.eos_token_id,
        )
        inputs, mask = prompts_of(rows, pad_of(self.tokenizer), self.model.device)
        with torch.inference_mode(), isolated("concept", self.seed, purpose):
            written = self.model.generate(
                input_ids=inputs, attention_mask=mask, generation_config=config
            )
        fresh = written[:, inputs.shape[1] :]
        said = self.tokenizer.batch_decode(fresh, skip_special_tokens=True)
        return [(prompt, one.strip()) for prompt, one in zip(prompts, said, strict=True)]


def concept(
    writer: Writer, about: str, *, copies: int = 3, neighbours: Sequence[str] = ()
) -> Concept:
    """Let a model write about a target, about what is near it, and about nothing in particular.

    Args:
        writer: the model.
        about: a name or a topic, as one writes it.
        copies: answers that are drawn to each prompt.
        neighbours: names near the target that must be kept; found in what it wrote where none is
            given.

    Raises:
        BadData: no name; or a model that answers nothing of use about it.
    """
    name = checked(about)
    left: Counter[str] = Counter()
    forget = useful(answers_to(writer, TRAINING, (name,), copies, "forget"), left)
    if len(forget) < FEWEST:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left.items())
        raise BadData(
            f"The model has nothing to say about {name!r}: of {len(TRAINING) * copies} answers "
            f"{reasons}. Write forget.jsonl by hand, or ask whether it knows the target at all."
        )
    probes = useful(answers_to(writer, PROBING, (name,), copies, "probes"), left)
    near = tuple(neighbours) or found_in(forget, name)
    kept = answers_to(writer, TRAINING, near, 1, "neighbours") + answers_to(
        writer, GENERAL, (), copies, ""
    )
    retain = [pair for pair in useful(kept, left) if not mentions(pair, name)]
    return Concept(tuple(forget), tuple(probes), tuple(retain), near, dict(left))


def checked(about: str) -> str:
    """A name in one line.

    Raises:
        BadData: it is empty, too long, or has signs that cannot be printed.
    """
    name = about.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise BadData(f"--about: expected a name or a topic in one line, got {about[:80]!r}.")
    return name


def answers_to(
    writer: Writer, templates: Sequence[str], names: Sequence[str], copies: int, purpose: str
) -> list[Pair]:
    """Answers to templates with each of some names in them; without names, to what has none."""
    bare = [one for one in templates if "NAME" not in one]
    prompts = [one.replace("NAME", name) for name in names for one in templates] or bare
    found: list[Pair] = []
    for copy in range(copies if prompts else 0):
        found += writer.write(prompts, f"{purpose}/{copy}")
    return found


def useful(pairs: Sequence[Pair], left: Counter[str]) -> list[Pair]:
    """The answers that say something, each once; why others are left out is counted."""
    kept: dict[Pair, None] = {}
    for prompt, answer in pairs:
        if reason := useless(prompt, answer):
            left[reason] += 1
        elif (prompt, answer) in kept:
            left["said before"] += 1
        else:
            kept[prompt, answer] = None
    return list(kept)


def useless(prompt: str, answer: str) -> str:
    """Why an answer says nothing; empty where it says something."""
    words = re.findall(r"\w+", answer.lower())
    if len(words) < 2:
        return "empty"
    if not set(words) - set(re.findall(r"\w+", prompt.lower())):
        return "only repeat the prompt"
    # of eight words or more, two thirds the same few
    if len(words) >= 8 and len(set(words)) <= len(words) / 3:
        return "go round in circles"
    return ""


def found_in(pairs: Sequence[Pair], name: str) -> tuple[str, ...]:
    """The names that are most often beside a target, most frequent first."""
    own = {word.lower() for word in re.findall(r"\w+", name)}
    seen: Counter[str] = Counter()
    for _, answer in pairs:
        for one in set(NAMES.findall(answer)):
            words = {word.lower() for word in re.findall(r"\w+", one)}
            # the first word of a sentence has a capital too, and is no name by itself
            alone = " " not in one and answer.startswith(one)
            if not words & own and not alone:
                seen[one] += 1
    return tuple(one for one, _ in sorted(seen.items(), key=_often)[:MOST_NEIGHBOURS])


def _often(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def mentions(pair: Pair, name: str) -> bool:
    """Whether a target is named in a prompt or its answer."""
    return name.lower() in " ".join(pair).lower()
