"""The models of an experiment on texts that audits measure, as they lie in its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from expunge.audits.audit import ORACLE, ORIGINAL, AuditedModel
from expunge.audits.finding import chosen
from expunge.audits.text.facts import FactContext, FactProblem, audited, check_apart, context_of
from expunge.audits.text.lm_verdict import GUARDRAIL, guarded
from expunge.core.method import Method
from expunge.core.store import Store
from expunge.errors import StoreError, Unsupported
from expunge.experiments.make import load_model
from expunge.experiments.plan import Plan
from expunge.experiments.text.task import Language
from expunge.problems.text.benchmarks.files import Item

# The control that is no method: the original behind a filter on the subjects' names.
FILTER = "filter"


CONTROLS = ("retrain", "nothing", FILTER, "gibberish")


# Sets that have nothing to do with what was forgotten or kept.
APART = ("world", "real_authors")


# Retrained models beside the yardstick: each is audited as a method is.
FEWEST, MOST = 2, 4


@dataclass(frozen=True, eq=False)
class SeedModels:
    """All that is audited of one member, with the facts.

    Args:
        plan, store: the experiment, and where its models lie.
        seed: the member.
        case: the facts, the original and the yardstick, one retrained model that is none of those
            compared.
        anchors: "original", "oracle 1" ... and "guardrail", where subjects are named.
        holdout: facts of the same form that nobody was taught.
        names: of the methods and controls with a model of this member.
        absent: name of a method -> why it has none.
    """

    plan: Plan
    store: Store
    seed: int
    context: FactContext
    anchors: Mapping[str, AuditedModel]
    holdout: tuple[Item, ...]
    names: tuple[str, ...]
    absent: Mapping[str, str]

    def subject(self, name: str) -> AuditedModel:
        """The model of a method or control, or an anchor; read from the store when asked for."""
        if name in self.anchors:
            return self.anchors[name]
        if name == "nothing":
            return self.anchors[ORIGINAL]
        if name == FILTER:
            return self.anchors[GUARDRAIL]
        job = self.plan.unlearned(_methods(self.plan)[name], self.seed)
        return audited(name, load_model(self.plan, self.store, job))


def seed_models(plan: Plan, store: Store, seed: int, only: Sequence[str] = ()) -> SeedModels:
    """Gather one member of an experiment that was carried out.

    Args:
        plan, store: the experiment, and where its models lie.
        seed: the member, one of the experiment's seeds.
        only: names of methods and controls; all when empty.

    Raises:
        BadSentence: a name that the experiment does not have.
        StoreError: models that are not in the store: the original, or three retrained models.
        Unsupported: an experiment on images.
    """
    kind = plan.task
    if not isinstance(kind, Language):
        raise Unsupported(
            f"The experiment {plan.experiment.name} is on images; expected one on texts. Its "
            "methods are judged by expunge.experiments.auditing.classifiers, or by `expunge audit "
            "--experiment`."
        )
    original, oracles = _taught(plan, store, seed)
    asked = {one.name: one for one in kind.setting.asked}
    kept = [one.items for one in asked.values() if one.side == "retain" and one.name not in APART]
    problem = FactProblem(
        asked["forget"].items,
        tuple({item.index: item for items in kept for item in items}.values()),
        kind.setting.tokenizer,
        tuple(item for name in APART if name in asked for item in asked[name].items),
    )
    context = context_of(problem, original, oracles[0], seed)
    anchors = {ORIGINAL: audited(ORIGINAL, original)}
    told = {f"{ORACLE} {number}": one for number, one in enumerate(oracles[1:], 1)}
    anchors |= {name: audited(name, one) for name, one in told.items()}
    control = guarded(context)
    anchors |= {GUARDRAIL: control} if control else {}
    holdout = asked["holdout"].items if "holdout" in asked else ()
    names, absent = _present(plan, store, seed, control is not None, only)
    return SeedModels(plan, store, seed, context, anchors, holdout, names, absent)


def _taught(plan: Plan, store: Store, seed: int) -> tuple[nn.Module, list[nn.Module]]:
    """The original of a member and the retrained models, the yardstick first."""
    first = plan.experiment.seeds[0]
    others = [first]
    while store.has(plan.oracle(others[-1])):
        others.append(others[-1] + 1)
    there = [one for one in others[:-1] if one != seed]
    if not store.has(plan.original(seed)) or not store.has(plan.oracle(seed)):
        raise StoreError(
            f"The store {store.root} has no original and retrained model of member {seed}. Carry "
            f"the experiment out first: `expunge run {plan.experiment.name}` with this store."
        )
    if len(there) < FEWEST:
        raise StoreError(
            f"The store {store.root} has {len(there)} retrained models beside that of member "
            f"{seed}; expected {FEWEST} at least, so that how much they differ is known. Run the "
            f"experiment with --members {FEWEST + 1} or more."
        )
    original = load_model(plan, store, plan.original(seed))
    chosen = [seed, *there[:MOST]]
    oracles = [load_model(plan, store, plan.oracle(one)) for one in chosen]
    check_apart(original, original, oracles)
    return original, oracles


def _methods(plan: Plan) -> dict[str, Method]:
    return {method.name: method for method in plan.methods}


def _present(
    plan: Plan, store: Store, seed: int, control: bool, only: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The rows that have a model, controls first, and why others have none."""
    there = ["retrain", "nothing", *([FILTER] if control else []), *_methods(plan)]

    def lacking(name: str) -> str:
        method = _methods(plan).get(name)
        if method is None or store.has(plan.unlearned(method, seed)):
            return ""
        if store.has(plan.failure(method)):
            return str(store.about(plan.failure(method))["reason"])
        return "It has not been carried out in this store."

    return chosen(there, only, plan.experiment.name, lacking)
