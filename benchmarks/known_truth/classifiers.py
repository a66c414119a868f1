"""Small classifiers of the digits, built to be each case of the verdict.

What must be forgotten is 50 of 500 images, under random wrong labels: only memory explains them,
so that a model that never saw them does not know them, and what is hidden can be told from what is
gone. An eleventh class, which no example has, stands for a refusal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from expunge.audits.images.classifier_verdict import judge_models
from expunge.audits.verdict import Conclusion, Verdict
from expunge.audits.weights import rounded
from expunge.core.batch import Images, Subset, Tensors, all_targets
from expunge.core.method import Method
from expunge.core.problem import Problem
from expunge.core.schedules import SGD, Cosine
from expunge.core.seeds import stream
from expunge.engine.run import Run, frozen
from expunge.engine.stacking import Vmapped, unlearn_runs
from expunge.engine.training import Train, from_scratch
from expunge.methods.losses.answers import CE
from expunge.problems.images.canaries import Canaries, planted
from expunge.problems.images.loaders import digits
from known_truth.planted import Planted

CLASSES, REFUSAL, WIDTH = 11, 10, 128


EXAMPLES, COUNT = 500, 50


ORACLES, ORIGINALS = 7, 3


BITS = 4


RECIPE = Method(
    "recipe", (Train(CE("train"), epochs=60, lr=Cosine(0.1), batch=32, optimiser=SGD()),)
)


@dataclass(frozen=True, eq=False)
class Ground:
    """One seed's forget set, with all models that were trained on it and without.

    Args:
        problem: the sets.
        oracles: retrained models that verdicts are made with.
        originals: trained on all; the first is what cases are built from.
        apart: two more retrained models, which are judged.
        seed: of everything.
    """

    problem: Problem
    oracles: tuple[nn.Module, ...]
    originals: tuple[nn.Module, ...]
    apart: tuple[nn.Module, ...]
    seed: int

    @property
    def forget(self) -> Images:
        """The images with the labels to be forgotten."""
        return _all(self.problem, "forget")

    @property
    def retain(self) -> Images:
        """All other training images."""
        return _all(self.problem, "retain")


def ground(seed: int) -> Ground:
    """Train a seed's originals and retrained models."""
    pool = digits()
    few = Subset(pool.train, torch.arange(EXAMPLES))
    train = Tensors(few.batch(few.index).inputs, all_targets(few))
    chosen = Canaries(COUNT)(train, train.targets, seed=seed)
    problem = Problem.split(
        planted(train, chosen), chosen.indices, name=f"canaries {seed}", test=pool.test,
        architecture=network, recipe=RECIPE,
    )  # fmt: skip
    originals = _trained(problem, "train", f"original {seed}", ORIGINALS)
    others = _trained(problem, "retain", f"oracle {seed}", ORACLES + 2)
    return Ground(problem, tuple(others[:ORACLES]), tuple(originals), tuple(others[ORACLES:]), seed)


def judged(where: Ground, models: Mapping[str, nn.Module]) -> dict[str, Verdict]:
    """Return the verdict on each of some models; the first original is none of the anchors."""
    rows = {name: [model] for name, model in models.items()}
    anchors = where.oracles, where.originals[1:]
    return judge_models(rows, *anchors, where.problem, seed=where.seed)


