"""What to do about data that should not be in a model: three purposes, and a plan for each.

Privacy wants a model as if it had never seen the data; danger wants a capability gone and hard to
bring back; falsehood may be better corrected than removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean

# What one may have, as it is said on the command line.
HAVES: Mapping[str, str] = MappingProxyType(
    {
        "forget": "examples of what is to be forgotten",
        "concept": "only a name or a topic",
        "retain": "examples of what must be kept",
        "data": "the whole training set, and the means to train again",
        "oracle": "a model that was retrained without the forget set",
        "weights": "the model's weights",
        "api": "the model's answers alone",
    }
)


VERDICTS = ("retrain", "exact", "approximate", "suppress", "correct", "do not train on it")


@dataclass(frozen=True)
class Purpose:
    """Why something is to be forgotten.

    Args:
        name: as the command line takes it.
        question: what the result must answer.
        methods: names of methods to compare, the most promising first.
        metrics: what to measure, the most telling first.
        audits: ways to bring the data back.
        beware: how the purpose may fail though the numbers look good.
    """

    name: str
    question: str
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    audits: tuple[str, ...]
    beware: str


CONFIDENTIAL = Purpose(
    name="confidential",
    question="Is the model as if it had never seen the data?",
    methods=("npo_kl", "npo", "simnpo", "undial", "grad_diff"),
    metrics=(
        "distance to models retrained without the data",
        "extraction strength",
        "membership inference on the forget set",
        "spans of personal data that the model writes out",
        "the same numbers before and after, beside those of the retrained models",
    ),
    audits=("membership", "extraction", "relearning", "leakage before and after"),
    beware="Silence is not removal: a model that is easier to tell from a retrained one than "
    "before may show the data more.",
)


DANGEROUS = Purpose(
    name="dangerous",
    question="Is the capability gone, and what does it cost to bring it back?",
    methods=("rmu", "npo", "grad_diff", "simnpo"),
    metrics=(
        "cost to relearn: training steps until the original's score is back",
        "multiple choice on the topic, where chance is the goal",
        "open answers on the topic",
        "neighbouring topics that the model keeps",
        "general ability that it keeps",
    ),
    audits=("relearning", "prompts and prefilled answers", "rounding and pruning", "probes"),
    beware="A model that relearns faster than one that never knew it still holds the capability.",
)


FALSE = Purpose(
    name="false",
    question="Does the model say the right thing, not the false one, and does what follows agree?",
    methods=("correct", "memit", "rome", "mark", "idk_nll", "npo"),
    metrics=(
        "efficacy: the model gives the answer that was meant",
        "paraphrases: it gives it in other words, too",
        "locality: it keeps neighbouring facts and all else",
        "portability: it says what follows from the right fact",
    ),
    audits=("prefilled answers", "relearning one half and asking about the other"),
    beware="A model that only holds an answer back gives it again once its first words are there.",
)


PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {purpose.name: purpose for purpose in (CONFIDENTIAL, DANGEROUS, FALSE)}
)


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Args:
        verdict: one of `VERDICTS`, or "first" for what comes before them.
        reason: why, in a sentence.
        commands: to run in this order; MODEL and the files are placeholders.
    """

    verdict: str
    reason: str
    commands: tuple[str, ...] = ()


def purpose_of(name: str) -> Purpose:
    """Return a purpose by name.

    Raises:
        BadData: no purpose has that name.
    """
    if name not in PURPOSES:
        hint = did_you_mean(name, PURPOSES)
        raise BadData(f"No purpose is called {name!r}; there are {', '.join(PURPOSES)}.{hint}")
    return PURPOSES[name]


def owned(names: Iterable[str]) -> frozenset[str]:
    """Check what one has, and return it.

    Raises:
        BadData: an unknown name; both the weights and the answers alone; or nothing that says
            what the target is.
    """
    found = frozenset(name.strip() for name in names if name.strip())
    for name in sorted(found):
        if name not in HAVES:
            hint = did_you_mean(name, HAVES)
            known = "; ".join(f"{one} ({said})" for one, said in HAVES.items())
            raise BadData(f"--have: there is no {name!r}.{hint} You may have {known}.")
    if "weights" in found and "api" in found:
        raise BadData("--have: weights and api exclude each other: api means the answers alone.")
    if not found & {"forget", "concept"}:
        raise BadData(
            "--have: say how the target is known: forget (you have examples of it) or concept "
            "(only a name or a topic)."
        )
    return found


CONCEPT = "expunge concept MODEL --about NAME --out probes"


def unlearning(method: str, file: str = "forget") -> str:
    """Return the command that runs a method."""
    return (
        f"expunge unlearn MODEL --forget {file}.jsonl --retain retain.jsonl --out by-{method} "
        f"--method {method}"
    )


