"""The nodes of a cluster, each asked the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def everywhere(ray: Any, function: Callable[[], Any], seconds: float) -> Iterator[tuple[str, Any]]:
    """Yield (node, answer) for every node that has CPUs, all asked at once.

    The answer is what `function` returned there, or the exception that it ended in; TimeoutError after `seconds`.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask() -> Any:  # Ray takes nothing but a plain function
        return function()

    asked: dict[Any, str] = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(ask)
            asked[task.remote()] = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    _, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    for reference, name in asked.items():
        if reference in late:
            ray.cancel(reference, force=True)
            yield name, TimeoutError(f"no answer within {seconds:g} s")
            continue
        try:
            yield name, ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            yield name, error.cause or error
        except ray.exceptions.RayError as error:
            yield name, error
