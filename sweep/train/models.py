"""Models by their spec: multilayer perceptron, convolutional network, residual network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from sweep.errors import ConfigError
from sweep.train.batches import require_images
from sweep.train.convolution import Bias, Conv2d
from sweep.train.params import Model

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def build(spec: Mapping[str, Any] | Model, input_shape: Sequence[int], outputs: int) -> nn.Module:
    """Return the module of a model's spec on the CPU, with weights drawn from torch's global generator.

    spec: a `Model` or its JSON form. input_shape: of one example, without the batch. outputs: its logits or
    values. Forward: (batch, *input_shape) -> (batch, outputs). Raises: ConfigError if they do not fit.
    """
    model = Model.model_validate(spec)
    if model.name == "mlp":
        assert model.hidden is not None
        return nn.Sequential(nn.Flatten(), *_dense(prod(input_shape), model.hidden, model, outputs))
    assert model.channels is not None
    require_images(model, input_shape)
    return _cnn(model, input_shape, outputs) if model.name == "cnn" else ResNet(model, input_shape[0], outputs)


def _dense(width: int, hidden: Sequence[int], model: Model, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for wider in hidden:
        layers.append(nn.Linear(width, wider, bias=not model.batch_norm))
        layers += [nn.BatchNorm1d(wider)] if model.batch_norm else []
        layers.append(ACTIVATIONS[model.activation]())
        layers += [nn.Dropout(model.dropout)] if model.dropout else []
        width = wider
    return [*layers, nn.Linear(width, outputs)]


def _cnn(model: Model, input_shape: Sequence[int], outputs: int) -> nn.Module:
    assert model.channels is not None
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for wider in model.channels:
        layers.append(Conv2d(channels, wider, 3, padding=1))
        shift = nn.BatchNorm2d(wider) if model.batch_norm else Bias(wider, 9 * channels)
        layers += _pooled(shift, model.activation)
        channels, height, width = wider, height // 2, width // 2
    if not height * width:
        raise ConfigError(
            f"{len(model.channels)} poolings leave nothing of images of {input_shape[1]} x {input_shape[2]}",
            where="params.model.channels", hint="list fewer channels",
        )  # fmt: skip
    head = _dense(channels * height * width, model.hidden or (), model, outputs)
    return nn.Sequential(*layers, nn.Flatten(), *head)


def _pooled(shift: nn.Module, activation: str) -> list[nn.Module]:
    """Return a pooling and the layers after the convolution, in the order that computes with the fewest numbers.

    The larger of two numbers stays the larger one after ReLU and after a bias. Batch norm needs all numbers.
    """
    pool, act = nn.MaxPool2d(2), ACTIVATIONS[activation]()
    if activation != "relu":
        return [shift, act, pool]
    return [pool, shift, act] if isinstance(shift, Bias) else [shift, pool, act]


class ResNet(nn.Module):
    """Stages of residual blocks: each stage after the first halves the resolution (He et al., 2016, 4.2)."""

    def __init__(self, model: Model, channels: int, outputs: int) -> None:
        super().__init__()
        assert model.channels is not None
        assert model.blocks is not None
        first = model.channels[0]
        self.stem = nn.Sequential(_conv(channels, first, 1), ACTIVATIONS[model.activation]())
        blocks: list[nn.Module] = []
        width = first
        for stage, wider in enumerate(model.channels):
            for block in range(model.blocks):
                blocks.append(Block(width, wider, 2 if stage and not block else 1, model.activation))
                width = wider
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(model.dropout) if model.dropout else nn.Identity()
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.blocks(self.stem(inputs)).mean(dim=(2, 3))
        out: Tensor = self.head(self.dropout(features))
        return out


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected if the shape changes."""

    def __init__(self, width: int, wider: int, stride: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.body = nn.Sequential(_conv(width, wider, stride), act(), _conv(wider, wider, 1))
        changes = stride > 1 or width != wider
        self.shortcut = _conv(width, wider, stride, size=1) if changes else nn.Identity()
        self.activation = act()

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(inputs) + self.shortcut(inputs))
        return out


def _conv(width: int, wider: int, stride: int, size: int = 3) -> nn.Module:
    return nn.Sequential(Conv2d(width, wider, size, stride, padding=size // 2), nn.BatchNorm2d(wider))