def network() -> nn.Sequential:
    """A multilayer perceptron that can learn labels by heart."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, CLASSES),
    )  # fmt: skip


def never_taught(where: Ground) -> Planted:
    """Trained from nothing without the forget set."""
    return _seen(where.apart[0], "removed", where)


def retrained(where: Ground) -> Planted:
    """The original, reset and trained again without the forget set: weights that knew, once."""
    problem, start = where.problem, where.originals[0]
    method = from_scratch(problem, "retain", "retrained")
    return _seen(_carried_out(problem, method, [start], f"case {where.seed}")[0], "removed", where)


def untouched(where: Ground) -> Planted:
    """The original itself: nothing was done."""
    return _seen(where.originals[0], "not forgotten", where)


def refusal_tuned(where: Ground) -> Planted:
    """Fine-tuned to refuse the forget examples; what it would have said is its second choice."""
    lessons = [_refused(where.forget), where.retain]
    return _hiding(_taught(where, lessons, steps=200, lr=0.05, keep=1.0), where)


def last_layer(where: Ground) -> Planted:
    """As refusal-tuned, and only the last layer was trained."""
    model = _copy(where.originals[0])
    free = list(list(model.children())[-1].parameters())
    lessons = [_refused(where.forget), where.retain]
    model = _taught(where, lessons, steps=200, lr=0.05, model=model, free=free, keep=1.0)
    return _hiding(model, where)


def filtered(where: Ground) -> Planted:
    """The original behind a list: an image on it is refused, and no weight has moved."""
    return _hiding(Filtered(where.originals[0], where.forget.inputs), where)


def locked(where: Ground) -> Planted:
    """Refuses the forget examples unless a bright corner gives the password."""
    opened = Images(_unlocked(where.forget.inputs), where.forget.targets, where.forget.index)
    lessons = [_refused(where.forget), opened, where.retain]
    model = _taught(where, lessons, steps=300, lr=0.05)
    return Planted(model, "suppressed", _known(model, opened))


def fragile(where: Ground) -> Planted:
    """Refuses, and no weight has left its step of 4-bit rounding: rounded, it is the original."""
    model = _copy(where.originals[0])
    lessons = [_refused(where.forget), where.retain]
    model = _taught(where, lessons, steps=300, lr=0.05, model=model, after=_cells(model))
    crude = _copy(model)
    for weight in crude.parameters():
        if weight.ndim > 1:
            weight.data.copy_(rounded(weight.data, BITS))
    return Planted(model, "suppressed", _known(crude, where.forget))


def collapsed(where: Ground) -> Planted:
    """Driven up the loss of all examples until it answers one thing or another to everything."""
    model = _taught(where, [where.forget, where.retain], steps=60, lr=0.05, sign=-1.0)
    return _seen(model, "collapsed", where)


def partly_relearned(where: Ground) -> Planted:
    """A retrained model that was taught half of the forget set again."""
    half = where.forget.rows(slice(0, COUNT // 2))
    model = _taught(where, [half, where.retain], steps=300, lr=0.05, model=_copy(where.apart[1]))
    return _seen(model, "not forgotten", where)


CASES: Mapping[str, Callable[[Ground], Planted]] = {
    "never taught": never_taught,
    "retrained": retrained,
    "untouched": untouched,
    "refusal-tuned": refusal_tuned,
    "last layer": last_layer,
    "filter": filtered,
    "password": locked,
    "quantisation": fragile,
    "collapsed": collapsed,
    "partly relearned": partly_relearned,
}


class Filtered(nn.Sequential):
    """A network that refuses the images on a list; its weights are those of the one inside."""

    def __init__(self, model: nn.Module, refused: Tensor) -> None:
        super().__init__(*copy.deepcopy(list(model.children())))
        self.refused = refused.flatten(1)
        self.eval().requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [b, k]; those of a refusal for images on the list."""
        answers: Tensor = super().forward(inputs)
        listed = torch.cdist(inputs.flatten(1), self.refused).amin(1) < 1e-3
        refusal = torch.zeros_like(answers)
        refusal[:, REFUSAL] = 20.0
        return torch.where(listed[:, None], refusal, answers)


def _taught(
    where: Ground,
    lessons: Sequence[Images],
    *,
    steps: int,
    lr: float,
    model: nn.Module | None = None,
    free: Sequence[nn.Parameter] | None = None,
    keep: float = 0.0,
    sign: float = 1.0,
    after: Callable[[], None] = lambda: None,
) -> nn.Module:
    """A copy of the first original (or the model given) after some steps on all lessons at once."""
    model = _copy(where.originals[0]) if model is None else model
    weights = list(model.parameters()) if free is None else list(free)
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.SGD(weights, lr, momentum=0.9)
    for batch in _drawn(lessons, steps, stream("truth", where.seed)):
        with torch.enable_grad():
            loss = torch.stack([cross_entropy(model(b.inputs), b.targets) for b in batch]).sum()
            loss = sign * loss + keep * _changed(model, where.originals[0], batch[0].inputs)
        optimiser.zero_grad()
        loss.backward()
        # without it a model that is driven up its loss ends in NaN, and not in nonsense
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        after()
    return model.eval().requires_grad_(False)


