"""Kernels: which layer an operation without a deterministic kernel belongs to, and what to do about it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from sweep import seeding
from sweep.handle import Run
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.task import Interval

_MARK = " does not have a deterministic implementation"


def missing(error: BaseException) -> bool:
    """Whether an exception is torch's refusal to run an operation that would not repeat its bits."""
    return isinstance(error, RuntimeError) and _MARK in str(error)


def explained(failure: Failure, error: BaseException, run: Run, train: Callable[[Sequence[Run]], Any]) -> Failure:
    """The failure, naming layer, operation and the way out.

    In the forward pass the traceback tells the layer; in the backward pass it does not, so the run is trained
    again with an eye on every gradient, in a folder that is thrown away.
    """
    operation = str(error).partition(_MARK)[0].strip()
    layer, when = _of_traceback(error.__traceback__), "forward"
    if not layer:
        layer, when = _of_gradients(run, train), "backward"
    where = f"layer {layer}, {when} pass" if layer else f"{when} pass"
    return replace(
        failure,
        message=f"{operation} has no deterministic kernel on {run.device} ({where}); use another operation there, or "
        "train in fast mode (--fast), where equal bits are not promised",
    )


def _of_traceback(trace: TracebackType | None) -> str:
    """The path in its model of the innermost module whose forward was running."""
    modules: list[nn.Module] = []
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and trace.tb_frame.f_code.co_name == "_call_impl":
            modules.append(owner)
        trace = trace.tb_next
    return _path(modules[0], modules[-1]) if modules else ""


def _path(root: nn.Module, module: nn.Module) -> str:
    names = {id(each): name for name, each in root.named_modules()}
    name, kind = names.get(id(module), ""), type(module).__name__
    return f"{name} ({kind})" if name else kind


def _of_gradients(run: Run, train: Callable[[Sequence[Run]], Any]) -> str:
    """The layer whose output's gradient was the last to arrive before the operation was refused."""
    last = ""
    stack: list[nn.Module] = []

    def enter(module: nn.Module, _: Any) -> None:
        stack.append(module)

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        path = _path(stack[0], module) if stack else type(module).__name__
        while stack and stack.pop() is not module:
            pass
        for tensor in _tensors(output):
            # A container returns what its last layer returned: the inner one has spoken for it.
            if tensor.requires_grad and getattr(tensor, "_spoken_for", None) != id(tensor.grad_fn):
                tensor._spoken_for = id(tensor.grad_fn)  # type: ignore[attr-defined]
                tensor.register_hook(arrives(path))  # type: ignore[no-untyped-call]

    def arrives(path: str) -> Callable[[Tensor], None]:
        def note(_: Tensor) -> None:
            nonlocal last
            last = path

        return note

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            attempt = Attempt(Path(folder), run.id, this_process(), number=1)
            seeding.seed_everything(run.seed, deterministic=True)
            try:
                for _ in train([Run(run.spec, attempt, Interval(0, 0))]):
                    pass
            except Exception as error:
                if not missing(error):
                    return ""
            else:
                return ""
            finally:
                attempt.close()
    finally:
        for handle in handles:
            handle.remove()
        torch.cuda.empty_cache()
    return last


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each)
