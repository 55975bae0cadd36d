"""Ports of this machine, each reserved for the processes of one run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIES = 100


@contextmanager
def reserved(wanted: bool = True) -> Iterator[int | None]:
    """Yield a free port, or None if none is wanted. Two runs at the same time get different ports.

    Raises: OSError if no port is free.
    """
    if not wanted:
        yield None
        return
    for _ in range(TRIES):
        with socket.socket() as free, socket.socket(socket.AF_UNIX) as held:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
            free.close()
            with suppress(OSError):
                # A socket name without a file (Linux), which ends with its process. Other systems reserve nothing.
                held.bind(f"\0sweep-port-{port}")
                yield port
                return
    raise OSError("no port is free")


def variables(port: int | None) -> dict[str, str]:
    """Return the variables by which the torch processes of a run find each other. The last is for torchrun."""
    return {} if port is None else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PET_MASTER_PORT": str(port)}
