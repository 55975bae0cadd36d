"""A function of tensors as the list of kernels that it calls, without the Python that chose them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


class Traced:
    """Call a function of tensors again and again; only its first call for some shapes runs its Python.

    That call notes the kernels and what each is given. Later calls run these alone, which gives the same bits: most of
    the time of a small step on a CPU goes into choosing its kernels. What the function reads beside its arguments,
    dictionaries and tuples of tensors or None, stays as it was at that first call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._kernels: dict[tuple[torch.Size, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        tensors = list(_leaves(arguments))
        shapes = tuple(each.shape for each in tensors)
        if shapes in self._kernels:
            return self._kernels[shapes](*tensors)
        found = None

        def once(*given: Tensor) -> Any:
            nonlocal found
            found = self.function(*_rebuilt(arguments, iter(given)))
            return found

        self._kernels[shapes] = make_fx(once)(*tensors)
        return found


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif value is not None:
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


def _rebuilt(like: Any, leaves: Iterator[Tensor]) -> Any:
    if isinstance(like, Tensor):
        return next(leaves)
    if isinstance(like, dict):
        return {name: _rebuilt(each, leaves) for name, each in like.items()}
    return None if like is None else tuple(_rebuilt(each, leaves) for each in like)
