"""The optimizer steps of training code, seen from outside, and the weights that they change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer, optimizer

from sweep.determinism import digest

MOST = 64  # optimizers of one run; with more, as in code that makes one per step, there is no digest


class Steps:
    """A counter of optimizer steps, with digests of the weights before the first step and after each.

    link: called with "initial" or "step/k" and a function that returns the digest.
    """

    def __init__(self, link: Callable[[str, Callable[[], str]], None]) -> None:
        self.link, self.count = link, 0
        # Optimizers are held, because their weights are needed after the function has returned. If code makes one model
        # after the other, only those that stepped since the newest one came are held. The others leave a digest.
        self._held: dict[Optimizer, int] = {}
        self._let_go: dict[int, str] = {}
        self._numbers: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._seen = 0
        self._stack = ExitStack()

    def __enter__(self) -> Steps:
        for register, hook in (
            (optimizer.register_optimizer_step_pre_hook, self._before),
            (optimizer.register_optimizer_step_post_hook, self._after),
        ):
            self._stack.callback(register(hook).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def weights(self) -> str:
        """Return the digest of all weights that an optimizer changes, or "" before the first step.

        Raises: TypeError for weights without plain bytes (see `sweep.determinism.digest`).
        """
        if not self._seen or self._seen > MOST:
            return ""
        here = digest.tensors(dict(_weights(self._held)))
        gone = sorted(self._let_go.items())
        return hashlib.sha256(json.dumps([here, gone]).encode()).hexdigest() if gone else here

    def _before(self, which: Optimizer, *_: Any) -> None:
        if which not in self._held and self._seen <= MOST:
            self._hold(which)
        if self.count == 0 and not captured():
            self.link("initial", self.weights)

    def _hold(self, which: Optimizer) -> None:
        number = self._numbers.get(which)
        if number is None:
            for other, its in self._held.items() if not captured() else ():
                with suppress(TypeError):
                    self._let_go[its] = digest.tensors(dict(_weights({other: its})))
            self._held.clear()
            number = self._numbers[which] = self._seen
            self._seen += 1
        self._let_go.pop(number, None)
        self._held[which] = number

    def _after(self, which: Optimizer, *_: Any) -> None:
        if not captured():
            self.count += 1
            self.link(f"step/{self.count}", self.weights)


def _weights(held: Mapping[Optimizer, int]) -> Iterator[tuple[str, Tensor]]:
    for each, number in held.items():
        for g, group in enumerate(each.param_groups):
            for p, tensor in enumerate(group["params"]):
                yield f"{number}/{g}/{p}", tensor.detach()


def captured() -> bool:
    """Return whether a CUDA graph is being captured, so that nothing can be read."""
    # Not `is_available`: this is called at every step, and must not start the driver of an unused GPU.
    return bool(torch.cuda.is_initialized()) and torch.cuda.is_current_stream_capturing()  # type: ignore[no-untyped-call]
