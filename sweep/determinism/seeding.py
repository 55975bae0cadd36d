"""Seeds, streams, random states, and the switches that select kernels: set, read back, saved and restored."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch.utils import deterministic as torch_deterministic

from sweep.errors import IntegrityError

FROM_ZERO = "this seed has to start from zero"


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed `random`, NumPy, torch's CPU generator and those of all CUDA devices, and apply the mode (see `apply_mode`).

    Each gets the seed itself (0 .. 2**32 - 1). A CUDA device that is not in use yet is seeded when it is first used.
    """
    apply_mode(deterministic)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  user code draws from the global generator
    torch.manual_seed(seed)


def apply_mode(deterministic: bool) -> None:
    """Allow only deterministic kernels, so that others raise an error, or allow the fastest ones.

    Every switch is set in both modes, so that a run inherits nothing from an earlier one.
    """
    wrong = torch.are_deterministic_algorithms_enabled() != deterministic
    # Set only if it changes something, because torch loads its compiler for it, which takes every worker two seconds.
    if wrong or torch.is_deterministic_algorithms_warn_only_enabled():
        torch.use_deterministic_algorithms(deterministic, warn_only=False)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def fill_memory(on: bool) -> None:
    """Set whether torch fills new memory. It does so only in deterministic mode, and it takes time."""
    torch_deterministic.fill_uninitialized_memory = on  # type: ignore[attr-defined]


def read_back() -> dict[str, bool]:
    """Return the current switches. At the end of training they show what was in effect."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        **{name: bool(getattr(*place)) for name, place in _SWITCHES.items()},
    }


def unsaveable() -> bool:
    """Return whether this process has a recurrent layer with dropout on a CUDA device.

    cuDNN draws that dropout from a stream of its own. Seeding CUDA restarts it, but no random state contains it, so it
    can be neither saved nor restored.
    """
    return bool(torch.backends.cudnn.enabled) and any(
        issubclass(type(each), torch.nn.RNNBase)
        and each.dropout > 0
        and each.num_layers > 1
        and any(parameter.is_cuda for parameter in each.parameters())
        for each in gc.get_objects()
    )


def set_threads(threads: int) -> int:
    """Set the number of threads of torch, and return the effective number. Call it in the thread that trains.

    Results on a CPU depend on this number. An environment variable is not enough, because torch reads it only at import
    and workers are reused.
    """
    torch.set_num_threads(threads)
    return torch.get_num_threads()


def generator(stream_seed: int) -> torch.Generator:
    """Return a new torch generator for one named stream. Drawing from it does not affect the global ones."""
    return torch.Generator().manual_seed(stream_seed)


def worker_init_fn(worker_id: int) -> None:
    """Seed `random` and NumPy from the torch seed of this worker. Pass it as the `worker_init_fn` of a DataLoader.

    The torch seed is the base seed of the loader, drawn from its generator once per epoch, plus the number of the
    worker. So streams differ between workers and epochs, and repeat with the seed.
    """
    seed = torch.initial_seed()
    random.seed(seed)
    # Both generators are a Mersenne Twister seeded from 32-bit words. Without an extra word, NumPy would repeat the
    # numbers of `random`.
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, 1])  # noqa: NPY002


def get_rng_state() -> dict[str, Any]:
    """Return the state of every global generator as plain lists and numbers, which `weights_only=True` loads.

    These are `random`, NumPy, torch's CPU generator and, if CUDA is in use, those of all visible CUDA devices.
    """
    version, words, gauss = random.getstate()
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": [version, list(words), gauss],
        "numpy": _plain(np.random.get_state(legacy=False)),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "cuda": [each.tolist() for each in torch.cuda.get_rng_state_all()] if in_use else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore a state from `get_rng_state`.

    Raises: IntegrityError, with nothing changed, if it is damaged or has more CUDA devices than are visible.
    """
    here = get_rng_state()
    try:
        if len(state["cuda"]) > torch.cuda.device_count():
            raise ValueError(
                f"it was saved with {len(state['cuda'])} CUDA devices, but {torch.cuda.device_count()} are visible here"
            )
        _set_rng_state(state)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, OverflowError) as error:
        _set_rng_state(here)
        raise IntegrityError(f"the random state cannot be restored: {error!r}", hint=FROM_ZERO) from error


def _set_rng_state(state: Mapping[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8, device="cpu"))
    for device, each in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(torch.tensor(each, dtype=torch.uint8, device="cpu"), device)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@contextmanager
