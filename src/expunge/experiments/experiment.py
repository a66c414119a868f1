"""An experiment file: a problem, seeds, and methods as sentences, in TOML; no code is run."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from expunge.audits.images.classifier_audit import ClassifierAudit
from expunge.audits.panel import asked, audit_words, check_audits
from expunge.core import sentence
from expunge.core.method import Method
from expunge.core.sentence import Words, words_in
from expunge.core.store import LONGEST_TITLE, is_title
from expunge.engine.training import Train, unrolled
from expunge.errors import BadData, BadSentence, did_you_mean
from expunge.methods.published.article import nothing
from expunge.methods.sentences import as_method, method_words
from expunge.problems import forget_sets
from expunge.problems.forget_sets import CoherentGroup, Given, Mislabelled, RandomShare, WholeClass
from expunge.problems.images import canaries
from expunge.problems.images import canaries as memorised
from expunge.problems.images.canaries import Canaries, Memorised, PatternCanaries, WorstCase


@cache
def all_words() -> Words:
    """Every word that a sentence may use, by name."""
    return {
        **method_words(),
        **words_in(forget_sets, canaries, memorised),
        **audit_words(),
    }


def parse(text: str) -> Any:
    """Read a step, steps, a term, a selector, a whole Method, a forget set or an audit.

    Raises:
        BadSentence: a name that is not known (with the nearest one that is), an operation that is
            not part of the grammar, or arguments that a word does not take.
    """
    return sentence.parse(text, all_words())


PROTOCOLS = ("challenge", "paired")


LARGEST_FILE = 1_000_000


RESERVED = ("retrain", "nothing")


# Seeds of two experiments stay apart, and every one of them is a whole number of 64 bits.
MOST_MEMBERS = 1_000_000


LARGEST_SEED = 1_000_000_000_000


CHOOSERS = (
    RandomShare,
    WholeClass,
    Given,
    CoherentGroup,
    Mislabelled,
    Canaries,
    PatternCanaries,
    Memorised,
    WorstCase,
)


# Chosen by what shadow models answer, and so not before there are some.
BY_SHADOWS = (Memorised, WorstCase)


# Half of them knew an example: fewer than 8 a side order examples mostly by chance.
FEWEST_SHADOWS = 16


@dataclass(frozen=True)
class Experiment:
    """Everything that an experiment is, as an experiment file says it.

    Args:
        name: what the report is called.
        recipe: how a model is trained, a sentence on the set "train".
        methods: what is compared; the controls `retrain` and `nothing` are always added.
        problem: "digits", "cifar10" or "image-folder"; of texts "people", "tofu", "novels", "mmlu"
            or "texts".
        architecture: "digits_net", "convnet", "resnet9" or "resnet18".
        forget: the forget set, a sentence such as "RandomShare(0.1)" or "WholeClass(3)".
        forget_seed: draws the forget set.
        protocol: "challenge" (one original, N unlearning seeds) or "paired" (N originals, each
            unlearned once).
        members: N, of oracles and of unlearned models by each method.
        seed: draws the members.
        shadows: models trained on random halves of the training set, for attacks on single
            examples; 0 for none, an even number otherwise.
        audits: sentences, run on the weights of each method and control; "standard" means the usual
            ones. None unless named: they cost time.
        audited: models of each kind that audits measure, at most as many as there are.
        rule: "released" (comparable with published scores) or "exact" (stricter, its own scale).
        train_size: a subset of the training set; 0 for all of it.
        image_size: pixels a side for `image-folder`; 0 for the images' own.
        data: folder of the data, where the problem needs one.
    """

    name: str
    recipe: Method
    methods: tuple[Method, ...]
    problem: str = "digits"
    architecture: str = "digits_net"
    forget: str = "RandomShare(0.1)"
    forget_seed: int = 0
    protocol: str = "challenge"
    members: int = 128
    seed: int = 0
    shadows: int = 0
    audits: tuple[ClassifierAudit, ...] = ()
    audited: int = 8
    rule: str = "released"
    train_size: int = 0
    image_size: int = 0
    data: str = ""

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, PROTOCOLS)
        _one_of("rule", self.rule, ("released", "exact"))
        if not 2 <= self.members <= MOST_MEMBERS:
            raise BadSentence(
                f"members = {self.members}: expected 2 to {MOST_MEMBERS}; 16 or more can rank."
            )
        if not 0 <= self.shadows <= MOST_MEMBERS or self.shadows % 2:
            raise BadSentence(
                f"shadows = {self.shadows}: expected an even number, 0 to {MOST_MEMBERS}; shadow "
                "models come in pairs with opposite halves of the training set."
            )
        if abs(self.seed) > LARGEST_SEED:
            raise BadSentence(f"seed = {self.seed}: expected a number up to {LARGEST_SEED}.")
        if self.train_size < 0:
            raise BadSentence(
                f"train_size = {self.train_size}: expected a number of training examples, or 0 for "
                "all of them."
            )
        if not is_title(self.name):
            raise BadSentence(
                f"name = {self.name[:80]!r}: expected printable signs without '/', "
                f"{LONGEST_TITLE} bytes at most."
            )
        check_audits(self.audits, self.audited)
        _check_recipe(self.recipe)
        names = [method.name for method in self.methods]
        for name in names:
            if names.count(name) > 1 or name in RESERVED:
                why = "is a control of every experiment" if name in RESERVED else "is there twice"
                raise BadSentence(f"A method called {name!r} {why}; give it another name.")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The members' seeds: those of two experiments with other base seeds never meet."""
        first = self.seed * MOST_MEMBERS
        return tuple(range(first, first + self.members))

    @property
    def shadow_seeds(self) -> tuple[int, ...]:
        """The seeds of the shadow models: pairs with opposite halves."""
        return tuple(range(self.seeds[0], self.seeds[0] + self.shadows))

    @property
    def compared(self) -> tuple[Method, ...]:
        """The methods and the control that does nothing."""
        return (nothing, *self.methods)


