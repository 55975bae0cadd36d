"""The convolution's own gradients against torch's and against finite differences, and a bias behind a pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sweep.train.convolution import Bias, Convolve
from sweep.train.models import build

CASES = [
    (1, 1, 3, 8, 1),
    (3, 1, 3, 8, 1),
    (3, 2, 3, 8, 1),
    (3, 2, 3, 7, 1),
    (2, 2, 1, 8, 0),
    (2, 2, 1, 7, 0),
    (2, 1, 5, 8, 2),
]
NAMES = "channels, stride, size, image, padding"


@pytest.mark.parametrize(NAMES, CASES)
def test_gradients_are_those_of_finite_differences(
    channels: int, stride: int, size: int, image: int, padding: int
) -> None:
    draw: Any = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64, "requires_grad": True}
    inputs = torch.randn(2, channels, image, image, **draw)
    weight = torch.randn(4, channels, size, size, **draw)
    assert torch.autograd.gradcheck(Convolve.apply, (inputs, weight, stride, padding))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(NAMES, CASES)
def test_gradients_are_those_of_torch(channels: int, stride: int, size: int, image: int, padding: int) -> None:
    draw: Any = {"generator": torch.Generator().manual_seed(1), "requires_grad": True}
    inputs, weight = torch.randn(3, channels, image, image, **draw), torch.randn(4, channels, size, size, **draw)
    found = Convolve.apply(inputs, weight, stride, padding)  # type: ignore[no-untyped-call]
    wanted = nn.functional.conv2d(inputs, weight, None, stride, padding)
    assert torch.equal(found, wanted)
    slope = torch.randn(wanted.shape, generator=draw["generator"])
    torch.testing.assert_close(
        torch.autograd.grad(found, (inputs, weight), slope), torch.autograd.grad(wanted, (inputs, weight), slope),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_cnn_is_what_convolution_activation_and_pooling_make_of_it(activation: str, batch_norm: bool) -> None:
    torch.manual_seed(0)
    spec = {"name": "cnn", "channels": [4, 6], "hidden": [], "activation": activation, "batch_norm": batch_norm}
    net = build(spec, (1, 8, 8), 3)
    torch.manual_seed(0)
    acts = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    layers: list[nn.Module] = []
    for a, b in ((1, 4), (4, 6)):
        layers.append(nn.Conv2d(a, b, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(b)] if batch_norm else []
        layers += [acts[activation](), nn.MaxPool2d(2)]
    plain = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 3))
    # The same weights were drawn, and in the same order.
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    images = torch.randn(16, 1, 8, 8)
    torch.testing.assert_close(net(images), plain(images))
    net(images).square().sum().backward()
    plain(images).square().sum().backward()
    for mine, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_a_bias_behind_a_pooling_adds_what_one_before_it_would() -> None:
    torch.manual_seed(0)
    bias, images = Bias(3, 27), torch.randn(50, 3, 8, 8)
    behind = bias(nn.functional.max_pool2d(images, 2))
    assert torch.equal(behind, nn.functional.max_pool2d(images + bias.bias[:, None, None], 2))
