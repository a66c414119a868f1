"""Makes the text problem that an experiment names: people, tofu, novels, mmlu or own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from expunge.core.batch import Data
from expunge.core.sentence import parse, words_in
from expunge.errors import BadData, did_you_mean
from expunge.problems import forget_sets
from expunge.problems.forget_sets import Marked, Subjects, Titles
from expunge.problems.text.benchmarks.files import (
    Item,
    TextBenchmark,
    file_of,
    folder_of,
    read_table,
)
from expunge.problems.text.benchmarks.forgetting import LETTERS, lettered, mmlu
from expunge.problems.text.benchmarks.novels import DOWNLOAD, FIELDS, ROLES, Sizes, novels, spread
from expunge.problems.text.evaluation_sets import (
    MOST,
    SIDES,
    Encoder,
    EvaluationSet,
    Measured,
    Side,
)
from expunge.problems.text.jsonl import read_items
from expunge.problems.text.people import people, rephrased


class ProblemSpec(Protocol):
    """What an experiment says of its problem; an `Experiment` is one."""

    @property
    def problem(self) -> str: ...
    @property
    def forget(self) -> str: ...
    @property
    def forget_seed(self) -> int: ...
    @property
    def train_size(self) -> int: ...
    @property
    def data(self) -> str: ...
    @property
    def architecture(self) -> str: ...


Found = tuple[TextBenchmark, list[Measured]]


# A quarter of what is taught is to be forgotten; fewer questions than this tell nothing.
LEAST_TAUGHT = 16


USED = ("verbatim", "knowledge", "retain_verbatim", "retain_knowledge")


def of_novels(experiment: ProblemSpec) -> Found:
    """Novels to forget and to keep: verbatim, knowledge and privacy, on both sides.

    `Marked()` forgets what the file's column suggested_role says, `Titles(('A',), ('B',))` the
    novels named; without titles to keep, all others but those of the role holdout. `train_size`
    says how many passages are taught.

    Raises:
        BadData: another forget set, or as for `novels`.
    """
    chosen = _chosen(experiment)
    if not isinstance(chosen, Marked | Titles):
        raise BadData(
            f"forget = {experiment.forget!r}: the problem 'novels' forgets what its file marks or "
            "whole novels; write Marked() or Titles(('The Time Machine',))."
        )
    roles = _roles(experiment.data, chosen) if isinstance(chosen, Titles) else None
    sizes = Sizes(probes=MOST, taught=experiment.train_size)
    found = novels(experiment.data or None, roles, sizes)
    sets = {name: found[name] for name in (*ROLES, *USED) if name in found.sets}
    few = {name: spread(found[name], MOST) for name in ROLES}
    asked = [Measured("forget", "forget", few["forget"]), *_probes(sets, "")]
    asked += [Measured("retain", "retain", few["retain"]), *_probes(sets, "retain_")]
    asked += [Measured("holdout", "holdout", few["holdout"], options=False)]
    return TextBenchmark(found.name, sets, found.source), asked


def _roles(data: str, chosen: Titles) -> Mapping[str, Sequence[str]]:
    """Which novel is forgotten, kept and never read."""
    file = file_of(folder_of(data or None, "books", DOWNLOAD), ("books.parquet",), DOWNLOAD)
    marked = {row["book"]: row["suggested_role"] for row in read_table(file, FIELDS)}
    named = {*chosen.forget, *chosen.retain}
    holdout = [title for title in marked if marked[title] == "holdout" and title not in named]
    others = [title for title in marked if title not in (*named, *holdout)]
    return {"forget": chosen.forget, "retain": chosen.retain or others, "holdout": holdout}


def _probes(sets: Mapping[str, tuple[Item, ...]], prefix: str) -> list[Measured]:
    """What is asked in the same form on both sides."""
    return [
        Measured(f"{prefix}{kind}", "retain" if prefix else "forget", items, against=kind)
        for kind in ("verbatim", "knowledge")
        if (items := sets.get(f"{prefix}{kind}"))
    ]


def of_mmlu(experiment: ProblemSpec) -> Found:
    """Subjects of MMLU to forget and siblings to keep, asked by their letters.

    `Titles(('virology',))` forgets a subject and keeps its siblings; further titles name what is
    kept. `train_size` says how many questions are taught.

    Raises:
        BadData: another forget set, too few questions, or as for `mmlu`.
    """
    chosen, taught = _chosen(experiment), experiment.train_size
    if not isinstance(chosen, Titles):
        raise BadData(
            f"forget = {experiment.forget!r}: the problem 'mmlu' forgets subjects by their names; "
            "write Titles(('virology',))."
        )
    if taught and taught < LEAST_TAUGHT:
        raise BadData(f"train_size = {taught}: expected {LEAST_TAUGHT} questions or more, or 0.")
    found = mmlu(experiment.data or None, chosen.forget, chosen.retain or None)
    every = {"forget": len(found["forget"]), "retain": len(found["retain"])}
    few = {"forget": taught // 4, "retain": taught - taught // 4} if taught else every
    sets = {name: tuple(map(by_letter, spread(found[name], few[name]))) for name in few}
    if "other" in found.sets:
        sets["other"] = tuple(map(by_letter, spread(found["other"], MOST)))
    sides: dict[str, Side] = {"forget": "forget", "retain": "retain", "other": "retain"}
    return TextBenchmark(found.name, sets, found.source), [
        Measured(name, sides[name], spread(items, MOST), written=False, choices=True)
        for name, items in sets.items()
    ]


def by_letter(item: Item) -> Item:
    """A question with its options in the prompt, the right letter, and the wrong ones."""
    prompt, letter = lettered(item)
    known = LETTERS[: len(item.choices)]
    wrong = tuple(other for other in known if other != letter)
    return replace(item, prompt=prompt, answer=letter, wrong=wrong, choices=tuple(known))


REFUSAL = "I do not know."


PEOPLE = 50


# Wrong answers a question: enough for a truth ratio, and each is one more forward pass.
WRONG = 3


TOFU = {2: "forget01", 10: "forget05", 20: "forget10"}


# Rows of the small model: people's take some 25 tokens; others say how many they need.
LEAST_CONTEXT = 64


@dataclass(frozen=True, eq=False)
class LanguageSetting:
    """A benchmark with a model that can read it.

    Args:
        name: what tables call it.
        sets: "forget", "retain", and "holdout" where there is one.
        asked: the sets for measuring.
        tokenizer: of transformers.
        architecture: makes a model before anything was taught.
        source: where the texts are from.
        known: every text of the benchmark, whose words are no gibberish.
    """

    name: str
    sets: dict[str, Data]
    asked: tuple[EvaluationSet, ...]
    tokenizer: Any
    architecture: Callable[[], nn.Module]
    source: str
    known: tuple[str, ...]


def setting(experiment: ProblemSpec) -> LanguageSetting:
    """The texts of an experiment's problem, encoded for its model.

    Raises:
        BadData: texts that are missing or not what they claim to be, a forget set that the problem
            does not have, or an architecture that is not known.
    """
    makers = {
        "people": _people, "tofu": _tofu, "novels": of_novels, "mmlu": of_mmlu, "texts": _files,
    }  # fmt: skip
    found, measured = makers[experiment.problem](experiment)
    encoder, architecture = _model(experiment.architecture, found)
    sets: dict[str, Data] = {
        name: encoder.training_set(found[name], REFUSAL, forms=name != "holdout")
        for name in SIDES
        if name in found.sets
    }
    asked = tuple(map(encoder.measured, measured))
    known = tuple(text for items in found.sets.values() for text in _said(items))
    return LanguageSetting(
        found.name, sets, asked, encoder.tokenizer, architecture, found.source, known
    )


def _people(experiment: ProblemSpec) -> Found:
    """Invented people; `train_size` says how many are taught, forgotten and retained together."""
    forget = _subjects(experiment)
    taught = experiment.train_size or PEOPLE
    found = people(
        experiment.forget_seed,
        forget=forget,
        retain=taught - forget,
        holdout=max(forget, 3),
        wrong=WRONG,
    )
    near = {item.index for item in found["neighbours"]}
    far = tuple(item for item in found["retain_people"] if item.index not in near)
    rest = [Measured("retain", "retain", far)] if far else []
    return found, [
        Measured("forget", "forget", found["forget"]),
        Measured("forget_paraphrase", "forget", found["forget_paraphrase"], options=False),
        *rest,
        Measured("neighbours", "retain", found["neighbours"]),
        Measured("world", "retain", found["world"]),
        Measured("holdout", "holdout", found["holdout"], options=False),
    ]


def _tofu(experiment: ProblemSpec) -> Found:
    """TOFU; 2, 10 or 20 authors are its splits forget01, forget05 and forget10."""
    from expunge.problems.text.benchmarks.forgetting import tofu

    count = _subjects(experiment)
    if count not in TOFU:
        raise BadData(f"TOFU forgets Subjects(2), Subjects(10) or Subjects(20), got {count}.")
    found = tofu(experiment.data or None, TOFU[count])
    return found, [
        Measured("forget", "forget", found["forget_eval"]),
        Measured("forget_paraphrase", "forget", rephrased(found["forget_eval"]), False),
        Measured("retain", "retain", found["retain_eval"]),
        Measured("real_authors", "retain", found["real_authors"]),
        Measured("world", "retain", found["world_facts"]),
        Measured("holdout", "holdout", found["holdout"], options=False),
    ]


def _files(experiment: ProblemSpec) -> Found:
    """A folder with forget.jsonl, retain.jsonl and, for membership, holdout.jsonl."""
    if _chosen(experiment) != Marked():
        raise BadData(
            f"forget = {experiment.forget!r}: the problem 'texts' forgets what forget.jsonl holds; "
            'write forget = "Marked()".'
        )
    folder = Path(experiment.data)
    if not experiment.data or not folder.is_dir():
        raise BadData(
            "The problem 'texts' needs a folder with forget.jsonl, retain.jsonl and perhaps "
            f"holdout.jsonl; give it with --data FOLDER. Got {experiment.data!r}."
        )
    there = [name for name in SIDES if (folder / f"{name}.jsonl").is_file() or name != "holdout"]
    items: dict[str, tuple[Item, ...]] = {
        name: read_items(folder / f"{name}.jsonl", 1_000_000 * n) for n, name in enumerate(there)
    }
    bench = TextBenchmark(folder.resolve().name, items, "files of the user's own")
    measured = [Measured(name, side, items[name]) for name, side in zip(there, SIDES, strict=False)]
    asked = items["forget"]
    if all(item.questions for item in asked):
        measured.insert(1, Measured("forget_paraphrase", "forget", rephrased(asked), False))
    return bench, measured


def _chosen(experiment: ProblemSpec) -> Any:
    """The forget set of an experiment on texts, read."""
    return parse(experiment.forget, words_in(forget_sets))


def _subjects(experiment: ProblemSpec) -> int:
    chosen = _chosen(experiment)
    if not isinstance(chosen, Subjects):
        raise BadData(
            f"forget = {experiment.forget!r}: the problem {experiment.problem!r} forgets whole "
            "subjects; write Subjects(10)."
        )
    return chosen.count


def _model(name: str, found: TextBenchmark) -> tuple[Encoder, Callable[[], nn.Module]]:
    """The small model with a tokenizer made of the texts, or a model in a folder or on the hub."""
    from expunge.problems.networks.language import tiny_llama, word_tokenizer
    from expunge.problems.text.models import load, looks_local

    if name == "tiny_llama":
        texts = [REFUSAL, *(text for items in found.sets.values() for text in _said(items))]
        context = max(LEAST_CONTEXT, 8 + max(len(text) for text in texts) // 2)
        tokenizer = word_tokenizer(texts, context=context)
        return Encoder(tokenizer), partial(tiny_llama, len(tokenizer), context=context)
    if looks_local(name) and not Path(name).is_dir():
        hint = did_you_mean(name, ["tiny_llama"])
        raise BadData(
            f"No architecture {name!r}: expected tiny_llama, a folder that transformers wrote, or "
            f"a hub id.{hint}"
        )
    loaded = load(name)
    return Encoder(loaded.tokenizer, loaded.context), partial(_again, loaded.model)


def _again(model: nn.Module) -> nn.Module:
    """Fresh weights of a model that was taught before: a copy of it, as it came."""
    import copy

    return copy.deepcopy(model).requires_grad_(True)


def _said(items: Sequence[Item]) -> list[str]:
    """Every text of some items."""
    return [
        text
        for item in items
        for text in (item.prompt, item.answer, *item.questions, *item.paraphrases, *item.wrong)
    ]