def load(source: str) -> Experiment:
    """Read an experiment by the name of one that is shipped, or from a file.

    Raises:
        BadSentence: the file is no TOML, has an unknown key, or a sentence that cannot be read.
    """
    return read(text_of(source), source)


def load_all(source: str) -> tuple[Experiment, ...]:
    """Read an experiment, or the experiments that a suite names: `experiments = ["a", "b.toml"]`.

    `{ like = "a", name = "c", forget = "WholeClass(3)" }` is the experiment a with other keys.

    Raises:
        BadSentence: as for `load`; or a suite that names none, itself, or another suite.
    """
    text = text_of(source)
    table = parsed(text, source)
    if "experiments" not in table:
        return (read(text, source),)
    named = table["experiments"]
    if set(table) != {"experiments"} or not isinstance(named, list) or not named:
        raise BadSentence(f"{source}: a suite holds one key, experiments = [names or files].")
    beside = Path(source).parent if source not in shipped() else Path()
    found = [_of_suite(source, beside, entry) for entry in named]
    names = [experiment.name for experiment in found]
    for name in names:
        if names.count(name) > 1:
            raise BadSentence(f"{source}: two of its experiments are called {name!r}.")
    return tuple(found)


def _of_suite(source: str, beside: Path, entry: Any) -> Experiment:
    """One experiment of a suite: a shipped one's name, a file beside it, or one `like` another."""
    if not isinstance(entry, dict):
        name = _text(source, "experiments", entry)
        return load(name if name in shipped() else str(beside / name))
    changes = {key: value for key, value in entry.items() if key != "like"}
    name = _text(source, "like", entry.get("like"))
    model = name if name in shipped() else str(beside / name)
    return from_table({**parsed(text_of(model), model), **changes}, source)


def text_of(source: str) -> str:
    """The text of an experiment file, by the name of one that is shipped or by its path."""
    shipped = {path.name.removesuffix(".toml"): path for path in _shipped()}
    if source in shipped:
        return str(shipped[source].read_text())
    path = Path(source)
    if not os.path.isfile(source):
        hint = did_you_mean(source, shipped)
        known = ", ".join(sorted(shipped))
        raise BadSentence(f"No experiment or file {source!r}.{hint} Experiments: {known}.")
    if path.stat().st_size > LARGEST_FILE:
        raise BadSentence(f"{source} is larger than {LARGEST_FILE} bytes; no experiment file is.")
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError as fault:
        raise BadData(f"{source} could not be read: {fault.strerror}.") from None


