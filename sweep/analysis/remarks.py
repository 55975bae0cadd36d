"""Remarks beside the numbers: codes with their fields, which `sweep.report.remarks` turns into sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sweep.errors import SweepError

T = TypeVar("T")
Other = TypeVar("Other")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remark:
    code: str
    of: Mapping[str, Any] = field(default_factory=dict)


class Parts:
    """Make the parts of one report and keep a remark on each that failed; --debug shows the traceback."""

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
