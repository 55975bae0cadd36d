"""A run directory as it was at one moment: scanned once, however often it is asked for its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Self

from sweep.store.directory import Store
from sweep.store.member import Member


class Reading(Store):
    """A Store for a command that only reads. Whoever follows a sweep while it runs needs a Store."""

    _members: tuple[Member, ...] | None = None

    @classmethod
    def of(cls, found: Store | str | os.PathLike[str]) -> Self:
        """Return a reading of a directory that is open, or of one to be opened. Raises: StoreError."""
        store = found if isinstance(found, Store) else Store.open(found)
        return cls(store.path, store.manifest, store.shown)

    def scan(self, *, verify: bool = False) -> Iterator[Member]:
        if verify:
            return super().scan(verify=True)
        if self._members is None:
            self._members = tuple(super().scan())
        return iter(self._members)