def plan(purpose: Purpose, has: frozenset[str]) -> tuple[Advice, ...]:
    """Return what to do, in the order in which to consider it; never empty.

    Args:
        purpose: why something is to be forgotten.
        has: from `owned`.
    """
    if "weights" not in has and "data" not in has:
        return _from_outside(purpose)
    before = tuple(_before(has))
    return (*before, *_by_purpose(purpose, has))


def _from_outside(purpose: Purpose) -> tuple[Advice, ...]:
    """For someone who has the model's answers alone."""
    return (
        Advice(
            "suppress",
            "Without weights you can remove nothing from the model. A filter or an instruction in "
            "front of it hides the answer, which is still in there; call it hidden.",
        ),
        Advice(
            "retrain",
            "Ask the model's owner: only someone with the weights and the data can remove it. "
            f"The question to ask: {purpose.question}",
        ),
        Advice("do not train on it", "Keep it out of the next model's training data."),
    )


def _before(has: frozenset[str]) -> Iterable[Advice]:
    """What to make before anything else."""
    if "weights" in has and "forget" not in has:
        yield Advice(
            "first",
            "You have only a name or a topic: let the model write what it knows about it, read "
            "and correct what it wrote, and take that as the forget set.",
            (CONCEPT,),
        )
    elif "weights" in has and "retain" not in has:
        yield Advice(
            "first",
            "Without a retain set unlearning harms everything else. Write texts near the target "
            "that the model must keep into retain.jsonl, or let the model write some.",
            (CONCEPT,),
        )


def _by_purpose(purpose: Purpose, has: frozenset[str]) -> Iterable[Advice]:
    if purpose is CONFIDENTIAL:
        yield from _confidential(has)
    elif purpose is DANGEROUS:
        yield from _dangerous(has)
    else:
        yield from _false(has)
    if "oracle" not in has:
        yield Advice("do not train on it", f"For the next model, {SPARE[purpose.name]}")


SPARE = {
    "confidential": "take the data, their copies and near copies out before training.",
    "dangerous": "filter the training set: that leaves nothing to bring back.",
    "false": "correct the source, or training teaches it again.",
}


def _confidential(has: frozenset[str]) -> Iterable[Advice]:
    if "data" in has:
        yield Advice(
            "retrain",
            "Retraining without the data is the only answer that is exact for any model, and all "
            "others are compared with it.",
            ("expunge methods retrain",),
        )
        yield Advice(
            "exact",
            "If you expect more requests, train in shards from now on: a deletion then retrains "
            "one shard. The command forecasts what that costs.",
            ("expunge deletions",),
        )
    if "weights" in has:
        known = (
            "compare it with the retrained model"
            if "oracle" in has
            else "without a retrained model nobody can judge it"
        )
        yield Advice(
            "approximate",
            f"Lower the likelihood of the data, and stay near the original elsewhere; {known}.",
            tuple(map(unlearning, ("npo_kl", "undial"))),
        )


def _dangerous(has: frozenset[str]) -> Iterable[Advice]:
    if "data" in has:
        yield Advice(
            "retrain",
            "Only a model that was never taught it has to learn it from nothing.",
            ("expunge methods retrain",),
        )
    if "weights" in has:
        yield Advice(
            "approximate",
            "Break the representations of the topic and keep its neighbours; then measure what "
            "relearning costs, since open weights can be trained by anyone.",
            tuple(map(unlearning, ("rmu", "npo"))),
        )
        yield Advice(
            "suppress",
            "Refusals and filters are a second layer, for those who can only ask.",
            (
                "expunge answers forget.jsonl --kind refusal --out refused.jsonl",
                unlearning("idk_nll", "refused"),
            ),
        )


def _false(has: frozenset[str]) -> Iterable[Advice]:
    if "weights" in has:
        yield Advice(
            "correct",
            'Teach the right fact in its place, written under "instead"; in our measurements this '
            "held best in other words. Write the facts that follow from it into the same file: the "
            'model does not infer them. memit needs a "subject" in each line, and layers in the '
            "middle of your model.",
            tuple(map(unlearning, ("correct", "memit"))),
        )
        yield Advice(
            "suppress",
            "Where you know no right fact: let the model refuse, or say that it is false. Both "
            "hide the falsehood in the wording that you train on, and leave it inside.",
            (
                "expunge answers forget.jsonl --kind marking --out marked.jsonl",
                unlearning("mark", "marked"),
            ),
        )
        yield Advice(
            "approximate",
            "After forgetting, the model guesses instead; compare it with the others, and do not "
            "begin with it.",
            (unlearning("npo"),),
        )
    if "data" in has:
        yield Advice(
            "retrain",
            "With the source corrected, at the next training.",
            ("expunge methods retrain",),
        )
