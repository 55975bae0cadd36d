"""The models of `benchmarks/lanes.py` in JAX: parameters of all seeds stacked, all steps in one scan."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from subject import BATCH, MODELS, recipe_of

Layer = tuple[str, tuple[int, ...]]  # name and shape of a weight; its bias, or gain and shift, go by its name


def case(
    model: str, data: str, precision: str, deterministic: bool, count: int = 64, steps: int = 60
) -> list[dict[str, Any]]:
    """precision: fp32, or what JAX takes by default (TF32)."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if deterministic:
        os.environ["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=true"
    import jax
    import jax.numpy as jnp
    import numpy as np

    if precision == "fp32":
        jax.config.update("jax_default_matmul_precision", "highest")
    train = recipe_of(model, data, "fp32", False, 4_000).data().train
    images, labels = jnp.asarray(train.inputs.numpy()), jnp.asarray(train.targets.numpy())
    init, forward = PARTS[model]()

    def loss(p: Any, rows: Any) -> Any:
        logs = jax.nn.log_softmax(forward(p, images[rows]))
        return -jnp.take_along_axis(logs, labels[rows][:, None], 1).mean()

    def step(state: Any, rows: Any) -> Any:
        p, m = state
        value, g = jax.value_and_grad(loss)(p, rows)
        m = jax.tree.map(lambda m, g, p: 0.9 * m + g + 5e-4 * p, m, g, p)
        return (jax.tree.map(lambda p, m: p - 0.05 * m, p, m), m), value

    @jax.jit
    def many(state: Any, rows: Any) -> Any:
        return jax.lax.scan(lambda s, r: jax.vmap(step)(s, r), state, rows)

    p = jax.vmap(init)(jax.random.split(jax.random.key(0), count))
    state = (p, jax.tree.map(jnp.zeros_like, p))
    rows = jnp.asarray(np.random.default_rng(0).integers(0, len(labels), (steps, count, BATCH)))
    _, losses = jax.block_until_ready(many(state, rows))
    assert float(losses[-1].mean()) < float(losses[0].mean()), "it does not learn"
    begun = time.perf_counter()
    jax.block_until_ready(many(state, rows))
    ms = (time.perf_counter() - begun) / steps / count * 1e3
    gb = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30
    kind = ("fp32" if precision == "fp32" else "JAX's default") + ("" if deterministic else ", not deterministic")
    return [{"way": f"jax {jax.__version__}", "kind": kind, "seeds": count, "ms": ms, "bits": "no", "gb": gb}]


Parts = tuple[Callable[[Any], dict[str, Any]], Callable[[dict[str, Any], Any], Any]]


def _init(layers: list[Layer]) -> Callable[[Any], dict[str, Any]]:
    """Weights by their names, "/0" what is added behind each, "/1" what batch norm multiplies by."""
    import jax
    import jax.numpy as jnp

    def init(key: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, shape in layers:
            key, own = jax.random.split(key)
            made[name] = jax.random.normal(own, shape) / prod(shape[1:]) ** 0.5
            made[f"{name}/0"], made[f"{name}/1"] = jnp.zeros(shape[0]), jnp.ones(shape[0])
        return made

    return init


def _convolved(p: dict[str, Any], name: str, x: Any, stride: int = 1) -> Any:
    import jax

    pad = p[name].shape[2] // 2
    return jax.lax.conv_general_dilated(x, p[name], (stride, stride), [(pad, pad)] * 2)


def _dense(p: dict[str, Any], x: Any, count: int) -> Any:
    import jax

    x = x.reshape(len(x), -1)
    for i in range(count):
        x = x @ p[f"w{i}"].T + p[f"w{i}/0"]
        x = jax.nn.relu(x) if i < count - 1 else x
    return x


def _mlp() -> Parts:
    return _init([("w0", (256, 784)), ("w1", (256, 256)), ("w2", (10, 256))]), lambda p, x: _dense(p, x, 3)


def _cnn() -> Parts:
    import jax
    import jax.numpy as jnp

    def forward(p: dict[str, Any], x: Any) -> Any:
        for i in range(2):
            x = jax.nn.relu(_convolved(p, f"c{i}", x) + p[f"c{i}/0"][:, None, None])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return _dense(p, x, 2)

    layers = [("c0", (32, 1, 3, 3)), ("c1", (64, 32, 3, 3)), ("w0", (128, 64 * 49)), ("w1", (10, 128))]
    return _init(layers), forward


def _blocks() -> Iterator[tuple[str, int, int, int]]:
    """Name, channels before and after, stride."""
    width = 16
    for stage, wider in enumerate(MODELS["resnet"]["channels"]):
        for block in range(MODELS["resnet"]["blocks"]):
            yield f"{stage}{block}", width, wider, 2 if stage and not block else 1
            width = wider


def _resnet() -> Parts:
    """Batch norm keeps no running statistics: that much less work than in lanes."""
    import jax

    layers: list[Layer] = [("stem", (16, 1, 3, 3)), ("w0", (10, 64))]
    for name, width, wider, _ in _blocks():
        layers += [(f"{name}a", (wider, width, 3, 3)), (f"{name}b", (wider, wider, 3, 3))]
        layers += [(f"{name}c", (wider, width, 1, 1))] if width != wider else []

    def normed(p: dict[str, Any], name: str, x: Any, stride: int = 1) -> Any:
        x = _convolved(p, name, x, stride)
        mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        gain, shift = p[f"{name}/1"][:, None, None], p[f"{name}/0"][:, None, None]
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * gain + shift

    def forward(p: dict[str, Any], x: Any) -> Any:
        x = jax.nn.relu(normed(p, "stem", x))
        for name, width, wider, stride in _blocks():
            beside = x if width == wider else normed(p, f"{name}c", x, stride)
            inner = jax.nn.relu(normed(p, f"{name}a", x, stride))
            x = jax.nn.relu(normed(p, f"{name}b", inner) + beside)
        return _dense(p, x.mean((2, 3)), 1)

    return _init(layers), forward


PARTS: dict[str, Callable[[], Parts]] = {"mlp": _mlp, "cnn": _cnn, "resnet": _resnet}
