"""The links of a run's chain of digests, the first in which two runs differ, and how far apart they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# In the order of training: the kind of a link, and how people say it; {} is what stands after its slash.
_LINKS = {
    "initial": "initial weights",
    "first_batch": "data order (first batch)",
    "step": "weights after step {}",
    "epoch": "weights after epoch {}",
    "final": "final weights",
    "predictions": "predictions on {}",
    "metrics": "metric {}",
}
_RANK = {kind: rank for rank, kind in enumerate(_LINKS)}


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


@dataclass(frozen=True)
class Distance:
    """metrics: name -> |a - b|, where not 0."""

    metrics: Mapping[str, float]

    def __str__(self) -> str:
        test_first = sorted(self.metrics.items(), key=lambda item: (not item[0].startswith("test/"), item[0]))
        return "; ".join(f"{name} by {value:.3g}" for name, value in test_first[:4]) or "no difference"


def words(link: str) -> str:
    """Return a link as people say it: "epoch/3" is "weights after epoch 3"."""
    kind, _, rest = link.partition("/")
    return _LINKS.get(kind, link).format(rest)


def in_order(chain: Mapping[str, str]) -> list[str]:
    """Return the links of a chain in the order of training, whatever the order they were stored in."""

    def place(link: str) -> tuple[int, int, str]:
        kind, _, rest = link.partition("/")
        return _RANK.get(kind, len(_RANK)), int(rest) if rest.isdecimal() else 0, rest

    return sorted(chain, key=place)


def first_difference(
    a: Mapping[str, str], b: Mapping[str, str], *, common: bool = False, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """Return the first link that is not equal in both, or None.

    common: only links that both have count, as when one of them was ended early.
    """
    for link in in_order({**a, **b}):
        if a.get(link) != b.get(link) and (not common or (link in a and link in b)):
            return Difference(link, a.get(link, ""), b.get(link, ""), between)
    return None


def unlike_metric(
    a: Mapping[str, float], b: Mapping[str, float], *, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """Return the first metric, by name, of which both have a value and not the same one."""
    both = ({f"metrics/{name}": repr(value) for name, value in each.items()} for each in (a, b))
    return first_difference(*both, common=True, between=between)


def epochs(chain: Mapping[str, str]) -> int:
    """Return how many epochs a chain covers."""
    return sum(link.startswith("epoch/") for link in chain)


def distance(a: Mapping[str, float], b: Mapping[str, float]) -> Distance:
    """Return how far apart the metrics are that two results share."""
    return Distance({name: abs(a[name] - b[name]) for name in a if name in b and a[name] != b[name]})
