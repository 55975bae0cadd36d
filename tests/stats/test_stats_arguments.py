"""Every statistic of the Python reference refuses wrong arguments, and its docstring says so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep import stats
from sweep.errors import StatisticsError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"
A, B = (np.random.default_rng(i).random(8) for i in range(2))
TABLE, OTHER = (np.random.default_rng(i).random((4, 8)) for i in range(2))  # (seeds, folds), (tasks, seeds)
RNG = np.random.default_rng(0)
MANY = np.arange(21.0) ** 2  # more arrangements than are counted

NO_NUMBERS = [[], 0.5, np.ones((2, 2, 2)), [0.5, math.nan], [0.5, math.inf]]
NO_SEEDS = [[], 0.5, np.ones((2, 2))]  # where NaN and infinities are failed seeds
NO_TABLES = [[], 0.5, A, np.ones((2, 2, 2)), [[0.5, math.nan], [0.5, 0.5]]]
NO_SCORES = [*NO_TABLES, TABLE[:1], TABLE[:, :1], TABLE * 1e200]
NO_TASKS = [[], [[]], [[0.5, 0.5], [0.5]], [[0.5, math.nan], [0.5, 0.5]]]
NO_LEVELS = [0, 1, -0.1, 95, math.nan]
NOT_POSITIVE = [0.0, -1.0, math.nan, math.inf]
NO_COUNTS = [(-1, 5), (6, 5), (0, -1), (1.5, 5), (1, 5.5), (math.nan, 5), (1, math.nan), (math.inf, math.inf)]
HIGHER = {"higher_is_better": True}


class Case:
    """A function with good arguments, and wrong ones for some of its parameters."""

    def __init__(self, good: Mapping[str, Any], **wrong: list[Any]) -> None:
        self.good, self.wrong = good, wrong


def of_two(wrong: list[Any], *, level: bool = True, good: Any = A, other: Any = B, **options: Any) -> Case:
    levels = {"level": NO_LEVELS} if level else {}
    return Case({"a": good, "b": other, **options}, a=wrong, b=wrong, **levels)


LENGTHS = [*NO_NUMBERS, A[:5]]
CASES: dict[str, list[Case]] = {
    "summarise": [
        Case({"values": A}, values=NO_NUMBERS, level=NO_LEVELS, ratio=NOT_POSITIVE),
        Case({"values": A[:1]}, level=NO_LEVELS, ratio=NOT_POSITIVE),
        Case({"values": TABLE, "ratio": 0.2}, values=[TABLE[:, :1], TABLE[:0]], level=NO_LEVELS, ratio=NOT_POSITIVE),
    ],
    "t_interval": [Case({"values": A}, values=[*NO_NUMBERS, TABLE], level=NO_LEVELS)],
    "sd_interval": [Case({"values": A}, values=[*NO_NUMBERS, TABLE], level=NO_LEVELS)],
    "clopper_pearson": [Case({"k": 1, "n": 5}, **{"k, n": NO_COUNTS}, level=NO_LEVELS)],
    "difference": [of_two(LENGTHS, paired=True), of_two(NO_NUMBERS, paired=False)],
    "paired_t": [of_two(LENGTHS), of_two(NO_NUMBERS, good=A[:1], other=B[:1])],
    "welch": [of_two(NO_NUMBERS), of_two(NO_NUMBERS, good=A[:1], other=B[:1])],
    "fold_difference": [
        Case(
            {"a": TABLE, "b": OTHER, "ratio": 0.2, "paired": paired},
            a=[*NO_TABLES, TABLE[:, :5]], b=[*NO_TABLES, OTHER[:, :5]], ratio=NOT_POSITIVE, level=NO_LEVELS,
            **{"a, b": [(TABLE[:, :1], OTHER[:, :1]), (A, B), (0.5, 0.5), (np.ones((2, 2, 2)), np.ones((2, 2, 2)))]},
        )
        for paired in (True, False)
    ]
    + [Case({"a": TABLE, "b": OTHER, "ratio": 0.2, "paired": True}, b=[OTHER[:3]])],
    "equivalence": [Case({"found": stats.welch(A[:n], B[:n]), "margin": 0.1}, margin=NOT_POSITIVE) for n in (1, 8)],
    "holm": [Case({"p": [0.1, None]}, p=[[1.2], [-0.1], [0.1, math.nan], [None, math.inf]])],
    "sign_flip_test": [of_two(LENGTHS, level=False), Case({"a": MANY, "b": MANY[::-1], "rng": RNG}, rng=[None])],
    "permutation_test": [of_two(NO_NUMBERS, level=False), Case({"a": MANY, "b": MANY, "rng": RNG}, rng=[None])],
    "superiority": [of_two(NO_SEEDS, **HIGHER)],
    "win_rate": [of_two([*NO_SEEDS, A[:5]], **HIGHER), of_two([], good=A, other=A, **HIGHER)],
    "worst_rank_median": [Case({"values": A, **HIGHER}, values=NO_SEEDS, level=NO_LEVELS)],
    "failure_difference": [
        Case(
            {"failed_a": 1, "n_a": 5, "failed_b": 2, "n_b": 6},
            **{"failed_a, n_a": [*NO_COUNTS, (0, 0)], "failed_b, n_b": [*NO_COUNTS, (0, 0)]}, level=NO_LEVELS,
        )
    ],
    "training_variance": [Case({"values": TABLE}, values=NO_SCORES)],
    "two_way_interval": [Case({"values": TABLE}, values=NO_SCORES, level=NO_LEVELS)],
    "seeds_for_difference": [
        Case(
            {"spread": 1.0, "difference": 1.0},
            spread=NOT_POSITIVE, difference=[*NOT_POSITIVE, 1e-6], power=NO_LEVELS, level=NO_LEVELS,
        )
    ],
    "seeds_for_half_width": [
        Case(
            {"spread": 1.0, "half_width": 1.0},
            spread=NOT_POSITIVE, half_width=[*NOT_POSITIVE, 1e-6], level=NO_LEVELS,
        )
    ],
    "expected_best": [Case({"n": 5}, n=[0, -1, 0.5, 2.5, math.nan, math.inf])],
    "iqm": [Case({"scores": TABLE}, scores=[*NO_TASKS, TABLE[:1]])],
    "performance_profile": [
        Case({"scores": TABLE, "at": [0.5]}, scores=NO_TASKS, at=[*NO_NUMBERS, TABLE], level=NO_LEVELS)
    ],
    "probability_of_improvement": [of_two([*NO_TASKS, TABLE[:3]], good=TABLE, other=OTHER)],
}  # fmt: skip


def documented() -> list[str]:
    return re.findall(r"autofunction:: (\w+)$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_statistic_of_the_reference_is_here() -> None:
    assert sorted(documented()) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_argument_is_refused_and_the_docstring_says_so(name: str) -> None:
    function: Callable[..., object] = getattr(stats, name)
    assert "StatisticsError" in str(function.__doc__)
    for case in CASES[name]:
        function(**case.good)
        for parameters, values in case.wrong.items():
            for value in values:
                several = ", " in parameters
                wrong = dict(zip(parameters.split(", "), value if several else [value], strict=True))
                with pytest.raises(StatisticsError):
                    print(name, wrong, function(**{**case.good, **wrong}))
