"""CUDA graphs, one per batch shape. With small models a GPU waits for launches; a graph replays them all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SHAPES = 8  # graphs kept; each holds the memory of its batch
WARM = 3  # eager calls before a capture, in which libraries allocate and choose their kernels

Call = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Captured:
    """One capture: write the input, replay, read the outputs."""

    graph: torch.cuda.CUDAGraph
    source: Tensor
    outputs: tuple[Tensor, ...]


class Graphs:
    """Replays of `call` for CUDA inputs of a shape seen before; anything else, or a refused capture, runs eagerly."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.refusal = ""
        self._seen: set[tuple[object, ...]] = set()
        self._captured: dict[tuple[object, ...], Captured] = {}

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        key = (tuple(inputs.shape), inputs.dtype, inputs.device)
        if self.refusal or key not in self._seen:
            # A shape that occurs only once is not worth a capture.
            self._seen.add(key)
            return self.call(inputs)
        found = self._captured.get(key)
        if found is None:
            try:
                found = capture(self.call, inputs)
            except Exception as refused:
                self.refusal = str(refused).splitlines()[0]
                return self.call(inputs)
            while len(self._captured) >= SHAPES:
                del self._captured[next(iter(self._captured))]
            self._captured[key] = found
        # Graphs hold code without gradients, and inference tensors cannot be written to outside of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            found.source.copy_(inputs)
            found.graph.replay()
            return tuple(one.clone() for one in found.outputs)


def capture(call: Call, inputs: Tensor) -> Captured:
    """Record what `call` launches for inputs of this shape. Raises any error of a call that cannot be captured."""
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(inputs.device):
        source = torch.empty_like(inputs).copy_(inputs)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                call(source)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call(source)
    return Captured(graph, source, outputs)
