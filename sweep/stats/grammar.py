"""What `--require` and `--until` say, read into data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from sweep.errors import ConfigError

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GATE = re.compile(
    rf"\s*(?P<metric>\S+?)\s*(?P<side>>=|<=|≥|≤)\s*"
    rf"(?:(?P<base>base)\s*(?:(?P<op>[-+*])\s*(?P<number>{_NUMBER}))?|(?P<fixed>[+-]?{_NUMBER}))\s*",
    re.ASCII,
)
_GATE_HINT = 'for example "test/accuracy >= base - 0.005", "test/nll <= base * 1.02" or "test/accuracy >= 0.9"'
_WIDTH = re.compile(rf"\s*(?P<metric>\S+?)\s*(?:±|\+-|\+/-)\s*(?P<width>{_NUMBER})\s*", re.ASCII)
_ORDER = re.compile(r"\s*(?P<metric>[^\s:]+)\s*:\s*(?P<first>[^\s>]+)\s*>\s*(?P<second>[^\s>]+)\s*")
_UNTIL_HINT = 'for example "test/accuracy ± 0.005" (or +-) or "test/accuracy: A > B"'


@dataclass(frozen=True)
class Gate:
    """metric `side` base + number ("offset"), base * number ("scale") or number ("fixed")."""

    metric: str
    side: Literal[">=", "<="]
    form: Literal["offset", "scale", "fixed"]
    number: float

    def __str__(self) -> str:
        if self.form == "fixed":
            return f"{self.metric} {self.side} {self.number!r}"
        if self.form == "scale":
            return f"{self.metric} {self.side} base * {self.number!r}"
        sign = "-" if self.number < 0 else "+"
        return f"{self.metric} {self.side} base {sign} {abs(self.number)!r}"


@dataclass(frozen=True)
class UntilWidth:
    """`METRIC ± WIDTH`: until the mean is known to ± half_width."""

    metric: str
    half_width: float


@dataclass(frozen=True)
class UntilOrder:
    """`METRIC: FIRST > SECOND`: until one variant's mean is known to be the larger."""

    metric: str
    first: str
    second: str


def parse_gate(text: str) -> Gate:
    """Read `METRIC >=|<= base ± c | base * c | c` (≥, ≤ too). ConfigError names what was not understood."""
    found = _GATE.fullmatch(text)
    if found is None:
        raise ConfigError(f"cannot read the requirement {text!r}", where="--require", hint=_GATE_HINT)
    side: Literal[">=", "<="] = ">=" if found["side"] in (">=", "≥") else "<="
    if found["fixed"]:
        gate = Gate(found["metric"], side, "fixed", float(found["fixed"]))
    elif found["op"] == "*":
        gate = Gate(found["metric"], side, "scale", float(found["number"]))
    else:
        offset = float(found["number"] or 0)
        gate = Gate(found["metric"], side, "offset", -offset if found["op"] == "-" else offset)
    if not math.isfinite(gate.number):
        raise ConfigError(f"the number in {text!r} is too large", where="--require", hint=_GATE_HINT)
    return gate


def parse_until(text: str) -> UntilWidth | UntilOrder:
    """Read `METRIC ± WIDTH` (also +-, +/-) or `METRIC: A > B`. ConfigError names what was not understood."""
    if found := _WIDTH.fullmatch(text):
        width = float(found["width"])
        if 0 < width < math.inf:
            return UntilWidth(found["metric"], width)
        raise ConfigError(f"{text!r} asks for no positive width", where="--until", hint=_UNTIL_HINT)
    found = _ORDER.fullmatch(text)
    if found is None:
        raise ConfigError(f"cannot read {text!r}", where="--until", hint=_UNTIL_HINT)
    if found["first"] == found["second"]:
        raise ConfigError(f"compares {found['first']} with itself", where="--until", hint=_UNTIL_HINT)
    return UntilOrder(found["metric"], found["first"], found["second"])
