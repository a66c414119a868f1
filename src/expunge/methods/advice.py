"""Why something is to be forgotten: three purposes, each with its methods, measures and words.

Privacy wants a model as if it had never seen the data; danger wants a capability gone and hard to
bring back; falsehood may be better corrected than removed. `plan` turns a purpose and what one has
into a short reasoned list of what to do.
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
        question: what is asked in the end.
        methods: names of methods to compare, the first one first.
        metrics: what is measured, the headline first.
        audits: what is tried to bring it back.
        headline: how the result is worded; SUBJECT, VALUE and RANGE stand for what it says.
        unless: what would make the purpose fail though the numbers look well.
    """

    name: str
    question: str
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    audits: tuple[str, ...]
    headline: str
    unless: str

    def said(self, subject: str, value: str, low: str, high: str) -> str:
        """The result in one sentence."""
        words = {"SUBJECT": subject, "VALUE": value, "RANGE": f"{low} to {high}"}
        text = self.headline
        for place, word in words.items():
            text = text.replace(place, word)
        return text


CONFIDENTIAL = Purpose(
    name="confidential",
    question="Is the model as if it had never seen the data?",
    methods=("npo_kl", "npo", "simnpo", "undial", "grad_diff"),
    metrics=(
        "distance to models retrained without the data",
        "extraction strength",
        "membership of the forgotten examples",
        "spans of personal data written out",
        "the same numbers before and after, against the oracle",
    ),
    audits=("membership", "extraction", "relearning", "leakage before and after"),
    headline="Of SUBJECT, VALUE of what the original gives away beyond a retrained model is still "
    "given away (95 % interval RANGE).",
    unless="Silence is not removal: a model that is easier to tell from a retrained one than "
    "before may show the data more.",
)


DANGEROUS = Purpose(
    name="dangerous",
    question="Is the capability gone, and how dear is it to bring back?",
    methods=("rmu", "npo", "grad_diff", "simnpo"),
    metrics=(
        "cost to relearn: training steps until the original's score is back",
        "multiple choice on the topic, where chance is the goal",
        "open answers on the topic",
        "neighbouring topics kept",
        "general ability kept",
    ),
    audits=("relearning", "prompts and prefilled answers", "rounding and pruning", "probes"),
    headline="SUBJECT came back after VALUE steps of fine-tuning (95 % interval RANGE); a model "
    "that never knew it is the measure.",
    unless="A model that relearns faster than one that never knew it still holds the capability.",
)


