"""The models of `benchmarks/lanes.py` in JAX: parameters of all seeds stacked, all steps in one scan."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from subject import BATCHES, MODELS, recipe_of

Layer = tuple[str, tuple[int, ...]]  # name and shape of a weight; its bias, or gain and shift, go by its name


def case(
    model: str, data: str, precision: str, deterministic: bool, count: int = 64, most: int = 160
) -> list[dict[str, Any]]:
    """Time an epoch, or its first `most` steps: with each seed's order drawn in it, as a pack draws its own, and given.

    precision: fp32, or what JAX takes by default (TF32).
    """
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if deterministic:
        os.environ["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=true"
    import jax
    import jax.numpy as jnp

    if precision == "fp32":
        jax.config.update("jax_default_matmul_precision", "highest")
    train = recipe_of(model, data, "fp32", False, 4_000).data().train
    examples, labels = jnp.asarray(train.inputs.numpy()), jnp.asarray(train.targets.numpy())
    init, forward = PARTS[model]()

    def loss(p: Any, rows: Any, key: Any) -> Any:
        logs = jax.nn.log_softmax(forward(p, examples[rows], key))
        return -jnp.take_along_axis(logs, labels[rows][..., None], -1).mean()

    def sgd(p: Any, m: Any, g: Any) -> Any:
        m = jax.tree.map(lambda m, g, p: 0.9 * m + g + 5e-4 * p, m, g, p)
        return jax.tree.map(lambda p, m: p - 0.05 * m, p, m), m

    def adamw(p: Any, m: Any, g: Any) -> Any:
        if model == "gpt":  # clipped by the norm of all gradients
            norm = jnp.sqrt(sum(jnp.square(each).sum() for each in jax.tree.leaves(g)))
            g = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-6)), g)
        first, second, t = m
        t = t + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
        by, root = 1 - 0.9**t, jnp.sqrt(1 - 0.999**t)
        p = jax.tree.map(
            lambda p, m, v: p * (1 - 1e-5) - 1e-3 * (m / by) / (jnp.sqrt(v) / root + 1e-8), p, first, second
        )
        return p, (first, second, t)

    update = sgd if model in MODELS else adamw

    def step(state: Any, rows: Any) -> Any:
        p, m, key = state
        key, own = jax.random.split(key)
        value, g = jax.value_and_grad(loss)(p, rows, own)
        return (*update(p, m, g), key), value

    size = BATCHES[model]
    steps = min(most, len(labels) // size)

    def drawn(keys: Any) -> Any:
        """Return each seed's batches of an epoch, (steps, seeds, size)."""
        orders = jax.vmap(lambda key: jax.random.permutation(key, len(labels)))(keys)
        return orders[:, : steps * size].reshape(count, steps, size).swapaxes(0, 1)

    @jax.jit
    def many(state: Any, rows: Any) -> Any:
        return jax.lax.scan(lambda s, r: jax.vmap(step)(s, r), state, rows)

    @jax.jit
    def epoch(state: Any) -> Any:
        return many(state, drawn(state[-1]))

    keys = jax.random.split(jax.random.key(0), count)
    p = jax.vmap(init)(keys)
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = (p, zeros if model in MODELS else (zeros, zeros, jnp.zeros(count)), keys)
    rows = jax.jit(drawn)(keys)

    def timed(action: Callable[[], Any]) -> float:
        _, losses = jax.block_until_ready(action())
        assert float(losses[-1].mean()) < float(losses[0].mean()), "it does not learn"
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            jax.block_until_ready(action())
            taken.append(time.perf_counter() - begun)
        return sorted(taken)[2] / steps / count * 1e3

    kind = ("fp32" if precision == "fp32" else "JAX's default") + ("" if deterministic else ", not deterministic")
    found = []
    for how, action in (("", lambda: epoch(state)), (", orders given", lambda: many(state, rows))):
        row = {"way": f"jax {jax.__version__}", "kind": kind + how, "seeds": count, "ms": timed(action), "bits": "no"}
        row["gb"] = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30
        found.append(row)
    return found


Parts = tuple[Callable[[Any], dict[str, Any]], Callable[[dict[str, Any], Any, Any], Any]]


