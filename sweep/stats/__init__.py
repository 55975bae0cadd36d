"""Statistics over seeds: pure functions on arrays, randomness an argument, one number a seed.

`NaN` never vanishes: every function refuses it, except those named worst_rank_*, the gate and the stopping
rules, where it marks a failed seed.
"""

from sweep.stats.bootstrap import bootstrap_interval
from sweep.stats.compare import (
    Difference,
    Effect,
    Equivalence,
    attainable,
    difference,
    equivalence,
    hedges_g,
    over_splits,
    paired_t,
    welch,
)
from sweep.stats.failures import RateDifference, failure_difference
from sweep.stats.gate import Decision, decide
from sweep.stats.grammar import Gate, UntilOrder, UntilWidth, parse_gate, parse_until
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
from sweep.stats.multiple import Pair, all_pairs, bonferroni_level, holm, not_separated
from sweep.stats.permutation import Permutation, permutation_test, sign_flip_test
from sweep.stats.planning import expected_best, seeds_for_difference, seeds_for_half_width, upper_sd
from sweep.stats.sample import per_seed
from sweep.stats.stopping import (
    OrderState,
    WidthState,
    more_seeds,
    order_rule,
    sequence_interval,
    width_rule,
)
from sweep.stats.superiority import (
    Superiority,
    WinRate,
    all_pairs_superiority,
    mirrored,
    reading,
    win_rate,
    worst_rank_superiority,
    worst_rank_win_rate,
)
from sweep.stats.tasks import iqm, normalise, stratified_interval
from sweep.stats.variance import (
    TEST_SET_CHANCE,
    Noise,
    TrainingVariance,
    TwoWay,
    implementation_noise,
    training_variance,
    two_way_difference,
    two_way_interval,
)
from sweep.stats.worst_rank import WorstRank, worst_rank_median, worst_rank_quantile

__all__ = [
    "TEST_SET_CHANCE",
    "Decision",
    "Difference",
    "Effect",
    "Equivalence",
    "Gate",
    "Interval",
    "Noise",
    "OrderState",
    "Pair",
    "Permutation",
    "RateDifference",
    "Summary",
    "Superiority",
    "TrainingVariance",
    "TwoWay",
    "UntilOrder",
    "UntilWidth",
    "WidthState",
    "WinRate",
    "WorstRank",
    "all_pairs",
    "all_pairs_superiority",
    "attainable",
    "bonferroni_level",
    "bootstrap_interval",
    "clopper_pearson",
    "decide",
    "difference",
    "equivalence",
    "expected_best",
    "failure_difference",
    "hedges_g",
    "holm",
    "implementation_noise",
    "iqm",
    "median_interval",
    "mirrored",
    "more_seeds",
    "normalise",
    "not_separated",
    "order_rule",
    "over_splits",
    "paired_t",
    "parse_gate",
    "parse_until",
    "per_seed",
    "permutation_test",
    "quantile_interval",
    "reading",
    "sd_interval",
    "seeds_for_difference",
    "seeds_for_half_width",
    "sequence_interval",
    "sign_flip_test",
    "stratified_interval",
    "summarise",
    "t_interval",
    "training_variance",
    "two_way_difference",
    "two_way_interval",
    "upper_sd",
    "welch",
    "width_rule",
    "win_rate",
    "worst_rank_median",
    "worst_rank_quantile",
    "worst_rank_superiority",
    "worst_rank_win_rate",
]
