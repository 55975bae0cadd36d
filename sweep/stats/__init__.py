"""Statistics over seeds: pure functions on arrays, randomness an argument."""

from sweep.stats.interval import (
    Interval,
    Summary,
    clopper_pearson,
    median_interval,
    quantile_interval,
    sd_interval,
    summarise,
    t_interval,
)
from sweep.stats.sample import per_seed

__all__ = [
    "Interval",
    "Summary",
    "clopper_pearson",
    "median_interval",
    "per_seed",
    "quantile_interval",
    "sd_interval",
    "summarise",
    "t_interval",
]