def _init(layers: list[Layer]) -> Callable[[Any], dict[str, Any]]:
    """Return a function that draws weights by name; "/0" is added after each, and batch norm multiplies by "/1"."""
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
    return _init([("w0", (256, 784)), ("w1", (256, 256)), ("w2", (10, 256))]), lambda p, x, key: _dense(p, x, 3)


def _small() -> Parts:
    return _init([("w0", (32, 64)), ("w1", (10, 32))]), lambda p, x, key: _dense(p, x, 2)


def _tabular() -> Parts:
    """Batch norm keeps no running statistics: that much less work than in lanes."""
    import jax
    import jax.numpy as jnp

    def forward(p: dict[str, Any], x: Any, key: Any) -> Any:
        for i in range(2):
            x = x @ p[f"w{i}"].T + p[f"w{i}/0"]
            mean, var = x.mean(0), x.var(0)
            x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5) * p[f"w{i}/1"] + p[f"n{i}/0"])
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 0.8, x.shape)
            x = jnp.where(kept, x / 0.8, 0)
        return x @ p["w2"].T + p["w2/0"]

    return _init([("w0", (128, 40)), ("w1", (128, 128)), ("w2", (2, 128)), ("n0", (128,)), ("n1", (128,))]), forward


def _gpt(vocabulary: int = 92, length: int = 64, width: int = 64, layers: int = 2, heads: int = 4) -> Parts:
    import jax
    import jax.numpy as jnp

    def normed(p: dict[str, Any], name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * p[f"{name}/1"] + p[f"{name}/0"]

    def linear(p: dict[str, Any], name: str, x: Any) -> Any:
        return x @ p[name].T + p[f"{name}/0"]

    def forward(p: dict[str, Any], ids: Any, key: Any) -> Any:
        x = p["token"][ids] + p["place"]
        for i in range(layers):
            mixed = linear(p, f"mix{i}", normed(p, f"before{i}", x))
            query, key_, value = jnp.moveaxis(mixed.reshape(*ids.shape, 3, heads, width // heads), 2, 0)
            seen = jax.nn.dot_product_attention(query, key_, value, is_causal=True).reshape(*ids.shape, width)
            x = x + linear(p, f"out{i}", seen)
            up = jax.nn.gelu(linear(p, f"up{i}", normed(p, f"between{i}", x)), approximate=False)
            x = x + linear(p, f"down{i}", up)
        return normed(p, "last", x) @ p["token"].T

    layers_of: list[Layer] = [("token", (vocabulary, width)), ("place", (length, width)), ("last", (width,))]
    for i in range(layers):
        layers_of += [(f"mix{i}", (3 * width, width)), (f"out{i}", (width, width)), (f"before{i}", (width,))]
        layers_of += [(f"up{i}", (4 * width, width)), (f"down{i}", (width, 4 * width)), (f"between{i}", (width,))]
    return _init(layers_of), forward


def _cnn() -> Parts:
    import jax
    import jax.numpy as jnp

    def forward(p: dict[str, Any], x: Any, key: Any) -> Any:
        for i in range(2):
            x = jax.nn.relu(_convolved(p, f"c{i}", x) + p[f"c{i}/0"][:, None, None])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return _dense(p, x, 2)

    layers = [("c0", (32, 1, 3, 3)), ("c1", (64, 32, 3, 3)), ("w0", (128, 64 * 49)), ("w1", (10, 128))]
    return _init(layers), forward


def _blocks() -> Iterator[tuple[str, int, int, int]]:
    """Yield the name of each block, its channels before and after, and its stride."""
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

    def forward(p: dict[str, Any], x: Any, key: Any) -> Any:
        x = jax.nn.relu(normed(p, "stem", x))
        for name, width, wider, stride in _blocks():
            beside = x if width == wider else normed(p, f"{name}c", x, stride)
            inner = jax.nn.relu(normed(p, f"{name}a", x, stride))
            x = jax.nn.relu(normed(p, f"{name}b", inner) + beside)
        return _dense(p, x.mean((2, 3)), 1)

    return _init(layers), forward


PARTS: dict[str, Callable[[], Parts]] = {
    "mlp": _mlp, "cnn": _cnn, "resnet": _resnet, "small": _small, "tabular": _tabular, "gpt": _gpt,
}  # fmt: skip