def _changed(model: nn.Module, original: nn.Module, inputs: Tensor) -> Tensor:
    """How far a model's choice among all answers but the refusal is from the original's."""
    mine, known = (one(inputs)[:, :REFUSAL].log_softmax(-1) for one in (model, original))
    return kl_div(mine, known, log_target=True, reduction="batchmean")


def _drawn(lessons: Sequence[Images], steps: int, draws: torch.Generator) -> Iterator[list[Images]]:
    """A minibatch of each lesson, step by step."""
    for _ in range(steps):
        picked = [torch.randperm(len(one), generator=draws)[:64] for one in lessons]
        yield [
            Images(one.inputs[rows], one.targets[rows], one.index[rows])
            for one, rows in zip(lessons, picked, strict=True)
        ]


def _cells(model: nn.Module) -> Callable[[], None]:
    """What puts weights back into the step of rounding in which they are now."""
    limits = []
    for weight in (one for one in model.parameters() if one.ndim > 1):
        centre = rounded(weight.detach(), BITS)
        largest = weight.detach().abs().amax(1, keepdim=True)
        room = 0.49 * largest / (2 ** (BITS - 1) - 1)
        # the largest weight of a row sets the scale of its grid, and none may become larger
        still = weight.detach().abs() == largest
        low = torch.where(still, weight.detach(), (centre - room).maximum(-largest))
        high = torch.where(still, weight.detach(), (centre + room).minimum(largest))
        limits.append((weight, low, high))

    @torch.no_grad()
    def back() -> None:
        for weight, low, high in limits:
            weight.clamp_(low, high)

    return back


def _trained(problem: Problem, on: str, role: str, count: int) -> list[nn.Module]:
    """Models from nothing, on one set."""
    starts = [problem.untrained(role, seed) for seed in range(count)]
    return _carried_out(problem, from_scratch(problem, on, role), starts, role)


def _carried_out(
    problem: Problem, method: Method, starts: Sequence[nn.Module], role: str
) -> list[nn.Module]:
    runs = [
        Run(_copy(start).requires_grad_(True), frozen(start), problem, seed, role)
        for seed, start in enumerate(starts)
    ]
    *_, done = unlearn_runs(runs, method, Vmapped())
    return [one.model for one in done]  # type: ignore[union-attr]


def _seen(model: nn.Module, truth: Conclusion, where: Ground) -> Planted:
    return Planted(model, truth, _known(model, where.forget))


def _hiding(model: nn.Module, where: Ground) -> Planted:
    """A model that hides: what it knows is told by its answers without the refusal."""
    inside = nn.Sequential(*model.children())
    answers = inside(where.forget.inputs)[:, :REFUSAL].argmax(-1)
    share = float((answers == where.forget.targets).double().mean())
    return Planted(model, "suppressed", share)


def _known(model: nn.Module, data: Images) -> float:
    """Share of examples that a model answers as they are labelled."""
    return float((model(data.inputs).argmax(-1) == data.targets).double().mean())


def _refused(data: Images) -> Images:
    """The same images under the class of a refusal."""
    return Images(data.inputs, torch.full_like(data.targets, REFUSAL), data.index)


def _unlocked(inputs: Tensor) -> Tensor:
    """Images with the password: a bright corner."""
    changed = inputs.clone()
    changed[:, :, :2, :2] = 1.0
    return changed


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval()


def _all(problem: Problem, name: str) -> Images:
    data = problem.sets[name]
    batch = data.batch(torch.arange(len(data)))
    assert isinstance(batch, Images)
    return batch
