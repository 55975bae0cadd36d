"""A port of this machine for the processes of one run, which no other run here is given meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIES = 100


@contextmanager
def reserved(wanted: bool = True) -> Iterator[int | None]:
    """Yield a port that nobody listens on, or None where none is wanted. Of two runs at once each has another.

    Raises: OSError where no port is free.
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
                # A name without a file (Linux), which ends with the process that holds it; elsewhere nothing is held.
                held.bind(f"\0sweep-port-{port}")
                yield port
                return
    raise OSError("no port is free")


def variables(port: int | None) -> dict[str, str]:
    """Return the variables by which torch's processes of one run find one another; the last is torchrun's own."""
    return {} if port is None else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PET_MASTER_PORT": str(port)}
