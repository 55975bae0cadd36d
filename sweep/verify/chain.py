"""Chain: the digests that training left behind, in order, and the first link in which two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_WORDS = {
    "initial": "initial weights",
    "first_batch": "data order (first batch)",
    "final": "final weights",
}
_RANK = {
    "initial": 0,
    "first_batch": 1,
    "step": 2,
    "epoch": 3,
    "final": 4,
    "predictions": 5,
    "metrics": 6,
}


@dataclass(frozen=True)
class Difference:
    """The first link in which two runs differ; "" stands for a link that one of them lacks."""

    link: str
    a: str
    b: str
    between: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        between = f" between {self.between[0]} and {self.between[1]}" if self.between[0] else ""
        return f"{words(self.link)}{between}"


def words(link: str) -> str:
    """A link as people say it: "epoch/3" is "weights after epoch 3"."""
    kind, _, rest = link.partition("/")
    if kind in ("epoch", "step") and rest:
        return f"weights after {kind} {rest}"
    if kind == "predictions" and rest:
        return f"predictions on {rest}"
    if kind == "metrics" and rest:
        return f"metric {rest}"
    return _WORDS.get(link, link)


def in_order(chain: Mapping[str, str]) -> list[str]:
    """The links of a chain in the order of training, whatever the order they were stored in."""

    def place(link: str) -> tuple[int, int, str]:
        kind, _, rest = link.partition("/")
        return _RANK.get(kind, len(_RANK)), int(rest) if rest.isdigit() else 0, rest

    return sorted(chain, key=place)


def first_difference(
    a: Mapping[str, str], b: Mapping[str, str], *, common: bool = False, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """The first link that is not equal in both; None when there is none.

    common: only links that both have count, as when one of them was ended early.
    """
    links = {link: "" for link in a if link in b} if common else {**a, **b}
    for link in in_order(links):
        if a.get(link) != b.get(link):
            return Difference(link, a.get(link, ""), b.get(link, ""), between)
    return None


def unlike_metric(
    a: Mapping[str, float], b: Mapping[str, float], *, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """The first metric, by name, of which both have a value and not the same one."""
    for name in sorted(a):
        if name in b and a[name] != b[name]:
            return Difference(f"metrics/{name}", repr(a[name]), repr(b[name]), between)
    return None


def epochs(chain: Mapping[str, str]) -> int:
    """How many epochs a chain covers."""
    return sum(link.startswith("epoch/") for link in chain)
