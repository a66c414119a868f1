"""Parts: exact sets of weights on a net small enough to count, judged on the original."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from expunge.core.selector import Everything, Selector
from expunge.engine.loop import SingleModel
from expunge.engine.run import run_steps
from expunge.engine.training import Reset
from expunge.errors import BadSentence, Unsupported
from expunge.methods.selectors.judged import Random, Salient, Similar, Smallest
from expunge.methods.selectors.places import Convs, First, Last, Named, layers
from expunge.methods.steps.edits import Noise

ALL = {"0.weight", "1.weight", "1.bias", "4.weight", "4.bias"}
WHOLE = [
    (Everything(), ALL),
    (First(), {"0.weight", "1.weight", "1.bias"}),
    (Last(), {"4.weight", "4.bias"}),
    (First(2), ALL),
    (Last(2), ALL),
    (Convs(), {"0.weight"}),
    (Named(r"^4\."), {"4.weight", "4.bias"}),
    (Named("bias"), {"1.bias", "4.bias"}),
    (~Convs(), ALL - {"0.weight"}),
    (Last() | Convs(), {"4.weight", "4.bias", "0.weight"}),
    (First() & Named("bias"), {"1.bias"}),
    (~(First() & Named("bias")), ALL - {"1.bias"}),
    (Last() & First(), set()),
    (~Everything(), set()),
]


@pytest.mark.parametrize(("part", "wanted"), WHOLE, ids=[repr(part) for part, _ in WHOLE])
def test_parts_of_whole_parameters(part: Selector, wanted: set[str]) -> None:
    run = tiny.run()
    mask = run.mask(part)
    assert {name for name, inside in mask.items() if inside.all()} == wanted
    assert {name for name, inside in mask.items() if inside.any()} == wanted
    for name, weight in run.model.named_parameters():
        assert mask[name].shape == weight.shape
        assert mask[name].dtype == torch.bool


def test_layers_take_bias_and_normalisation_along() -> None:
    assert layers(tiny.net()) == [["0.weight", "1.weight", "1.bias"], ["4.weight", "4.bias"]]
    leading = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2), nn.Linear(2, 2))
    assert layers(leading) == [
        ["0.weight", "0.bias"],
        ["1.weight", "1.bias"],
        ["2.weight", "2.bias"],
    ]


def flat(mask: dict[str, Tensor]) -> Tensor:
    return torch.cat([inside.flatten() for inside in mask.values()])


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 1.0])
def test_smallest_is_exact_and_over_all_kernels_together(share: float) -> None:
    run = tiny.run()
    mask = run.mask(Smallest(share))
    sizes = {n: w.abs() for n, w in run.original.named_parameters() if w.ndim > 1}
    assert set(sizes) == {"0.weight", "4.weight"}
    together = torch.cat([s.flatten() for s in sizes.values()])
    assert int(flat(mask).sum()) == max(1, round(share * 676))
    assert not mask["1.weight"].any()
    assert not mask["4.bias"].any()
    chosen = torch.cat([mask[n].flatten() for n in sizes])
    assert share == 1.0 or together[chosen].max() < together[~chosen].min()


def gradient_of(model: nn.Module, rows: Tensor) -> dict[str, Tensor]:
    """The mean cross-entropy's gradient over some rows, in evaluation mode."""
    data = tiny.pictures()
    names, weights = zip(*model.named_parameters(), strict=True)
    for weight in weights:
        weight.requires_grad_(True)
    loss = F.cross_entropy(model.eval()(data.inputs[rows]), data.targets[rows])
    return dict(zip(names, torch.autograd.grad(loss, weights), strict=True))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_salient_takes_the_largest_gradients(share: float) -> None:
    mask = tiny.run().mask(Salient("forget", share))
    gradient = gradient_of(tiny.made(), torch.arange(12))
    sizes = torch.cat([gradient[name].abs().flatten() for name in mask])
    inside = flat(mask)
    assert int(inside.sum()) == round(share * 694)
    assert sizes[inside].min() >= sizes[~inside].max() * (1 - 1e-4)


def test_salient_knows_sets_apart() -> None:
    run = tiny.run()
    assert not torch.equal(flat(run.mask(Salient("forget"))), flat(run.mask(Salient("retain"))))


