"""Watch: every module's outputs and gradients and every optimizer's step, seen through torch's global hooks.

The training code is not changed and need not know: a recipe is watched like any user's function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.optim import Optimizer, optimizer

from sweep.determinism import digest
from sweep.determinism.steps import captured


class Watch:
    """Says, in the order of the computation, a digest of each tensor that could be the first to differ.

    say: called with (step, what, where, kind, digest): what is "input", "output", "gradient of the output",
    "gradient" or "weights after the step"; where the path of the module, or of the parameter, in its model;
    kind the module's class.
    """

    def __init__(self, say: Callable[[int, str, str, str, Callable[[], str]], None]) -> None:
        self.say, self.step = say, 1
        self._stack: list[nn.Module] = []
        self._paths: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()
        self._parameters: dict[int, tuple[str, str]] = {}
        self._handles = ExitStack()

    def __enter__(self) -> Watch:
        register: Any = hooks
        for handle in (
            register.register_module_forward_pre_hook(self._enter),
            register.register_module_forward_hook(self._leave, always_call=True),
            optimizer.register_optimizer_step_pre_hook(self._gradients),
            optimizer.register_optimizer_step_post_hook(self._stepped),
        ):
            self._handles.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    @property
    def within(self) -> str:
        """The path of the module whose forward is running, "" outside."""
        return self._path(self._stack[-1]) if self._stack else ""

    def _path(self, module: nn.Module) -> str:
        root = self._stack[0] if self._stack else module
        if root not in self._paths:
            self._paths[root] = {id(m): name for name, m in root.named_modules()}
            kinds = {name: type(m).__name__ for name, m in root.named_modules()}
            for name, parameter in root.named_parameters():
                self._parameters[id(parameter)] = name, kinds.get(name.rpartition(".")[0], type(root).__name__)
        return self._paths[root].get(id(module), "") or type(module).__name__

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        if not self._stack:
            self._stack.append(module)
            for tensor in _tensors(arguments):
                self._tell("input", "the model", type(module).__name__, tensor)
        else:
            self._stack.append(module)

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        where, kind = self._path(module), type(module).__name__
        while self._stack and self._stack.pop() is not module:  # an exception within left others behind
            pass
        for tensor in _tensors(output):
            self._tell("output", where, kind, tensor)
            if tensor.requires_grad:
                tensor.register_hook(self._on_gradient(where, kind))  # type: ignore[no-untyped-call]

    def _on_gradient(self, where: str, kind: str) -> Callable[[Tensor], None]:
        def tell(gradient: Tensor) -> None:
            self._tell("gradient of the output", where, kind, gradient)

        return tell

    def _gradients(self, which: Optimizer, *_: Any) -> None:
        for where, kind, parameter in self._named(which):
            if parameter.grad is not None:
                self._tell("gradient", where, kind, parameter.grad)

    def _stepped(self, which: Optimizer, *_: Any) -> None:
        for where, kind, parameter in self._named(which):
            self._tell("weights after the step", where, kind, parameter)
        self.step += 1

    def _named(self, which: Optimizer) -> Iterator[tuple[str, str, Tensor]]:
        for g, group in enumerate(which.param_groups):
            for p, parameter in enumerate(group["params"]):
                where, kind = self._parameters.get(id(parameter), (f"parameter {p} of group {g}", ""))
                yield where, kind, parameter

    def _tell(self, what: str, where: str, kind: str, tensor: Tensor) -> None:
        if not captured():
            self.say(self.step, what, where, kind, lambda: digest.tensors({"": tensor.detach()}))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout is torch.strided and not value.is_meta:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
