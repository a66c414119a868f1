"""Planning an experiment: its data loaded, its forget set cut out, and its task chosen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from expunge.core.batch import Joined, all_targets, check_indices
from expunge.core.problem import Problem
from expunge.core.seeds import stream
from expunge.core.store import Store
from expunge.errors import BadData, BadSentence, Unsupported, did_you_mean
from expunge.experiments.classification import CLASSIFICATION
from expunge.experiments.experiment import BY_SHADOWS, FEWEST_SHADOWS, Experiment, forget_chooser
from expunge.experiments.plan import Plan, problem_spec
from expunge.experiments.text.task import Language
from expunge.problems.forget_sets import ForgetSet
from expunge.problems.images.canaries import planted, refuse_whole
from expunge.problems.images.folder import image_folder
from expunge.problems.images.loaders import cifar10, digits
from expunge.problems.images.pool import Pool
from expunge.problems.networks import classifiers
from expunge.problems.text.by_name import setting

IMAGES = ("digits", "cifar10", "image-folder")


# Problems of texts, whose models are language models.
LANGUAGE = ("people", "tofu", "novels", "mmlu", "texts")


def plan_for(experiment: Experiment, store: Store | None = None) -> Plan:
    """Load the data of an experiment and cut the forget set out.

    Args:
        experiment: what is compared.
        store: holds the rows where shadow models choose them; `graph.choose` puts them in.

    Raises:
        BadData: the data are missing or not what they claim to be; the rows are not chosen yet.
    """
    if experiment.problem in LANGUAGE:
        refuse_audits(experiment)
        return plan_of(experiment)
    if chosen_by_shadows(experiment):
        plan = outline(experiment, store)
        if plan.settled:
            return plan
        raise BadData(
            f"The forget set {experiment.forget} is chosen by shadow models, which have yet to be "
            "made: `expunge run` makes them first, in Python expunge.experiments.graph.choose."
        )
    pool = load_pool(experiment)
    chooser = forget_chooser(experiment.forget)
    chosen = chooser(pool.train, all_targets(pool.train), seed=experiment.forget_seed)
    return cut(experiment, pool, chosen)


def refuse_audits(experiment: Experiment) -> None:
    """Refuse audits of classifiers on language models.

    Raises:
        BadSentence: the experiment asks for some.
    """
    if experiment.audits:
        raise BadSentence(
            f"{experiment.name} is on language models, and {experiment.audits[0]!r} is an audit of "
            "classifiers. Leave audits out, and ask the finished experiment: expunge audit "
            f"--experiment {experiment.name} --store FOLDER."
        )


def chosen_by_shadows(experiment: Experiment) -> bool:
    """Whether shadow models choose the forget set; there must be enough of them.

    Raises:
        BadData: no forget set, or one that takes more shadow models than the experiment has; or a
            problem that is not known.
    """
    check_problem(experiment.problem)
    if experiment.problem in LANGUAGE:
        return False
    if not isinstance(forget_chooser(experiment.forget), BY_SHADOWS):
        return False
    if experiment.shadows < FEWEST_SHADOWS:
        raise BadData(
            f"The forget set {experiment.forget} is chosen by shadow models, and the experiment "
            f"{experiment.name} has {experiment.shadows}; set shadows = {FEWEST_SHADOWS} or more "
            "(--shadows), an even number."
        )
    return True


def outline(experiment: Experiment, store: Store | None = None) -> Plan:
    """A plan that can be had at any time: before shadow models chose the forget set, too.

    Until then as many random rows stand in for it and the plan is not `settled`. What such a plan
    says of sizes, costs and shadow models holds, since shadows know of no forget set.

    Raises:
        BadData: as for `plan_for`, but for rows that are not chosen yet.
    """
    if not chosen_by_shadows(experiment):
        return plan_for(experiment)
    pool, chooser = load_pool(experiment), forget_chooser(experiment.forget)
    n, targets = len(pool.train), all_targets(pool.train)
    refuse_whole(type(chooser).__name__, chooser.size, n)
    # A stream of its own: the stand-in is the forget set of no other experiment.
    drawn = torch.randperm(n, generator=stream("stand-in", experiment.forget_seed))
    first = cut(experiment, pool, ForgetSet(drawn[: chooser.size].sort().values, targets))
    if store is None or not store.has(first.forget_set):
        return replace(first, settled=False)
    rows = check_indices(store.tensors(first.forget_set, "forget")["rows"], n)
    return cut(experiment, pool, ForgetSet(rows, targets))


def cut(experiment: Experiment, pool: Pool, chosen: ForgetSet) -> Plan:
    """The plan with a forget set cut out of the training set."""
    train = planted(pool.train, chosen)
    problem = Problem.split(
        train,
        chosen.indices,
        name=experiment.problem,
        val=pool.val,
        test=pool.test,
        architecture=architecture(experiment.architecture, pool),
        recipe=experiment.recipe,
        classes=pool.classes,
    )
    return Plan(experiment, problem, problem_spec(problem), CLASSIFICATION)


def load_pool(experiment: Experiment) -> Pool:
    """The examples of a problem by name."""
    makers: dict[str, Callable[[], Pool]] = {
        "digits": digits,
        "cifar10": lambda: cifar10(
            _folder(experiment), train_size=experiment.train_size or None, seed=0
        ),
        "image-folder": lambda: image_folder(
            _folder(experiment), size=experiment.image_size or None
        ),
    }
    check_problem(experiment.problem)
    if experiment.problem in LANGUAGE:
        raise Unsupported(
            f"The problem {experiment.problem!r} holds texts, and this is for classifiers."
        )
    if experiment.train_size and experiment.problem != "cifar10":
        raise BadSentence(
            f"train_size = {experiment.train_size}: {experiment.problem} is taken whole; leave "
            "train_size out, or take cifar10."
        )
    return makers[experiment.problem]()


def check_problem(name: str) -> None:
    """Refuse a problem that is not known.

    Raises:
        BadData: with the nearest name that is.
    """
    known = (*IMAGES, *LANGUAGE)
    if name not in known:
        hint = did_you_mean(name, known)
        raise BadData(f"No problem {name!r}; there are {', '.join(known)}.{hint}")


def _folder(experiment: Experiment) -> Path:
    """The folder of the data: `--data`, else EXPUNGE_DATA with the problem's name below it."""
    if experiment.data:
        return Path(experiment.data)
    if "EXPUNGE_DATA" not in os.environ:
        raise BadData(
            f"The problem {experiment.problem} needs a folder of data. "
            "Give it with --data FOLDER, or set EXPUNGE_DATA to the folder above it."
        )
    base = Path(os.environ["EXPUNGE_DATA"])
    below = base / experiment.problem
    return below if below.is_dir() else base


def architecture(name: str, pool: Pool) -> Callable[[], nn.Module]:
    """One of the reference networks, of the size that the pool's images need."""
    channels, size, _ = pool.shape
    classes = len(pool.classes)
    known: dict[str, Callable[[], nn.Module]] = {
        "digits_net": partial(classifiers.digits_net, classes),
        "convnet": partial(classifiers.convnet, classes, channels, size),
        "resnet9": partial(classifiers.resnet9, classes, channels),
        "resnet18": partial(classifiers.resnet18, classes, channels),
    }
    if name not in known:
        hint = did_you_mean(name, known)
        raise BadData(f"No architecture {name!r}; there are {', '.join(known)}.{hint}")
    return known[name]


def plan_of(experiment: Experiment) -> Plan:
    """The plan of an experiment on texts.

    Raises:
        BadData: as for `setting`; or a text that is both to be forgotten and to be retained.
    """
    found = setting(experiment)
    train = Joined(found.sets["retain"], found.sets["forget"])
    problem = Problem(
        found.name,
        {**found.sets, "train": train},
        architecture=found.architecture,
        recipe=experiment.recipe,
    )
    return Plan(experiment, problem, problem_spec(problem), Language(found))
