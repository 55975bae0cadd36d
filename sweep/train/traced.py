"""A function of tensors as the list of kernels that it calls, without its Python code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


class Traced:
    """A function of tensors whose Python code runs only once for arguments of the same shapes.

    The first call records the kernels and their arguments. Later calls run only these kernels, which gives the same
    bits. In a small step on a CPU, choosing the kernels takes most of the time. Arguments are tensors, None, and
    dictionaries and tuples of them. Everything else that the function reads keeps its value from the first call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._kernels: dict[tuple[torch.Size, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        tensors = list(_leaves(arguments))
        shapes = tuple(each.shape for each in tensors)
        if shapes in self._kernels:
            return self._kernels[shapes](*tensors)
        found = None

        def once(*given: Tensor) -> Any:
            nonlocal found
            found = self._function(*_rebuilt(arguments, iter(given)))
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
