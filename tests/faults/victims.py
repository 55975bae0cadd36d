"""Training functions that faults are thrown at: tiny, and every bit of their result depends on all of the run."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sweep import Run


def steps(run: Run, *, epochs: int = 3, pause: float = 0.0, tally: str = "") -> Mapping[str, float]:
    """Draws from torch's stream in every epoch and checkpoints after each: a wrong resume changes the weights.

    `tally` is a folder in which every start leaves a file `<seed>-<pid>-<n>`.
    """
    if tally:
        (Path(tally) / f"{run.seed}-{os.getpid()}-{time.monotonic_ns()}").touch()
    state = run.restore() or {"epoch": 0, "weights": torch.zeros(4, 2)}
    first, weights = int(state["epoch"]), state["weights"]
    for epoch in range(first, epochs):
        weights = weights * 0.5 + torch.randn(4, 2)
        run.log({"train/loss": float(weights.square().mean())}, step=epoch + 1)
        print(f"epoch {epoch + 1} of {epochs}")
        if pause:
            time.sleep(pause)
        run.checkpoint({"epoch": epoch + 1, "weights": weights}, step=epoch + 1)
    model = torch.nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(weights.T)
        model.bias.zero_()
    run.save_model(model, meta={"inputs": 4})
    probs = torch.softmax(torch.eye(4) @ weights, 1)
    run.save_predictions("test", ids=range(4), targets=[0, 1, 0, 1], probs=probs)
    return {"test/loss": float(weights.square().mean()), "test/accuracy": float(probs[0, 0])}


def brief(run: Run, *, pause: float = 0.0) -> Mapping[str, float]:
    """Next to nothing, by the thousand."""
    if pause:
        time.sleep(pause)
    return {"test/accuracy": 0.9 + (run.seed * 7919 % 1000) / 10_000}


def ends(run: Run, *, how: str, seed: int = -1) -> Any:
    """Seed `seed` (any, when negative) ends in the way that `how` names."""
    if seed in (-1, run.seed):
        return WAYS[how](run)
    return {"test/accuracy": 0.5}


class NeedsArguments(Exception):
    def __init__(self, one: int, two: object) -> None:
        super().__init__(one)
        self.two = two


def _raise(error: BaseException) -> Any:
    raise error


def _full(_: Run) -> Any:
    raise OSError(28, "No space left on device", "/scratch/x")


WAYS = {
    "value error": lambda run: _raise(ValueError(f"seed {run.seed} is unlucky")),
    "needs arguments": lambda run: _raise(NeedsArguments(1, lambda: None)),
    "exit 1": lambda run: _raise(SystemExit(1)),
    "interrupt": lambda run: _raise(KeyboardInterrupt()),
    "generator exit": lambda run: _raise(GeneratorExit()),
    "memory": lambda run: _raise(MemoryError("no more")),
    "disk full": _full,
    "disk full in torch": lambda run: _raise(
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/1: "
                     "file write failed")
    ),
    "nan": lambda run: {"test/accuracy": float("nan")},
    "inf": lambda run: {"test/accuracy": float("-inf")},
    "none": lambda run: None,
    "a float": lambda run: 0.5,
    "text": lambda run: {"test/accuracy": "0.5"},
    "a bool": lambda run: {"test/accuracy": True},
    "complex": lambda run: {"test/accuracy": 1j},
    "an array": lambda run: {"test/accuracy": torch.zeros(3)},
    "a scalar tensor": lambda run: {"test/accuracy": torch.tensor(0.5)},
    "an empty name": lambda run: {"": 0.5},
    "a line in a name": lambda run: {"loss\n": 0.5},
    "a long name": lambda run: {"x" * 10_000: 0.5},
    "os._exit": lambda run: os._exit(0),
    "abort": lambda run: os.abort(),
    "segmentation fault": lambda run: __import__("ctypes").string_at(0),
    "asleep": lambda run: time.sleep(600),
    "no deterministic kernel": lambda run: torch.zeros(2, 2, requires_grad=True).kthvalue(1) and _raise(
        RuntimeError("kthvalue does not have a deterministic implementation")
    ),
}  # fmt: skip


def soils(run: Run, *, tally: str, how: str = "") -> Mapping[str, float]:
    """Says in which process each seed was trained; seed 1 leaves that process as no other seed may find it."""
    (Path(tally) / f"{run.seed}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if run.seed == 1 and how == "a setting":
        torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)  # torch lets nobody do it twice
    if run.seed == 1 and how == "a CUDA error":
        # As torch is after an illegal access: initialised, and every call raises the same error again.
        torch.cuda.is_initialized = lambda: True
        torch.cuda.synchronize = lambda device=None: _raise(RuntimeError("CUDA error: an illegal memory access"))
        torch.cuda.synchronize()
    return {"test/accuracy": 0.5}


def fails_once(run: Run, *, mark: str) -> Mapping[str, float]:
    """Fails where it has not been before."""
    if not Path(mark).exists():
        Path(mark).touch()
        raise ValueError("the first time")
    return {"test/accuracy": 0.5}


def secretive(run: Run, *, api_key: str = "", note: str = "") -> Mapping[str, float]:
    """Has been given a secret, and does not tell it."""
    return {"test/accuracy": len(api_key) / 100 + run.seed / 1000}


def talkative(run: Run, *, api_key: str) -> Mapping[str, float]:
    """Tells its secrets in every way that ends in a file or on the screen."""
    print("public", api_key, os.environ["TALK_TOKEN"], flush=True)
    os.write(2, f"by its descriptor {api_key}\n".encode())
    subprocess.run(["sh", "-c", f"echo by a child {api_key}"], check=True)
    run.note(f"a note with {api_key}")
    if run.seed == 2:
        raise ValueError(f"401 for {api_key}")
    return {"test/accuracy": run.seed / 1000}


def reseeds(run: Run) -> Mapping[str, float]:
    """Seeds torch itself, so that every seed trains the same model."""
    torch.manual_seed(42)
    model = torch.nn.Linear(2, 2)
    run.save_model(model)
    return {"test/accuracy": float(model.weight.sum().detach())}


def talks(run: Run) -> Mapping[str, float]:
    """Prints 25,000 lines of a kilobyte."""
    for number in range(25_000):
        print(f"line {number} {'x' * 1000}")
    return {"test/accuracy": 1.0}


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """A disk that takes the beginning of a write and refuses the rest, as a full one does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def runs_out_of_room(run: Run, *, mark: str, goes_on: bool, epoch: int = 3) -> Mapping[str, float]:
    """Five rows, a checkpoint after each; the disk takes half of one of them, where it has not been so before."""
    state = run.restore() or {"epoch": 0}
    for now in range(int(state["epoch"]) + 1, 6):
        if now == epoch and not Path(mark).exists():
            Path(mark).touch()
            history = run.dir / "history.jsonl"
            size = history.stat().st_size if history.exists() else 0
            with suppress(*([OSError] if goes_on else [])), files_end_at(size + 9):
                run.log({"train/loss": 1 / now}, step=now)
        else:
            run.log({"train/loss": 1 / now}, step=now)
        run.checkpoint({"epoch": now}, step=now)
    return {"test/accuracy": 0.5 + run.seed / 100}
