"""Convolution whose gradients use fast, small and deterministic kernels, and a bias that is added after a pooling.

On a GPU, cuDNN chooses the kernels for the gradients of torch's convolution. Its deterministic ones are Fourier
transforms for small images, and slow for strides and a single channel, which matters for many lanes on one GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Convolve(torch.autograd.Function):
    """conv2d of inputs (batch, channels, height, width) with square kernels, equal strides and paddings, no bias."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(inputs, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        wanted: list[bool] = list(ctx.needs_input_grad[:2])
        to_inputs = _to_inputs(grad, inputs, weight, ctx.stride, ctx.padding) if wanted[0] else None
        to_weight = _to_weight(grad, inputs, weight, ctx.stride, ctx.padding) if wanted[1] else None
        return to_inputs, to_weight, None, None


def _to_inputs(grad: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of the inputs. With a stride of 1, it is a convolution with the mirrored kernel."""
    size = weight.shape[2]
    if stride == 1:
        mirrored = weight.flip(2, 3).transpose(0, 1).contiguous()
        return F.conv2d(grad, mirrored, None, 1, size - 1 - padding)
    if size == 1:
        found = torch.zeros_like(inputs)
        rows = torch.matmul(weight.flatten(1).t(), grad.flatten(2))
        found[:, :, ::stride, ::stride] = rows.view(len(grad), -1, *grad.shape[2:])
        return found
    return _by_torch(grad, inputs, weight, stride, padding, (True, False))[0]


def _to_weight(grad: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of the weight. If patches are few (one channel, or a stride), it is a product with them."""
    size, channels = weight.shape[2], weight.shape[1]
    if stride == 1 and channels > 1:
        return _by_torch(grad, inputs, weight, stride, padding, (False, True))[1]
    if size == 1:
        patches = inputs[:, :, ::stride, ::stride].flatten(2)
    else:
        seen = F.pad(inputs, (padding,) * 4).unfold(2, size, stride).unfold(3, size, stride)
        patches = seen.permute(0, 1, 4, 5, 2, 3).reshape(len(inputs), channels * size * size, -1)
    return torch.bmm(grad.flatten(2), patches.transpose(1, 2)).sum(0).view(weight.shape)


def _by_torch(
    grad: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> list[Tensor]:
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        grad, inputs, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return found


class Conv2d(nn.Conv2d):
    """Torch's convolution without bias and with square kernels. On a GPU, its gradients are those of `Convolve`.

    Under autocast and on a CPU, they are torch's own.
    """

    def __init__(self, channels: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(channels, outputs, size, stride, padding, bias=False)
        self.plan = stride, padding

    def forward(self, inputs: Tensor) -> Tensor:
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        if trains and inputs.is_cuda and not torch.is_autocast_enabled("cuda"):
            found: Tensor = Convolve.apply(inputs, self.weight, *self.plan)  # type: ignore[no-untyped-call]
            return found
        return super().forward(inputs)


class Bias(nn.Module):
    """The bias of a convolution before a pooling, added after it to a quarter of the numbers.

    The values are the same, since the larger of two numbers stays the larger when both get the same bias.
    """

    def __init__(self, channels: int, fan_in: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels))
        nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)  # as torch draws the bias of a convolution

    def forward(self, inputs: Tensor) -> Tensor:
        # Spread first: its gradient is then summed over the batch, and only then over the image, which is faster.
        return inputs + self.bias[:, None, None].expand(inputs.shape[1:])