FALSE = Purpose(
    name="false",
    question="Is the false thing no longer said, is the right one, and does what follows agree?",
    methods=("correct", "memit", "rome", "mark", "idk_nll", "npo"),
    metrics=(
        "efficacy: the answer is as meant",
        "paraphrases: so it is in other words",
        "locality: neighbours and the world are kept",
        "portability: what follows from the right fact is said",
    ),
    audits=("prefilled answers", "relearning one half and asking the other"),
    headline="Asked about SUBJECT in other words, VALUE of answers are as meant (95 % interval "
    "RANGE).",
    unless="An answer that is held back is there again when its first words are put before it.",
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
        commands: to be run in this order; MODEL and files stand for one's own.
    """

    verdict: str
    reason: str
    commands: tuple[str, ...] = ()


def purpose_of(name: str) -> Purpose:
    """A purpose by name.

    Raises:
        BadData: there is none of that name.
    """
    if name not in PURPOSES:
        hint = did_you_mean(name, PURPOSES)
        raise BadData(f"No purpose is called {name!r}; there are {', '.join(PURPOSES)}.{hint}")
    return PURPOSES[name]


def owned(names: Iterable[str]) -> frozenset[str]:
    """What one has, checked.

    Raises:
        BadData: an unknown name; or both, or neither, of the weights and the answers alone.
    """
    found = frozenset(name.strip() for name in names if name.strip())
    for name in sorted(found):
        if name not in HAVES:
            hint = did_you_mean(name, HAVES)
            known = "; ".join(f"{one} ({said})" for one, said in HAVES.items())
            raise BadData(f"--have: no {name!r}.{hint} One may have {known}.")
    if "weights" in found and "api" in found:
        raise BadData("--have: weights and api exclude each other: api means the answers alone.")
    if not found & {"forget", "concept"}:
        raise BadData(
            "--have: say how the target is known: forget (examples of it) or concept (a name or a "
            "topic only)."
        )
    return found


CONCEPT = "expunge concept MODEL --about NAME --out probes"


def unlearning(method: str, file: str = "forget") -> str:
    """The command that carries out a method."""
    return (
        f"expunge unlearn MODEL --forget {file}.jsonl --retain retain.jsonl --out by-{method} "
        f"--method {method}"
    )


def plan(purpose: Purpose, has: frozenset[str]) -> tuple[Advice, ...]:
    """What to do, in the order in which to consider it; never empty.

    Args:
        purpose: why.
        has: from `owned`.
    """
    if "weights" not in has and "data" not in has:
        return _from_outside(purpose)
    before = tuple(_before(has))
    return (*before, *_by_purpose(purpose, has))


def _from_outside(purpose: Purpose) -> tuple[Advice, ...]:
    """For who has the answers alone: nothing can be removed."""
    return (
        Advice(
            "suppress",
            "Without weights nothing can be removed from the model. A filter or an instruction "
            "before it hides the answer, and what is hidden is still there; call it so.",
        ),
        Advice(
            "retrain",
            "Ask the model's owner: who holds weights and data alone can remove it. "
            f"The question to put: {purpose.question}",
        ),
        Advice("do not train on it", "Keep it out of the next model's training data."),
    )


def _before(has: frozenset[str]) -> Iterable[Advice]:
    """What must be made before anything else."""
    if "weights" in has and "forget" not in has:
        yield Advice(
            "first",
            "Only a name or a topic is known: let the model write what it knows of it, read and "
            "mend what it wrote, and take that for the forget set.",
            (CONCEPT,),
        )
    elif "weights" in has and "retain" not in has:
        yield Advice(
            "first",
            "Without a retain set a model is unlearned at the cost of all else. Write texts near "
            "the target that must be kept into retain.jsonl, or let the model write some.",
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
        yield Advice("do not train on it", "The next model is best spared: " + SPARE[purpose.name])


SPARE = {
    "confidential": "take the data out before training, with their copies and near copies.",
    "dangerous": "a filtered training set leaves nothing to bring back.",
    "false": "mend the source, or training teaches it again.",
}


def _confidential(has: frozenset[str]) -> Iterable[Advice]:
    if "data" in has:
        yield Advice(
            "retrain",
            "Retraining without the data is the only answer that is exact for any model, and what "
            "all others are measured against.",
            ("expunge methods retrain",),
        )
        yield Advice(
            "exact",
            "If requests will go on, train in shards from now on: a deletion then retrains one "
            "shard. The forecast says what that costs.",
            ("expunge forecast",),
        )
    if "weights" in has:
        known = (
            "judge it by the oracle" if "oracle" in has else "without an oracle none can judge it"
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
            "A model that was never taught it is the only one that must learn it from nothing.",
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
            'Teach the right fact in its place, written under "instead"; of all ways this one held '
            "best in other words when we measured. Write the facts that follow from it into the "
            'same file: they do not follow by themselves. Edits in place need a "subject" in each '
            "line, and layers in the middle of your model.",
            tuple(map(unlearning, ("correct", "memit"))),
        )
        yield Advice(
            "suppress",
            "Where no right fact is known: refuse, or mark as false. Both hide it in the words "
            "that were trained, and leave it inside.",
            (
                "expunge answers forget.jsonl --kind marking --out marked.jsonl",
                unlearning("mark", "marked"),
            ),
        )
        yield Advice(
            "approximate",
            "Forgetting leaves a gap that the model fills by guessing; compare it, do not begin "
            "with it.",
            (unlearning("npo"),),
        )
    if "data" in has:
        yield Advice(
            "retrain", "With the source mended, at the next training.", ("expunge methods retrain",)
        )
