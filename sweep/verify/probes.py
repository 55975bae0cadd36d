"""Probes: what training code does with randomness, seen from within while it trains. For `sweep verify --audit`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from sweep.determinism import seeding
from sweep.plan import RunSpec
from sweep.verify.rehearse import rehearse
from sweep.verify.request import Request, Trained

OTHER = 0x5EED5EED  # what a perturbed stream is given
AMBIENT = ("random", "numpy", "torch")
WORKERS = "workers.jsonl"
_SEEDED_BY_THE_SYSTEM = ("SeedSequence", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "RandomState")
# Of the module, not of one training: code that says `from numpy.random import default_rng` keeps what it was given.
_HEARD: list[Mapping[str, Any]] = []
_LIBRARIES = (os.path.dirname(os.path.dirname(__file__)), sysconfig.get_path("stdlib"), "<frozen", "<string>")


def explore(request: Request, *, where: str) -> Trained:
    """Train a few steps as asked, then again with one thing changed at a time; `found` tells what each did.

    An entry has "kind": "changed" (what was changed, and the chain then), "unseeded", "seeded" or "clock" (a call
    of the training code, and its place), "worker" (the state of a generator in a loader's worker).
    """
    spec = request.spec
    base, heard = _probed(request, "", where)
    found: list[Mapping[str, Any]] = list(heard)
    for name in request.perturb:
        folder = str(Path(request.path) / f"changed-{name}")
        asked = replace(request, spec=_changed(spec, name), path=folder)
        other, heard = _probed(asked, name if name in AMBIENT else "", where)
        chain = dict(other.chain) if other.failure is None else {"failure": str(other.failure)}
        found.append({"kind": "changed", "what": name, "chain": chain})
        if name == "seed":
            found += [{**call, "kind": "seeded elsewhere"} for call in heard if call["kind"] == "seeded"]
    return replace(base, found=tuple(found))


def _changed(spec: RunSpec, name: str) -> RunSpec:
    if name == "seed":
        seed = (spec.seed + 1) % 2**32
        return replace(spec, seed=seed, streams={n: (s + 1) % 2**32 for n, s in spec.streams.items()})
    if name in spec.streams:
        return replace(spec, streams={**spec.streams, name: OTHER})
    return spec


def _probed(request: Request, perturb: str, where: str) -> tuple[Trained, list[Mapping[str, Any]]]:
    with _probing(Path(request.path), perturb) as heard:
        made = rehearse(request, where=where)
    return made, [*heard, *_from_workers(Path(request.path))]


@contextmanager
def _probing(folder: Path, perturb: str) -> Iterator[list[Mapping[str, Any]]]:
    """Hear the calls that draw from elsewhere than the seed, or seed again; give one ambient stream another seed."""
    folder.mkdir(parents=True, exist_ok=True)
    _HEARD.clear()

    def seeded_and_perturbed(*arguments: Any, **named: Any) -> None:
        seed_everything(*arguments, **named)
        _reseed(perturb)

    seed_everything, make_loader = seeding.seed_everything, DataLoader.__init__

    def loader(self: Any, *arguments: Any, **named: Any) -> None:
        make_loader(self, *arguments, **named)
        self.worker_init_fn = _Reporting(self.worker_init_fn, str(folder / WORKERS))

    with ExitStack() as stack:
        stack.enter_context(_replaced(random.Random, "__init__", _own_generator(random.Random.__init__)))
        for name in _SEEDED_BY_THE_SYSTEM:
            stack.enter_context(_replaced(np.random, name, _unless_seeded(getattr(np.random, name))))
        for owner, name, wrapped in [
            (np.random, "default_rng", partial(_seeds, "numpy.random.default_rng")),
            (np.random, "seed", partial(_seeds, "numpy.random.seed")),
            (random, "seed", partial(_seeds, "random.seed")),
            (torch, "manual_seed", partial(_seeds, "torch.manual_seed")),
            (torch, "seed", partial(_draws, "torch.seed")),
            (os, "urandom", partial(_draws, "os.urandom")),
            (time, "time", partial(_reads, "time.time")),
            (time, "time_ns", partial(_reads, "time.time_ns")),
            (time, "perf_counter", partial(_reads, "time.perf_counter")),
            (time, "perf_counter_ns", partial(_reads, "time.perf_counter_ns")),
            (time, "monotonic", partial(_reads, "time.monotonic")),
        ]:
            stack.enter_context(_replaced(owner, name, wrapped(getattr(owner, name))))
        stack.enter_context(_replaced(DataLoader, "__init__", loader))
        if perturb:
            stack.enter_context(_replaced(seeding, "seed_everything", seeded_and_perturbed))
        yield _HEARD


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put a value in place of another module's, in this process, which does nothing but the audit."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _hear(kind: str, what: str, argument: Any = None) -> None:
    place = _user_line()
    entry = {"kind": kind, "what": what, "where": place, "argument": repr(argument)[:60]}
    if place and entry not in _HEARD:
        _HEARD.append(entry)


def _seeds(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def heard(*arguments: Any, **named: Any) -> Any:
        given = arguments[0] if arguments else next(iter(named.values()), None)
        _hear("unseeded" if given is None else "seeded", name, given)
        return call(*arguments, **named)

    return heard


def _draws(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def heard(*arguments: Any, **named: Any) -> Any:
        _hear("unseeded", name)
        return call(*arguments, **named)

    return heard


def _reads(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A clock, where the training code itself reads it: libraries time themselves, as torch's optimizers do."""

    @wraps(call)
    def heard(*arguments: Any, **named: Any) -> Any:
        if _is_users(sys._getframe(1).f_code.co_filename):
            _hear("clock", name)
        return call(*arguments, **named)

    return heard


def _unless_seeded(kind: type) -> type:
    """Return a class of NumPy's that tells where it is made without a seed, also by a library that a line calls."""

    class Same(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, kind)

    class Heard(kind, metaclass=Same):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            if next(iter((*arguments, *named.values())), None) is None:
                _hear("unseeded", f"numpy.random.{kind.__name__}")
            super().__init__(*arguments, **named)

    Heard.__name__, Heard.__qualname__, Heard.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Heard


def _own_generator(call: Callable[..., None]) -> Callable[..., None]:
    """`random.Random()`, where the training code makes one: the standard library has its own, for file names."""

    @wraps(call)
    def heard(self: Any, *arguments: Any, **named: Any) -> None:
        if _is_users(sys._getframe(1).f_code.co_filename):
            given = arguments[0] if arguments else next(iter(named.values()), None)
            _hear("unseeded" if given is None else "seeded", "random.Random", given)
        call(self, *arguments, **named)

    return heard


def _reseed(stream: str) -> None:
    if stream == "random":
        random.seed(OTHER)
    elif stream == "numpy":
        np.random.seed(OTHER)  # noqa: NPY002  the global generator is what is asked about
    elif stream == "torch":
        torch.manual_seed(OTHER)


def _user_line() -> str:
    """file:line of the innermost frame that is neither ours nor a library's; "" when there is none.

    What a library does while it is imported, such as making a generator of its own, is not the importing line's doing.
    """
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return ""
        if _is_users(file):
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _is_users(file: str) -> bool:
    # Packages may lie in several folders: of the environment, of the one it is based on, of the user.
    return not file.startswith(_LIBRARIES) and {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


class _Reporting:
    """A `worker_init_fn` that also tells what generators its worker has. Global: it travels to workers."""

    def __init__(self, inner: Callable[[int], None] | None, path: str) -> None:
        self.inner, self.path = inner, path

    def __call__(self, worker: int) -> None:
        if self.inner is not None:
            self.inner(worker)
        info = get_worker_info()
        states = {
            "numpy's global generator": np.random.get_state(legacy=False),  # noqa: NPY002  asked about
            "random's global generator": random.getstate(),
            "torch's global generator": torch.get_rng_state().tolist(),
        }
        attributes = getattr(info.dataset if info is not None else None, "__dict__", {})
        for name, value in attributes.items():
            if isinstance(value, np.random.Generator):
                states[f"the dataset's {name}"] = value.bit_generator.state
            elif isinstance(value, np.random.RandomState):
                states[f"the dataset's {name}"] = value.get_state(legacy=False)
            elif isinstance(value, random.Random):
                states[f"the dataset's {name}"] = value.getstate()
            elif isinstance(value, torch.Generator):
                states[f"the dataset's {name}"] = value.get_state().tolist()
        with open(self.path, "a", encoding="utf-8") as stream:
            for name, state in states.items():
                digest = hashlib.sha256(repr(state).encode()).hexdigest()
                stream.write(json.dumps({"kind": "worker", "worker": worker, "what": name, "state": digest}) + "\n")


def _from_workers(folder: Path) -> list[Mapping[str, Any]]:
    path = folder / WORKERS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
