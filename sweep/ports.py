"""A port of this machine for the processes of one run, which no other run here is given meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIES = 100


@contextmanager
def reserved() -> Iterator[int]:
    """Yield a port that nobody listens on. Of two runs that ask at the same time each has another.

    Raises: OSError where no port is free.
    """
    for _ in range(TRIES):
        with socket.socket() as free, socket.socket(socket.AF_UNIX) as held:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
            free.close()
            with suppress(OSError):
                # A name without a file (Linux), which ends with the process that holds it; elsewhere nothing is held.
                held.bind(f"\0sweep-port-{port}")
                yield port
                return
    raise OSError("no port is free")


def variables(port: int) -> dict[str, str]:
    """Return by which variables torch's processes of one run find one another; the last is torchrun's own."""
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PET_MASTER_PORT": str(port)}
