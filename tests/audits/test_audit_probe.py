"""Probes and prototypes: golden values, what they see beneath a head, and what a pass costs."""

from __future__ import annotations

import copy
from typing import Any

import audit_tools as tools
import numpy as np
import pytest
import torch
from audit_tools import points
from sklearn.linear_model import Ridge
from torch import nn

import tiny
from expunge.audits.images.answers import ForgetConfidence
from expunge.audits.images.classifier_audit import (
    ImageContext,
    accuracy_on,
    examples,
    measure,
    split_forget,
)
from expunge.audits.images.probe import (
    WIDEST,
    IllusionGap,
    LayerGap,
    LinearProbe,
    NearestClassCentre,
    features,
    gaps_by_layer,
)
from expunge.audits.images.relearn import PrototypeRelearn
from expunge.audits.weights import weighted_layers
from expunge.core.batch import Tensors
from expunge.core.problem import Problem
from expunge.engine.run import frozen
from expunge.errors import BadData, Unsupported


def head(*rows: tuple[float, ...], bias: tuple[float, ...] = ()) -> nn.Sequential:
    """Features are the inputs themselves, and one linear layer answers."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(rows[0]), len(rows)))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(rows))
        model[1].bias.copy_(torch.tensor(bias or (0.0,) * len(rows)))
    return model.eval()


def plane() -> Problem:
    """Class 0 left, class 1 right, class 2 above: class 2 is to be forgotten."""
    train = points(
        [[-2, 0], [-3, 0], [2, 0], [3, 0], [0, 2], [0, 3], [0, 4], [0, 5]], [0, 0, 1, 1, 2, 2, 2, 2]
    )
    return Problem.split(train, torch.tensor([4, 5, 6, 7]), name="plane")


KNOWS = head((-1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
HIDES = head((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0))


def flat() -> ImageContext:
    return ImageContext(plane(), frozen(KNOWS), frozen(HIDES))


def test_nearest_class_centre_by_hand() -> None:
    probe = NearestClassCentre()
    seen = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 6.0]]).double()
    unseen = torch.tensor([[1.1, 0.0], [0.0, 3.4], [9.0, 9.0]]).double()
    away = probe.answer(seen, torch.tensor([0, 0, 2]), unseen, 3)
    # the centres are (1, 0) and (0, 6); class 1 has none and is never answered
    assert away[0].tolist() == pytest.approx([-0.1, -np.inf, -np.hypot(1.1, 6.0)])
    assert away.argmax(1).tolist() == [0, 2, 2]


def test_the_linear_probe_is_ridge_regression_with_classes_counted_alike() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5], rng.integers(0, 3, 40)
    y[:20] = 0  # unequal classes
    unseen = rng.normal(size=(7, 5))
    ours = LinearProbe(ridge=0.3).answer(torch.tensor(x), torch.tensor(y), torch.tensor(unseen), 3)
    weight = 1 / np.bincount(y)[y] / 3
    centre = weight @ x
    scale = np.sqrt(weight @ (x - centre) ** 2)
    theirs = Ridge(alpha=0.3).fit((x - centre) / scale, np.eye(3)[y], sample_weight=weight)
    assert ours.numpy() == pytest.approx(theirs.predict((unseen - centre) / scale))


@pytest.mark.parametrize("probe", [LinearProbe(share=0.25), NearestClassCentre(share=0.25)])
def test_a_probe_sees_beneath_the_last_layer(probe: Any) -> None:
    context = flat()
    assert accuracy_on(KNOWS, examples(context, "forget")) == 1
    assert accuracy_on(HIDES, examples(context, "forget")) == 0
    assert measure(probe, HIDES, context) == measure(probe, KNOWS, context) == 1
    assert measure(IllusionGap(probe), HIDES, context) == 1
    assert measure(IllusionGap(probe), KNOWS, context) == 0
    assert measure(ForgetConfidence(), HIDES, context) < 0.05


def test_a_class_that_no_one_shows_is_never_answered() -> None:
    assert measure(LinearProbe(share=0.0), KNOWS, flat()) == 0
    assert measure(NearestClassCentre(share=0.0), KNOWS, flat()) == 0


def test_the_gap_is_never_below_0() -> None:
    # output accuracy 1, the probe's 0
    assert measure(IllusionGap(LinearProbe(share=0.0)), KNOWS, flat()) == 0


def test_features_are_what_goes_into_a_layer() -> None:
    model, data = tiny.made(), tiny.pictures()
    names = [name for name, _ in weighted_layers(model)]
    assert names == ["0", "4"]
    found = features(model, data, names)
    with torch.no_grad():
        assert torch.equal(found["0"], data.inputs.flatten(1).double())
        assert torch.equal(found["4"], model[:4](data.inputs).double())


class Counting(nn.Module):
    """Counts the examples that pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.passed = inner, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passed += len(inputs)
        return self.inner(inputs)


