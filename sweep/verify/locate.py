"""The place in a model where two runs begin to differ: both are trained in parallel, with digests of every module.

Global hooks of torch see the outputs and gradients of every module and the steps of every optimizer. The training code
is not changed: a recipe is traced like any function of the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.optim import Optimizer, optimizer

from sweep.determinism import digest
from sweep.determinism.steps import captured
from sweep.verify.process import Process, Request

TRACE = "trace.tsv"
TRIES = 3  # a difference may not occur every time
POLL = 0.05


@dataclass(frozen=True)
class Culprit:
    """The first computation in which two runs differ.

    step: counts optimizer steps from 1. what: "output", "gradient of the output", "gradient" (of a parameter),
    "weights after the step", "input". module: its path in the model. kind: its class. parameter: its name, for a
    parameter. before: the computation just before, which was still equal.
    """

    step: int
    what: str
    module: str
    kind: str
    parameter: str = ""
    before: str = ""

    def __str__(self) -> str:
        of = f"parameter {self.parameter} of {self.module}" if self.parameter else self.module
        kind = f" ({self.kind})" if self.kind and self.kind != self.module else ""
        after = f", computed after the {self.before}, which is equal" if self.before else ""
        return f"step {self.step}: the {self.what} of {of}{kind}{after}"


def locate(request: Request) -> Culprit | None:
    """Train twice in parallel, until the first tensor that differs. Return None if none did in several tries."""
    request = replace(request, traced=True)
    for _ in range(TRIES):
        before = ""
        with Process(request, where="a") as a, Process(request, where="b") as b:
            for left, right in zip(_lines(a), _lines(b), strict=False):
                if left != right:
                    return replace(_culprit(left, right), before=before)
                before = f"{left[1]} of {left[2]}"
    return None


def _lines(process: Process) -> Iterator[list[str]]:
    """Yield the lines of a trace while they are written, until the process has ended."""
    trace = process.folder / TRACE
    while not trace.exists():
        if not process.running:
            return
        time.sleep(POLL)
    with trace.open(encoding="utf-8") as stream:
        rest, over = "", False
        while not over:
            over = not process.running  # checked before reading, so that its last lines are also read
            *whole, rest = (rest + stream.read()).split("\n")
            yield from (line.split("\t") for line in whole)
            if not whole:
                time.sleep(POLL)


def _culprit(left: list[str], right: list[str]) -> Culprit:
    step, what, where, kind, _ = left
    if left[:4] != right[:4]:
        return Culprit(int(step), f"order of computation ({what} here, {right[1]} of {right[2]} there)", where, kind)
    if what in ("gradient", "weights after the step"):
        module, _, parameter = where.rpartition(".")
        return Culprit(int(step), what, module or "the model", kind, parameter)
    return Culprit(int(step), what, where, kind)


@contextmanager
def traced(path: Path) -> Iterator[None]:
    """Write the tensors that are computed in the block to a file, one line for each.

    A line has the step, the kind of tensor ("input", "output", "gradient of the output", "gradient", "weights after the
    step"), the path of the module or parameter in its model, the class of the module, and the digest of the tensor.
    """
    register: Any = hooks
    with path.open("w", encoding="utf-8", buffering=1) as stream:
        watch = _Watch(stream)
        handles = [
            register.register_module_forward_pre_hook(watch.enter),
            register.register_module_forward_hook(watch.leave, always_call=True),
            optimizer.register_optimizer_step_pre_hook(watch.gradients),
            optimizer.register_optimizer_step_post_hook(watch.stepped),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Watch:
    """The hooks, and the modules and parameters that they have seen."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.step = stream, 1
        self._stack: list[nn.Module] = []
        self._paths: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()
        self._parameters: dict[int, tuple[str, str]] = {}

    def enter(self, module: nn.Module, arguments: Any) -> None:
        self._stack.append(module)
        if len(self._stack) == 1:
            for tensor in _tensors(arguments):
                self._write("input", "the model", type(module).__name__, tensor)

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        where, kind = self._path(module), type(module).__name__
        while self._stack and self._stack.pop() is not module:  # an exception in a module leaves others on the stack
            pass
        for tensor in _tensors(output):
            self._write("output", where, kind, tensor)
            if tensor.requires_grad:
                tensor.register_hook(self._gradient_of_output(where, kind))  # type: ignore[no-untyped-call]

    def _gradient_of_output(self, where: str, kind: str) -> Callable[[Tensor], None]:
        return lambda gradient: self._write("gradient of the output", where, kind, gradient)

    def gradients(self, which: Optimizer, *_: Any) -> None:
        for where, kind, parameter in self._named(which):
            if parameter.grad is not None:
                self._write("gradient", where, kind, parameter.grad)

    def stepped(self, which: Optimizer, *_: Any) -> None:
        for where, kind, parameter in self._named(which):
            self._write("weights after the step", where, kind, parameter)
        self.step += 1

    def _path(self, module: nn.Module) -> str:
        root = self._stack[0] if self._stack else module
        if root not in self._paths:
            self._paths[root] = {id(m): name for name, m in root.named_modules()}
            kinds = {name: type(m).__name__ for name, m in root.named_modules()}
            for name, parameter in root.named_parameters():
                self._parameters[id(parameter)] = name, kinds.get(name.rpartition(".")[0], type(root).__name__)
        return self._paths[root].get(id(module), "") or type(module).__name__

    def _named(self, which: Optimizer) -> Iterator[tuple[str, str, Tensor]]:
        for g, group in enumerate(which.param_groups):
            for p, parameter in enumerate(group["params"]):
                yield *self._parameters.get(id(parameter), (f"parameter {p} of group {g}", "")), parameter

    def _write(self, what: str, where: str, kind: str, tensor: Tensor) -> None:
        if not captured():
            value = digest.tensors({"": tensor.detach()})
            self.stream.write(f"{self.step}\t{what}\t{where}\t{kind}\t{value}\n")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout is torch.strided and not value.is_meta:
            yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each)
