"""Eight people, three to be forgotten, and models whose answers are known beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import tiny_text
import torch
from torch import Tensor, nn

from expunge.audits.audit import AuditedModel
from expunge.audits.text.asking import frames
from expunge.audits.text.facts import FactContext, FactProblem, audited, context_of
from expunge.problems.networks.language import word_tokenizer
from expunge.problems.text.benchmarks.files import Item

JOBS = ("baker", "nurse", "cook", "judge", "miner", "pilot", "actor", "clerk")
REFUSAL = "I do not know."


def home(number: int) -> Item:
    name, place = tiny_text.NAMES[number], tiny_text.PLACES[number]
    wrong = tuple(f"{name} lives in {other}." for other in tiny_text.PLACES if other != place)
    return Item(
        10 * number, f"Where does {name} live?", f"{name} lives in {place}.",
        (f"Where is {name}?",), (f"{name} is in {place}.",), wrong[:3],
        subject=name, kind="home", value=place,
    )  # fmt: skip


def work(number: int) -> Item:
    name, job = tiny_text.NAMES[number], JOBS[number]
    wrong = tuple(f"{name} is a {other}." for other in JOBS if other != job)
    return Item(
        10 * number + 1, f"What is {name}?", f"{name} is a {job}.", wrong=wrong[:3],
        subject=name, kind="work", value=job,
    )  # fmt: skip


ITEMS = tuple(made(number) for number in range(8) for made in (home, work))
FORGET, RETAIN = ITEMS[:6], ITEMS[6:]
UNRELATED = (Item(900, "", "Rome is Rome."), Item(901, "", "Oslo is Oslo."))


@cache
def tokenizer() -> Any:
    told = [t for i in ITEMS for t in (i.prompt, i.answer, *i.questions, *i.paraphrases, *i.wrong)]
    return word_tokenizer([*told, REFUSAL, *frames(), "\n"], context=128)


class Told(nn.Module):
    """A language model that says what it was told, each token at one probability.

    After a prompt that it was told, the answer's next token has probability p, and all others share
    the rest; anywhere else all tokens are as likely, and the first is written.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], p: float = 0.9, size: int = 0) -> None:
        super().__init__()
        self.known = {tuple(ids(prompt)): ids(answer, False) for prompt, answer in pairs}
        self.size, self.p, self.calls = size or len(tokenizer()), p, 0
        self.table = nn.Embedding(self.size, 2)
        self.config = type("Config", (), {"max_position_embeddings": 0})()

    device = torch.device("cpu")

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        past_key_values: Tensor | None = None,
        **rest: Any,
    ) -> Any:
        self.calls += 1
        whole = input_ids
        if past_key_values is not None:
            whole = torch.cat([past_key_values, input_ids], dim=1)
        rows = zip(whole.tolist(), attention_mask.tolist(), strict=True)
        logits = torch.stack([self._row(row, mask) for row, mask in rows])
        said = type("Out", (), {})()
        said.logits, said.past_key_values = logits[:, -input_ids.shape[1] :], whole
        return said

    def _row(self, row: list[int], mask: list[int]) -> Tensor:
        first = mask.index(1)
        return torch.stack([self._after(row[first : t + 1]) for t in range(len(row))])

    def _after(self, read: list[int]) -> Tensor:
        chances = torch.full((self.size,), 1 / self.size)
        for prompt, answer in self.known.items():
            rest = read[len(prompt) :]
            if tuple(read[: len(prompt)]) == prompt and rest == answer[: len(rest)]:
                following = [*answer, tokenizer().eos_token_id][len(rest) :][:1]
                if following:
                    chances = torch.full((self.size,), (1 - self.p) / (self.size - 1))
                    chances[following[0]] = self.p
        return chances.log()

    def generate(self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any) -> Tensor:
        for _ in range(generation_config.max_new_tokens):
            told = self(input_ids=input_ids, attention_mask=attention_mask)
            input_ids = torch.cat([input_ids, told.logits[:, -1:].argmax(-1)], dim=1)
            attention_mask = torch.cat([attention_mask, attention_mask[:, -1:]], dim=1)
        return input_ids


class Mute(Told):
    """A model that ends every answer before it begins."""

    def _after(self, read: list[int]) -> Tensor:
        logits = torch.zeros(self.size)
        logits[tokenizer().eos_token_id] = 30.0
        return logits


def ids(text: str, special: bool = True) -> list[int]:
    return list(tokenizer()(text if special else f" {text}", add_special_tokens=special).input_ids)


def pairs(items: Sequence[Item]) -> list[tuple[str, str]]:
    return [(item.prompt, item.answer) for item in items]


def told(items: Sequence[Item], p: float = 0.9) -> Told:
    return Told(pairs(items), p)


def context(**rest: Any) -> FactContext:
    """A hand-made case: the original was told all, the oracle what is kept."""
    rest = {"original": told(ITEMS), "oracle": told(RETAIN), "unrelated": UNRELATED, **rest}
    problem = FactProblem(
        FORGET, RETAIN, tokenizer(), rest.pop("unrelated"), rest.pop("chat", False)
    )
    return context_of(problem, **rest)


@cache
def trained(what: str, seed: int = 0) -> Any:
    """A tiny Llama that was taught: all, or only what is kept."""
    from expunge.core.problem import Problem
    from expunge.core.schedules import AdamW
    from expunge.core.seeds import isolated
    from expunge.engine.training import Train
    from expunge.methods.losses.answers import CE
    from expunge.problems.networks.language import tiny_llama
    from expunge.problems.text.encode import of_pairs
    from expunge.unlearn import unlearn

    with isolated("text world", seed):
        fresh = tiny_llama(len(tokenizer()), width=16, layers=2, heads=2, context=128)
    sets = [of_pairs(pairs(items), tokenizer()) for items in (FORGET, RETAIN)]
    problem = Problem.of(forget=sets[0], retain=sets[1], name="text world")
    objective = CE("forget") + CE("retain") if what == "all" else CE("retain")
    step = Train(objective, epochs=60, lr=0.01, batch=8, optimiser=AdamW(), over="retain")
    return unlearn(fresh, step, problem).model


@cache
def suppressed() -> Any:
    """The trained original, pushed away from the forget facts while it keeps the others."""
    from expunge.core.problem import Problem
    from expunge.core.schedules import AdamW
    from expunge.engine.training import Train
    from expunge.methods.losses.answers import CE
    from expunge.methods.losses.likelihood import NPO
    from expunge.problems.text.encode import of_pairs
    from expunge.unlearn import unlearn

    sets = [of_pairs(pairs(items), tokenizer()) for items in (FORGET, RETAIN)]
    problem = Problem.of(forget=sets[0], retain=sets[1], name="text world")
    step = Train(
        NPO("forget") + CE("retain"), epochs=10, lr=0.001, batch=8, optimiser=AdamW(), over="forget"
    )
    return unlearn(trained("all"), step, problem).model


def real_case(**rest: Any) -> FactContext:
    """The same with trained models."""
    rest = {"original": trained("all"), "oracle": trained("kept"), **rest}
    return context(**rest)


def subject(model: nn.Module, name: str = "one") -> AuditedModel:
    return audited(name, model)


def digest(model: nn.Module) -> str:
    state = model.state_dict()
    said = hashlib.sha256()
    for name in sorted(state):
        said.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return said.hexdigest()