def test_all_layers_together_take_one_pass() -> None:
    model, context = Counting(tiny.made()), tools.context()
    probe = LinearProbe(share=0.25)
    table = gaps_by_layer(probe, model, context)
    taught, rest = split_forget(context, 0.25)
    # the retain set and what is shown, what is measured, and once more for the model's own answers
    assert model.passed == len(examples(context, "retain")) + len(taught) + 2 * len(rest)
    assert [row.layer for row in table] == ["inner.0", "inner.4"]
    for place, row in enumerate(table):
        one = measure(LinearProbe(layer=place, share=0.25), model.inner, context)
        gap = measure(IllusionGap(LinearProbe(layer=place, share=0.25)), model.inner, context)
        assert row == LayerGap(f"inner.{(0, 4)[place]}", one, gap)
    model.passed = 0
    probe.measure(model, context)
    assert model.passed == len(examples(context, "retain")) + len(examples(context, "forget"))


class Noting(nn.Module):
    """Keeps what passes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append(inputs)
        return self.inner(inputs)


class Twice(nn.Module):
    """One layer, passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.layer(inputs.flatten(1))))


def test_of_a_layer_that_is_passed_twice_the_last_time_counts() -> None:
    model, data = Twice(), tiny.pictures()
    found = features(model, data, ["layer"])["layer"]
    with torch.no_grad():
        assert torch.equal(found, model.layer(data.inputs.flatten(1)).double())


def test_wide_feature_maps_are_averaged_over_places() -> None:
    model = nn.Sequential(nn.Conv2d(64, 2, 1), nn.Flatten(), nn.Linear(2 * 16 * 16, 10))
    data = Tensors(torch.rand(3, 64, 16, 16), torch.tensor([0, 1, 2]))
    found = features(model, data, ["0"])["0"]
    assert found.shape == (3, 64 * 5 * 5)
    assert found.shape[1] <= WIDEST
    assert found.mean(1).tolist() == pytest.approx(data.inputs.mean((1, 2, 3)).tolist(), abs=0.02)


def test_hooks_are_taken_off_when_a_model_fails() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(9, 10))
    with pytest.raises(RuntimeError):
        features(model, tiny.pictures(), ["1"])
    assert not model[1]._forward_pre_hooks


def test_a_layer_that_is_not_there_is_told() -> None:
    with pytest.raises(Unsupported, match="reads layer 2; the model has 2"):
        LinearProbe(layer=2).measure(tiny.made(), tools.context())
    with pytest.raises(Unsupported, match="no linear layer and no convolution"):
        weighted_layers(nn.Sequential(nn.Flatten(), nn.ReLU()))


def test_a_prototype_by_hand() -> None:
    model = copy.deepcopy(HIDES)
    with torch.no_grad():
        model[1].bias[2] = -8.0
    audit = PrototypeRelearn(count=1, blend=0.9)
    # whichever example is shown, its direction is (0, 1): weight 0.9 (0, 1) + 0.1 (0, -1)
    inner = copy.deepcopy(model)
    assert audit.measure(inner, flat()) == 1
    assert inner[1].weight[2].tolist() == pytest.approx([0.0, 0.8])
    assert inner[1].bias[2].item() == pytest.approx(-0.8)
    assert torch.equal(inner[1].weight[:2], model[1].weight[:2])
    # with half of each the row is (0, 0) and the bias -4: nothing is brought back
    assert PrototypeRelearn(count=1).measure(copy.deepcopy(model), flat()) == 0


def test_prototypes_are_not_measured_on_what_they_were_made_of() -> None:
    context = flat()
    audit = PrototypeRelearn(count=3)
    shown, rest = audit._shown(context)
    assert len(shown) == 3
    assert sorted(shown.index.tolist() + rest.index.tolist()) == [0, 1, 2, 3]
    assert audit.grain(context) == 1.0
    noted = Noting(copy.deepcopy(HIDES))
    audit.measure(noted, context)
    last = noted.seen[-1].flatten(1).tolist()
    assert last == rest.batch(torch.arange(1)).inputs.flatten(1).tolist()


def test_too_few_images_for_prototypes() -> None:
    assert "4 forget examples, and more than 4" in PrototypeRelearn(count=4).mismatch(plane())
    assert PrototypeRelearn(count=3).mismatch(plane()) == ""
    with pytest.raises(BadData, match="none is left"):
        PrototypeRelearn(count=4).measure(copy.deepcopy(HIDES), flat())


def test_a_network_whose_last_linear_layer_does_not_answer() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2), nn.Unflatten(1, (2, 1)), nn.Conv1d(2, 3, 1)
    )
    with pytest.raises(Unsupported, match="does not answer with classes"):
        PrototypeRelearn(count=1).measure(model, flat())