def test_similar_is_a_share_of_each_kernel_where_gradients_differ_least() -> None:
    run = tiny.run()
    mask = run.mask(Similar("retain", "forget", 0.3))
    drawn = torch.randperm(48, generator=tiny.run().stream("similar"))[:12] + 12
    theirs, ours = gradient_of(tiny.made(), drawn), gradient_of(tiny.made(), torch.arange(12))
    for name in ("0.weight", "4.weight"):
        assert int(mask[name].sum()) == round(0.3 * mask[name].numel())
        difference = (theirs[name] - ours[name]).abs()
        assert difference[mask[name]].max() <= difference[~mask[name]].min() * 1.001
    assert not mask["1.weight"].any()
    assert not mask["4.bias"].any()
    assert run.counts.examples == {"retain": 12, "forget": 12}


def test_random_takes_about_its_share_of_all_weights() -> None:
    run = tiny.run(tiny.made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 200))))
    for share in (0.1, 0.7):
        assert float(flat(run.mask(Random(share))).float().mean()) == pytest.approx(share, abs=0.02)
    assert flat(run.mask(Random(1.0))).all()


DETERMINISTIC = [Everything(), Last(), Smallest(0.3), Salient("forget", 0.3), ~Salient(share=0.2)]


@pytest.mark.parametrize("part", DETERMINISTIC, ids=str)
def test_parts_are_judged_on_the_original_for_good(part: Selector) -> None:
    one, two = tiny.run(seed=1), tiny.run(seed=2)
    list(run_steps((Reset(), Noise(1.0)), SingleModel(two)))
    two.place, two.turn = "/7", (3, 4)
    assert torch.equal(flat(one.mask(part)), flat(two.mask(part)))
    assert one.mask(part) is one.mask(part)
    assert not part.redraws


@pytest.mark.parametrize(
    "part", [Random(0.3), Similar(), ~Random(0.3) & Last(), Last() | Similar()]
)
def test_random_and_similar_draw_anew(part: Selector) -> None:
    one, same, other, later, turned = (tiny.run(seed=seed) for seed in (1, 1, 2, 1, 1))
    later.place, turned.turn = "/7", (1, 2)
    first = flat(one.mask(part))
    assert part.redraws
    assert torch.equal(first, flat(same.mask(part)))
    for run in (other, later, turned):
        assert not torch.equal(first, flat(run.mask(part)))
    assert part not in one.memo


def test_a_memo_is_shared_between_members_of_one_original() -> None:
    one = tiny.run()
    one.mask(Salient("forget"))
    assert list(one.memo) == [Salient("forget")]


@pytest.mark.parametrize(
    ("part", "fault"), [(Last(3), "2 layers; 3"), (First(9), "2 layers; 9")], ids=str
)
def test_more_layers_than_there_are(part: Selector, fault: str) -> None:
    with pytest.raises(Unsupported, match=fault):
        tiny.run().mask(part)


def test_a_pattern_that_matches_nothing_tells_the_names() -> None:
    with pytest.raises(BadSentence, match=r"it has 0\.weight, 1\.weight"):
        tiny.run().mask(Named("head"))


def test_a_model_without_kernels() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(64))
    with pytest.raises(Unsupported, match="no kernel"):
        tiny.run(model).mask(Smallest(0.5))


WRONG: list[tuple[type, dict[str, Any]]] = [
    (Last, {"layers": 0}),
    (First, {"layers": -1}),
    (Smallest, {"share": 0.0}),
    (Smallest, {"share": 1.1}),
    (Salient, {"share": -0.1}),
    (Similar, {"share": 2.0}),
    (Random, {"share": 0.0}),
    (Named, {"pattern": "("}),
]


@pytest.mark.parametrize(("part", "given"), WRONG, ids=str)
def test_parts_refuse_arguments_that_make_no_sense(part: type, given: dict[str, Any]) -> None:
    with pytest.raises(BadSentence):
        part(**given)


def test_parts_join_with_parts_alone() -> None:
    for wrong in (1, "x", None):
        with pytest.raises(TypeError):
            Last() | wrong
        with pytest.raises(TypeError):
            Last() & wrong
