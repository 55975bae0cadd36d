"""Row: functions replaced under `vmap`, so that a seed's bits do not depend on the other rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

CHOICES = 1 << 20  # tokens of a row's batch times vocabulary: larger embeddings are not made one-hot


SCORES = 512**2  # of attention, per example and head: a larger number is not kept


class Row(TorchFunctionMode):
    """Replace, under `vmap`, functions whose results would depend on the other rows or that would run row by row.

    Dropout hashes (seed, step, layer, element) instead of drawing from a random stream, which would depend on the row.
    Attention becomes products, which torch computes for all rows at once. So does the gradient of an embedding: torch
    would add it up slowly, or in an order that depends on the other rows. When compiled, cross-entropy becomes a
    `where`, which is fused with the operations around it; uncompiled, this would take more memory than torch's own.
    stream, step: int64, with one stream for each row. They are hashed at the first dropout.
    """

    def __init__(self, stream: Tensor, step: Tensor) -> None:
        super().__init__()
        self.stream, self.step, self.layer = stream, step, 0
        self._key: Tensor | None = None

    @property
    def key(self) -> Tensor:
        if self._key is None:
            self._key = hashed(self.stream ^ hashed(self.step))
        return self._key

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.embedding:
            return _embedding(*args, **kwargs)
        if func is F.cross_entropy and torch.compiler.is_compiling():
            return _cross_entropy(*args, **kwargs)
        if func is Tensor.unflatten:  # within a mode, torch's compiler cannot follow the method, which calls its super
            return torch.unflatten(*args, **kwargs)
        if func in _DROPOUTS:
            return self._drop(_DROPOUTS[func], *args, **kwargs)
        return func(*args, **kwargs)

    def _drop(
        self, kept: int | None, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        self.layer += 1
        shape = input.shape if kept is None else (*input.shape[:kept], *(1 for _ in input.shape[kept:]))
        count = 1
        for size in shape:
            count *= size
        places = torch.arange(count, device=input.device).view(shape)
        bits = hashed(hashed(self.key + self.layer * 0x3C6EF372) ^ places)
        return torch.where(bits >= int(p * (1 << 32)), input / (1 - p) if p < 1 else input, 0.0)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Compute attention by its definition: torch's fused kernels take no rows and draw their own masks.

        Without dropout, and if the scores would take much memory, torch's kernels compute one row after the other.
        """
        if not dropout_p and query.shape[-2] * key.shape[-2] > SCORES:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        if attn_mask is not None:
            allowed = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if allowed else scores + attn_mask
        return self._drop(None, scores.softmax(-1), dropout_p) @ value


# By function, the number of leading dimensions with a mask of their own; None: all.
_DROPOUTS: dict[Any, int | None] = {
    F.dropout: None, torch.dropout: None, F.dropout1d: 2, F.dropout2d: 2, F.dropout3d: 2,
}  # fmt: skip


def _cross_entropy(input: Tensor, target: Tensor, *rest: Any, **more: Any) -> Tensor:
    """Return the mean of a batch without a gather, whose gradient would be a scatter. Torch computes other forms."""
    ignored, reduction = more.get("ignore_index", -100), more.get("reduction", "mean")
    plain = not rest and more.keys() <= {"ignore_index", "reduction"} and reduction == "mean"
    if not plain or target.is_floating_point() or input.dim() < 2:
        return F.cross_entropy(input, target, *rest, **more)
    classes = torch.arange(input.shape[1], device=input.device).view(-1, *(1 for _ in input.shape[2:]))
    counted: Tensor = target != ignored
    chosen = torch.where((target.unsqueeze(1) == classes) & counted.unsqueeze(1), input.log_softmax(1), 0.0)
    return -chosen.sum() / counted.sum()


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Return rows of the weight whose gradient is a product with one-hot rows. Torch computes other forms."""
    if max_norm is not None or scale_grad_by_freq or sparse or input.numel() * len(weight) > CHOICES:
        return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    known = torch.arange(len(weight), device=input.device)
    chosen = input.unsqueeze(-1) == known
    if padding_idx is not None:
        chosen = chosen & (known != padding_idx % len(weight))
    product = chosen.to(weight.dtype) @ weight
    # The product gives the gradient and the lookup the value, because a product may be rounded to TF32.
    return F.embedding(input, weight.detach()) + (product - product.detach())


def hashed(z: Tensor) -> Tensor:
    """Return 32 well-mixed bits of an int64 by the best two-round hash of Wellons's search (2018), bias 0.11.

    Products stay below 2**63, so the arithmetic is the same in every kernel.
    """
    z = z & 0xFFFFFFFF
    z = (z ^ (z >> 16)) * 0x21F0AAAD & 0xFFFFFFFF
    z = (z ^ (z >> 15)) * 0x735A2D97 & 0xFFFFFFFF
    return z ^ (z >> 15)
