"""Parts of a report, made one by one: one that cannot be made is named in a remark and costs no other part."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sweep.analysis.remarks import Remark
from sweep.errors import SweepError

T = TypeVar("T")
Other = TypeVar("Other")
_log = logging.getLogger(__name__)


class Parts:
    """Make the parts of one report and keep a remark on each that failed; --debug shows where it did."""

    def __init__(self) -> None:
        self.remarks: list[Remark] = []

    def made(self, name: str, make: Callable[[], T], otherwise: Other) -> T | Other:
        """Return the part that `make` makes, or `otherwise` and a remark that names it."""
        try:
            return make()
        except Exception as error:
            _log.debug("%s", name, exc_info=True)
            known = isinstance(error, SweepError)
            why = error.what if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
            self.remarks.append(Remark("unmade part", {"part": name, "why": why, "foreseen": known}))
            return otherwise
