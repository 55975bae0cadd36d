"""Facts that a reader should know beside the numbers, as a code with its fields: `sweep.report.remarks` words them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Remark:
    code: str
    of: Mapping[str, Any] = field(default_factory=dict)
