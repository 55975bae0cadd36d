"""Probes that record how training code uses randomness, in a process that does nothing else. Loads torch."""

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
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from sweep.determinism import seeding
from sweep.plan import STREAMS, RunSpec
from sweep.verify.process import Request, Trained
from sweep.verify.rehearse import rehearse

OTHER = 0x5EED5EED  # the seed that replaces that of a stream
RESEED: Mapping[str, Callable[[], Any]] = {
    "random": lambda: random.seed(OTHER),
    "numpy": lambda: np.random.seed(OTHER),  # noqa: NPY002  the global generator is audited
    "torch": lambda: torch.manual_seed(OTHER),
}
_WORKERS = "workers.jsonl"
_LIBRARIES = (os.path.dirname(os.path.dirname(__file__)), sysconfig.get_path("stdlib"), "<frozen", "<string>")
_SEEDED_BY_THE_SYSTEM = ("SeedSequence", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "RandomState")
# Owner, name and kind of the calls that are recorded. "seeded" becomes "unseeded" for a call without a seed.
_CALLS: tuple[tuple[Any, str, str], ...] = (
    (np.random, "default_rng", "seeded"), (np.random, "seed", "seeded"), (random, "seed", "seeded"),
    (torch, "manual_seed", "seeded"), (torch, "seed", "unseeded"), (os, "urandom", "unseeded"),
    *((time, name, "clock") for name in ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic")),
)  # fmt: skip
# Global, and not per training: code with `from numpy.random import default_rng` keeps the first wrapper.
_NOTED: list[Mapping[str, Any]] = []


def explore(request: Request, folder: Path, *, where: str) -> Trained:
    """Train a few steps as requested, then again with one thing changed at a time. `found` has the observations.

    An entry has "kind": "changed" (the thing that was changed, and the chain), "unseeded", "seeded" or "clock" (a call
    of the training code and its place), "seeded elsewhere" (as "seeded", for another seed), "worker" (the state of a
    generator in a worker of a loader).
    """
    base, found = _noted(request, folder, "", where)
    for name in ("seed", *STREAMS, *RESEED):
        changed = replace(request, spec=_changed(request.spec, name))
        other, noted = _noted(changed, folder / f"changed-{name}", name, where)
        chain = dict(other.chain) if other.failure is None else {"failure": str(other.failure)}
        found.append({"kind": "changed", "what": name, "chain": chain})
        if name == "seed":
            found += [{**call, "kind": "seeded elsewhere"} for call in noted if call["kind"] == "seeded"]
    return replace(base, found=tuple(found))


def _changed(spec: RunSpec, name: str) -> RunSpec:
    if name == "seed":
        return replace(
            spec, seed=(spec.seed + 1) % 2**32, streams={n: (s + 1) % 2**32 for n, s in spec.streams.items()}
        )
    return replace(spec, streams={**spec.streams, name: OTHER}) if name in spec.streams else spec


def _noted(request: Request, folder: Path, reseed: str, where: str) -> tuple[Trained, list[Mapping[str, Any]]]:
    """Train, and record the calls that draw random numbers without the seed, or that seed again.

    reseed: an ambient generator that gets another seed.
    """
    workers = folder / _WORKERS
    _NOTED.clear()
    make_loader, seed_everything = DataLoader.__init__, seeding.seed_everything

    def loader(self: Any, *arguments: Any, **named: Any) -> None:
        make_loader(self, *arguments, **named)
        self.worker_init_fn = _Reporting(self.worker_init_fn, str(workers))

    def seeded_and_reseeded(*arguments: Any, **named: Any) -> None:
        seed_everything(*arguments, **named)
        RESEED[reseed]()

    with ExitStack() as stack:
        for owner, name, kind in _CALLS:
            stack.enter_context(_replaced(owner, name, _noting(f"{owner.__name__}.{name}", kind, getattr(owner, name))))
        for name in _SEEDED_BY_THE_SYSTEM:
            stack.enter_context(_replaced(np.random, name, _unless_seeded(getattr(np.random, name))))
        made_by = _noting("random.Random", "seeded", random.Random.__init__, method=True)
        stack.enter_context(_replaced(random.Random, "__init__", made_by))
        stack.enter_context(_replaced(DataLoader, "__init__", loader))
        if reseed in RESEED:
            stack.enter_context(_replaced(seeding, "seed_everything", seeded_and_reseeded))
        made = rehearse(request, folder, where=where)
    return made, [*_NOTED, *map(json.loads, workers.read_text().splitlines() if workers.exists() else ())]


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of another module, in this process, which serves only the audit."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _note(kind: str, what: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Record a call with the innermost line of user code, if there is one, preferring the working folder.

    A call that a library makes while it is imported, such as for a generator of its own, is not recorded.
    """
    given = next(iter((*arguments, *named.values())), None)
    users = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        if _is_users(frame.f_code.co_filename):
            users.append(frame)
        frame = frame.f_back
    if not users:
        return
    here = os.path.join(os.getcwd(), "")
    frame = next((each for each in users if each.f_code.co_filename.startswith(here)), users[0])
    entry = {
        "kind": "unseeded" if kind == "seeded" and given is None else kind, "what": what,
        "where": f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}",
        "argument": repr(given if kind == "seeded" else None)[:60],
    }  # fmt: skip
    if entry not in _NOTED:
        _NOTED.append(entry)


def _is_users(file: str) -> bool:
    # Packages may be in several folders: of the environment, of its base, and of the user.
    return not file.startswith(_LIBRARIES) and {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _noting(what: str, kind: str, call: Callable[..., Any], *, method: bool = False) -> Callable[..., Any]:
    """Return a function or method that records its calls.

    Calls of clocks, and of classes that the standard library also uses, are recorded only from the training code.
    """

    @wraps(call)
    def noting(*arguments: Any, **named: Any) -> Any:
        if not (kind == "clock" or method) or _is_users(sys._getframe(1).f_code.co_filename):
            _note(kind, what, arguments[1:] if method else arguments, named)
        return call(*arguments, **named)

    return noting


def _unless_seeded(kind: type) -> type:
    """Return a NumPy class that records where it is created without a seed, even by a library."""

    class Same(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, kind)

    class Noting(kind, metaclass=Same):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            if next(iter((*arguments, *named.values())), None) is None:
                _note("unseeded", f"numpy.random.{kind.__name__}", arguments, named)
            super().__init__(*arguments, **named)

    Noting.__name__, Noting.__qualname__, Noting.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Noting


class _Reporting:
    """A `worker_init_fn` that also records the generators of its worker. It is global, because it is pickled."""

    def __init__(self, inner: Callable[[int], None] | None, path: str) -> None:
        self.inner, self.path = inner, path

    def __call__(self, worker: int) -> None:
        if self.inner is not None:
            self.inner(worker)
        info = get_worker_info()
        held = getattr(info.dataset if info is not None else None, "__dict__", {})
        states = {
            "numpy's global generator": np.random.get_state(legacy=False),  # noqa: NPY002  audited
            "random's global generator": random.getstate(),
            "torch's global generator": torch.get_rng_state().tolist(),
            **{f"the dataset's {name}": state for name, each in held.items() if (state := _state(each)) is not None},
        }
        with open(self.path, "a", encoding="utf-8") as stream:
            for name, state in states.items():
                digest = hashlib.sha256(repr(state).encode()).hexdigest()
                stream.write(json.dumps({"kind": "worker", "worker": worker, "what": name, "state": digest}) + "\n")


def _state(generator: object) -> Any:
    """Return the state of a random number generator, or None for any other object."""
    match generator:
        case np.random.Generator():
            return generator.bit_generator.state
        case np.random.RandomState():
            return generator.get_state(legacy=False)
        case random.Random():
            return generator.getstate()
        case torch.Generator():
            return generator.get_state().tolist()
    return None
