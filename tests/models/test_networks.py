from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from expunge.errors import BadSentence
from expunge.problems.networks.classifiers import (
    BasicBlock,
    KaimingConv2d,
    Residual,
    convnet,
    resnet9,
    resnet18,
)

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet": lambda: convnet(10, 3, 32),
    "resnet9": lambda: resnet9(10),
    "resnet18": lambda: resnet18(10),
}
EACH = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def with_weights(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (name, module)
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 27w + 18w^2 + 72w^2 + 144w^2 convolutions, 22w BatchNorm, 16w * 10 + 10 linear; w = 16,
        # where the linear layer sees 4w channels of 2x2 pixels.
        ("convnet", 27 * 16 + 234 * 256 + 22 * 16 + 16 * 16 * 10 + 10),
        # Convolutions 6,563,520, BatchNorm 4,480, linear 5,130.
        ("resnet9", 6_573_130),
        ("resnet18", 11_173_962),
    ],
)
def test_number_of_parameters(name: str, expected: int) -> None:
    assert sum(p.numel() for p in NETWORKS[name]().parameters()) == expected


@EACH
def test_forward_shape_and_every_parameter_is_used(make: Callable[[], nn.Module]) -> None:
    model = make()
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 10)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@EACH
def test_definition_order_is_forward_order(make: Callable[[], nn.Module]) -> None:
    model, called = make(), []
    for name, module in with_weights(model):
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    model(torch.randn(2, 3, 32, 32))
    assert called == [name for name, _ in with_weights(model)]


@EACH
def test_weights_lie_in_three_kinds_of_leaves_that_can_be_reset(
    make: Callable[[], nn.Module],
) -> None:
    for name, module in with_weights(make()):
        assert isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear), name
        before = {key: value.clone() for key, value in module.state_dict().items()}
        with torch.no_grad():
            for value in module.state_dict().values():
                value.add_(7)
        module.reset_parameters()
        for key, value in module.state_dict().items():
            # Drawn anew around zero, or back at the constants of BatchNorm.
            assert (value.float() - before[key].float()).abs().max() < 3, (name, key)


@EACH
def test_nothing_is_random_in_evaluation_and_there_is_no_dropout(
    make: Callable[[], nn.Module],
) -> None:
    model = make().eval()
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(inputs), model(inputs))
    assert not any("dropout" in type(module).__name__.lower() for module in model.modules())


@EACH
def test_convolutions_have_kaiming_variance_at_birth_and_after_a_reset(
    make: Callable[[], nn.Module],
) -> None:
    for _, module in with_weights(make()):
        if not isinstance(module, nn.Conv2d) or module.weight.numel() < 4000:
            continue
        expected = 2 / (module.out_channels * module.kernel_size[0] ** 2)
        for _ in range(2):
            # The variance of n normal draws deviates by sqrt(2 / n); five of those, n >= 4000.
            assert module.weight.var().item() == pytest.approx(expected, rel=0.12)
            module.reset_parameters()


def test_a_bias_starts_at_zero() -> None:
    bias = KaimingConv2d(2, 3, 1).bias
    assert bias is not None
    assert bias.tolist() == [0.0, 0.0, 0.0]


def test_convnet_stays_under_a_million_multiply_adds() -> None:
    with FlopCounterMode(display=False) as counter:
        convnet(10, 3, 32).eval()(torch.zeros(1, 3, 32, 32))
    # By hand: 27*16*256 + 9*16*32*64 + 9*32*64*16 + 9*64*64*4 + 256*10; a flop is half of one.
    assert counter.get_total_flops() == 2 * 850_432


@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 10), (3, 28, 2), (1, 1, 3)])
def test_convnet_takes_other_images(channels: int, size: int, classes: int) -> None:
    model = convnet(classes, channels, size, width=4).eval()
    assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize("make", [resnet9, resnet18])
def test_resnets_take_grey_images_and_other_sizes(make: Callable[[int, int], nn.Module]) -> None:
    assert make(5, 1).eval()(torch.zeros(1, 1, 24, 24)).shape == (1, 5)


def zero_last(block: nn.Module, norm: nn.BatchNorm2d) -> Tensor:
    nn.init.zeros_(norm.weight)
    return block.eval()(torch.rand(2, 8, 4, 4, generator=torch.Generator().manual_seed(1)))


def test_blocks_are_the_identity_where_their_last_norm_is_zero() -> None:
    inputs = torch.rand(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    basic, residual = BasicBlock(8, 8), Residual(8)
    last = residual.stage2[1]
    assert isinstance(last, nn.BatchNorm2d)
    assert torch.equal(zero_last(basic, basic.bn2), inputs)
    assert torch.equal(zero_last(residual, last), inputs)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: convnet(0, 3, 32), "convnet got classes=0"),
        (lambda: convnet(10, 3, -1), "convnet got size=-1"),
        (lambda: convnet(10, 3, 32, width=0), "convnet got width=0"),
        (lambda: resnet9(10, 0), "resnet9 got channels=0"),
        (lambda: resnet18(-2), "resnet18 got classes=-2"),
    ],
)
def test_sizes_below_one_are_refused(call: Callable[[], nn.Module], complaint: str) -> None:
    with pytest.raises(BadSentence, match=complaint):
        call()


@pytest.mark.slow
def test_convnet_overfits() -> None:
    # Noise with random labels: only memory helps.
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 3, 32, 32, generator=draw)
    targets = torch.randint(10, (500,), generator=draw)
    model = convnet(10, 3, 32)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(25):
        for rows in torch.randperm(500, generator=draw).split(50):
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert (model.eval()(inputs).argmax(1) == targets).float().mean() > 0.98
