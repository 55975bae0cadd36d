"""sha256 of tensors: the links of a run's chain of digests.

A digest covers the name, dtype, shape and little-endian bytes of each entry, sorted by name. Two mappings have the same
digest if and only if they hold the same bits under the same names. Strides, device and gradients do not count, but the
sign of a zero and the payload of a NaN do. For dtypes that NumPy and torch share, `arrays` and `tensors` give the same
digest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_SHARED = frozenset({torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool})


def tensors(mapping: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) of named dense tensors of any shape, dtype and device.

    Raises TypeError for a tensor without plain bytes (sparse, quantized, meta).
    """
    digest = hashlib.sha256()
    for name in sorted(mapping):
        tensor = mapping[name]
        digest.update(_head(name, tensor.dtype, tensor.shape))
        digest.update(_tensor_bytes(name, tensor))
    return digest.hexdigest()


def module(m: nn.Module) -> str:
    """Return the sha256 (hex) of the parameters and buffers of a module, including those outside its state dict.

    Tied parameters count under each of their names. Lazy parameters that have no shape yet count by name only.
    """
    named = dict(_named(m))
    lazy = sorted(name for name, tensor in named.items() if is_lazy(tensor))
    value = tensors({name: tensor for name, tensor in named.items() if not is_lazy(tensor)} if lazy else named)
    return hashlib.sha256(json.dumps([value, lazy]).encode("ascii")).hexdigest() if lazy else value


def _named(m: nn.Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    # `named_parameters` and `named_buffers` return the same in five times the time, which matters at every epoch.
    for held in (m._parameters, m._buffers):
        for name, tensor in held.items():
            if tensor is not None:
                yield prefix + name, tensor
    for name, child in m._modules.items():
        if child is not None:
            yield from _named(child, f"{prefix}{name}.")


def outside(m: nn.Module) -> dict[str, str]:
    """Return the sha256 (hex) of each dense tensor in a module that its state dict lacks.

    These are buffers that are not persistent, and plain attributes. When a module is built again, its code makes them.
    """
    held = m.state_dict().keys()
    found = {name: tensor for name, tensor in m.named_buffers(remove_duplicate=False) if name not in held}
    for path, one in m.named_modules():
        loose = {name: value for name, value in vars(one).items() if isinstance(value, Tensor)}
        found |= {f"{path}.{name}" if path else name: value for name, value in loose.items()}
    digests = {}
    for name, tensor in found.items():
        with suppress(TypeError):  # sparse, for example
            digests[name] = tensors({name: tensor})
    return digests


def arrays(mapping: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the sha256 (hex) of named NumPy arrays of any shape and plain dtype (numbers, booleans, strings, dates).

    Raises TypeError for arrays of objects and structured arrays, which have no bytes of their own.
    """
    digest = hashlib.sha256()
    for name in sorted(mapping):
        array = np.asarray(mapping[name])
        if array.dtype.hasobject or array.dtype.fields is not None:
            raise TypeError(f"{name!r} is an array of {array.dtype}, which has no bytes to compare")
        little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        # "float32", as torch names it. The names of strings and dates lack their width or unit.
        dtype = little.dtype.name if little.dtype.kind in "biufc" else little.dtype.str
        digest.update(_head(name, dtype, array.shape))
        digest.update(little.data if little.dtype.kind in "biufc" else little.tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _head(name: str, dtype: torch.dtype | str, shape: tuple[int, ...]) -> bytes:
    # JSON marks its own end and has the shape of the bytes that follow, so different mappings give different bytes.
    return json.dumps([name, str(dtype).removeprefix("torch."), list(shape)]).encode("ascii")


def _tensor_bytes(name: str, tensor: Tensor) -> memoryview:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else str(tensor.layout)
        raise TypeError(f"{name!r} is a {kind} tensor, which has no plain bytes to compare")
    if tensor.dtype in _SHARED and sys.byteorder == "little":
        # One call instead of six: for a small model the calls take as long as the hashing.
        return np.ascontiguousarray(tensor.numpy(force=True)).data
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    # Not `reshape(-1)`, which for one element or none may keep a stride that `view` refuses.
    raw = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)
    if sys.byteorder == "big":
        width = tensor.element_size() // (2 if tensor.is_complex() else 1)
        raw = raw.reshape(-1, width).flip(1).reshape(-1)
    return raw.numpy().data