def parsed(text: str, origin: str) -> dict[str, Any]:
    """A TOML file as a table."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as fault:  # ValueError: a number of 5,000 digits, too
        raise BadSentence(f"{origin} is not TOML: {fault}.") from None


def read(text: str, origin: str) -> Experiment:
    """Read an experiment from TOML."""
    return from_table(parsed(text, origin), origin)


def from_table(table: dict[str, Any], origin: str) -> Experiment:
    """Read an experiment from a table as TOML gives it."""
    known = [field.name for field in dataclasses.fields(Experiment)]
    for key in table:
        if key not in known:
            raise BadSentence(f"{origin}: unknown key {key!r}.{did_you_mean(key, known)}")
    for key in ("name", "recipe", "methods"):
        if key not in table:
            raise BadSentence(f"{origin}: the key {key!r} is missing.")
    if not isinstance(table["methods"], dict):
        raise BadSentence(f"{origin}: [methods] must be a table of names and sentences.")
    table["recipe"] = as_method(_text(origin, "recipe", table["recipe"]), "recipe")
    listed = (_method(origin, name, said) for name, said in table["methods"].items())
    table["methods"] = tuple(listed)
    table["audits"] = asked(table.get("audits", []), origin)
    return Experiment(**_typed(origin, table))


def _method(origin: str, name: str, said: Any) -> Method:
    """A method from a sentence, or from a table of sentence and source."""
    entry = said if isinstance(said, dict) else {"sentence": said}
    sentence = _text(origin, name, entry.get("sentence"))
    unknown = set(entry) - {"sentence", "source"}
    if unknown:
        raise BadSentence(f"{origin}: {name} has an unknown key {min(unknown)!r}.")
    found = as_method(sentence, name)
    return Method(name, found.steps, _text(origin, name, entry.get("source", found.source)))


def _typed(origin: str, table: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {"str": str, "int": int}
    for field in dataclasses.fields(Experiment):
        kind = kinds.get(str(field.type))
        value = table.get(field.name)
        if kind and value is not None and type(value) is not kind:
            raise BadSentence(f"{origin}: {field.name} must be {kind.__name__}, got {value!r}.")
    return dict(table)


def _text(origin: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadSentence(f"{origin}: {key} must be a sentence in quotes, got {value!r}.")
    return value


def _check_recipe(recipe: Method) -> None:
    """Oracles are made with "retain" in the place of "train": no other set may be named."""
    trains = [step for _, _, step in unrolled(recipe.steps) if isinstance(step, Train)]
    trained = any("train" in step.objective.sets for step in trains)
    if not trained or {"forget", "retain"} & set(recipe.sets):
        raise BadSentence(
            f"recipe = {recipe.sentence!r}: expected a Train on the set 'train', as in "
            "Train(CE('train')), and neither 'forget' nor 'retain'."
        )


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = did_you_mean(value, known)
        raise BadSentence(f"{key} = {value!r}: expected one of {', '.join(known)}.{hint}")


def _shipped() -> list[Any]:
    folder = files("expunge.problems")
    return [path for path in folder.iterdir() if path.name.endswith(".toml")]


def shipped() -> tuple[str, ...]:
    """Names of the experiments that come with the package."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _shipped()))


def forget_chooser(sentence: str) -> Any:
    """The forget set's sentence, read."""
    chooser = parse(sentence)
    if not isinstance(chooser, CHOOSERS):
        raise BadData(f"{sentence!r} is no forget set; write RandomShare(0.1), WholeClass(3) ...")
    return chooser


def to_toml(experiment: Experiment) -> str:
    """An experiment as TOML; `read` gives the same experiment back."""
    sentences = ("recipe", "methods", "audits")
    plain = [f for f in dataclasses.fields(Experiment) if f.name not in sentences]
    lines = [f"{f.name} = {_quoted(getattr(experiment, f.name))}" for f in plain]
    lines.append(f"audits = [{', '.join(_quoted(repr(audit)) for audit in experiment.audits)}]")
    lines.append(f"recipe = {_quoted(experiment.recipe.sentence)}")
    for method in experiment.methods:
        said = {"sentence": method.sentence, "source": method.source}
        table = ", ".join(f"{key} = {_quoted(value)}" for key, value in said.items())
        lines.append(f"methods.{_quoted(method.name)} = {{ {table} }}")
    return "\n".join(lines) + "\n"


def _quoted(value: str | int) -> str:
    """A TOML value: as in JSON, but no pairs of surrogates, and no sign that TOML refuses."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
