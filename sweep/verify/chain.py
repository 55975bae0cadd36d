"""The chain of digests of a run: the first link in which two runs differ, and the distance of their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# In the order of training: the kind of a link and its words. {} is the part after the slash.
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
    """The first link in which two runs differ. a, b: its values, "" if one run lacks it. between: the two runs."""

    link: str
    a: str
    b: str
    between: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        between = f" between {self.between[0]} and {self.between[1]}" if self.between[0] else ""
        return f"{words(self.link)}{between}"


@dataclass(frozen=True)
class Distance:
    """The distance between the metrics of two runs: name -> |a - b|, without zeros."""

    metrics: Mapping[str, float]

    def __str__(self) -> str:
        test_first = sorted(self.metrics.items(), key=lambda item: (not item[0].startswith("test/"), item[0]))
        shown = [f"{name} {'by' if n else 'differs by'} {value:.3g}" for n, (name, value) in enumerate(test_first[:4])]
        return ", ".join(shown) or "equal metrics"


def words(link: str) -> str:
    """Return a link in words: "weights after epoch 3" for "epoch/3"."""
    kind, _, rest = link.partition("/")
    return _LINKS.get(kind, link).format(rest)


def in_order(chain: Mapping[str, str]) -> list[str]:
    """Return the links of a chain in the order of training, independent of the stored order."""

    def place(link: str) -> tuple[int, int, str]:
        kind, _, rest = link.partition("/")
        return _RANK.get(kind, len(_RANK)), int(rest) if rest.isdecimal() else 0, rest

    return sorted(chain, key=place)


def first_difference(
    a: Mapping[str, str], b: Mapping[str, str], *, common: bool = False, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """Return the first link that is not equal in both, or None.

    common: only links of both runs count, for example because one was ended early.
    """
    for link in in_order({**a, **b}):
        if a.get(link) != b.get(link) and (not common or (link in a and link in b)):
            return Difference(link, a.get(link, ""), b.get(link, ""), between)
    return None


def unlike_metric(
    a: Mapping[str, float], b: Mapping[str, float], *, between: tuple[str, str] = ("", "")
) -> Difference | None:
    """Return the first metric, by name, that both runs have with different values, or None."""
    both = ({f"metrics/{name}": repr(value) for name, value in each.items()} for each in (a, b))
    return first_difference(*both, common=True, between=between)


def epochs(chain: Mapping[str, str]) -> int:
    """Return the number of epochs in a chain."""
    return sum(link.startswith("epoch/") for link in chain)


def distance(a: Mapping[str, float], b: Mapping[str, float]) -> Distance:
    """Return the distance between the metrics that two results share."""
    return Distance({name: abs(a[name] - b[name]) for name in a if name in b and a[name] != b[name]})
