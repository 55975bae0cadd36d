"""The masking of known secrets in the output of programs, before it is stored."""

from __future__ import annotations

from collections.abc import Sequence


def masked(data: bytes, secrets: Sequence[bytes]) -> bytes:
    """Return output with `***` in place of each known secret."""
    for secret in secrets:
        data = data.replace(secret, b"***")
    return data


class Masking:
    """A filter for a stream that arrives in pieces. It holds back a possible beginning of a secret."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets, self._held = secrets, b""

    def take(self, data: bytes) -> bytes:
        data = self._held + data
        whole = len(data) if data.endswith(b"\n") else self._settled(data)
        self._held = data[whole:]
        return masked(data[:whole], self._secrets)

    def rest(self) -> bytes:
        """Return the part that was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return masked(held, self._secrets)

    def _settled(self, data: bytes) -> int:
        """Return the number of bytes before a possible beginning of a secret. No secret holds a line end."""
        begun = (n for secret in self._secrets for n in range(1, len(secret)) if data.endswith(secret[:n]))
        place = len(data) - max(begun, default=0)
        for secret in self._secrets:  # a complete secret at this place is not cut in two
            at = data.find(secret, max(0, place - len(secret) + 1))
            place = min(place, at) if at >= 0 else place
        return place