def restored() -> Iterator[list[str]]:
    """Restore, after the block, all settings that affect the bits of the next run in this process.

    These are default dtype and device, thread counts, deterministic switches, precision, gradient mode, anomaly
    detection, denormals, NumPy's error handling, the working directory and the environment variables. Read the switches
    back before leaving the block. The list then names the settings that could not be restored: if there are any, the
    process must not train another seed.
    """
    settings = _settings()
    before = {name: read() for name, (read, _) in settings.items()}
    variables = dict(os.environ)
    stuck: list[str] = []
    try:
        yield stuck
    finally:
        # In this order, reading each again, because the older switches of precision write the newer ones.
        for name, (read, write) in settings.items():
            if read() != before[name]:
                with suppress(Exception):
                    write(before[name])
        stuck += [name for name, (read, _) in settings.items() if read() != before[name]]
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


def precision() -> dict[str, str]:
    """Return the precision of float32 arithmetic by backend and operation.

    It is "none" (left to the backend), "ieee", "tf32" or "bf16". Only the newer of torch's two interfaces is read: it
    has the effective value even if the older one was used, whereas the older one raises after the newer one was used.
    """
    return {name: str(owner.fp32_precision) for name, owner in _PRECISION_OWNERS.items()}


def flushes_denormals() -> bool:
    """Return whether numbers too small for a full mantissa become zero in this thread.

    Torch can set this, but not read it.
    """
    smallest = torch.tensor([2.0**-1022], dtype=torch.float64, device="cpu")
    return bool((smallest * 0.5 == 0).item())


# The switches that are attributes, by their fields in the environment.
_SWITCHES: Mapping[str, tuple[Any, str]] = {
    "fill_uninitialized_memory": (torch_deterministic, "fill_uninitialized_memory"),
    "cudnn_enabled": (torch.backends.cudnn, "enabled"),
    "cudnn_deterministic": (torch.backends.cudnn, "deterministic"),
    "cudnn_benchmark": (torch.backends.cudnn, "benchmark"),
    "mkldnn_enabled": (torch.backends.mkldnn, "enabled"),
    "mkldnn_deterministic": (torch.backends.mkldnn, "deterministic"),
}
# A whole comes before its parts, because writing it resets them.
_CUDNN: Any = torch.backends.cudnn
_MKLDNN: Any = torch.backends.mkldnn
_PRECISION_OWNERS: Mapping[str, Any] = {
    "all": torch.backends,
    "cuda.matmul": torch.backends.cuda.matmul,
    "cudnn": _CUDNN,
    "cudnn.conv": _CUDNN.conv,
    "cudnn.rnn": _CUDNN.rnn,
    "mkldnn": _MKLDNN,
    "mkldnn.matmul": _MKLDNN.matmul,
    "mkldnn.conv": _MKLDNN.conv,
    "mkldnn.rnn": _MKLDNN.rnn,
}


def _settings() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return name -> (read, write) for each setting of the process. The values are plain."""
    backends = torch.backends

    def switch(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))

    return {
        "default dtype": (
            lambda: str(torch.get_default_dtype()),
            lambda name: torch.set_default_dtype(getattr(torch, name.removeprefix("torch."))),
        ),
        # torch also reports "cpu" if none was set, and setting it would slow down every call.
        "default device": (
            lambda: str(torch.get_default_device()),
            lambda name: torch.set_default_device(None if name == "cpu" else name),
        ),
        "threads": (torch.get_num_threads, torch.set_num_threads),
        "interop threads": (torch.get_num_interop_threads, torch.set_num_interop_threads),
        "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "anomaly detection": (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        "flush denormals": (flushes_denormals, torch.set_flush_denormal),
        "deterministic algorithms": (
            lambda: [
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ],
            lambda pair: torch.use_deterministic_algorithms(pair[0], warn_only=pair[1]),
        ),
        **{name.replace("_", " "): switch(*place) for name, place in _SWITCHES.items()},
        "float32 matmul precision": (
            _or_none(torch.get_float32_matmul_precision),
            torch.set_float32_matmul_precision,
        ),
        "cudnn allow_tf32": (
            _or_none(lambda: backends.cudnn.allow_tf32),
            lambda value: setattr(backends.cudnn, "allow_tf32", value),
        ),
        **{
            f"float32 precision of {name}": switch(owner, "fp32_precision") for name, owner in _PRECISION_OWNERS.items()
        },
        "numpy errors": (np.geterr, lambda value: np.seterr(**value)),
        "working directory": (_working_directory, os.chdir),
    }


def _or_none(read: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a reader to return None if the older switches of precision raise: they cannot express the newer ones."""

    def guarded() -> Any:
        try:
            return read()
        except RuntimeError:
            return None

    return guarded


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(deleted)"
