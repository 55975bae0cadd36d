"""Statistics over seeds: pure functions on arrays, randomness an argument, one number a seed.

`NaN` never vanishes: every function refuses it, except those of ranks, the gate and the stopping rules, where it
marks a failed seed.
"""

from sweep.stats.compare import Difference as Difference
from sweep.stats.compare import Effect as Effect
from sweep.stats.compare import Equivalence as Equivalence
from sweep.stats.compare import RateDifference as RateDifference
from sweep.stats.compare import attainable as attainable
from sweep.stats.compare import bonferroni_level as bonferroni_level
from sweep.stats.compare import difference as difference
from sweep.stats.compare import equivalence as equivalence
from sweep.stats.compare import failure_difference as failure_difference
from sweep.stats.compare import fold_difference as fold_difference
from sweep.stats.compare import hedges_g as hedges_g
from sweep.stats.compare import holm as holm
from sweep.stats.compare import not_separated as not_separated
from sweep.stats.compare import over_splits as over_splits
from sweep.stats.compare import paired_t as paired_t
from sweep.stats.compare import welch as welch
from sweep.stats.gate import Decision as Decision
from sweep.stats.gate import Gate as Gate
from sweep.stats.gate import decide as decide
from sweep.stats.gate import parse_gate as parse_gate
from sweep.stats.interval import Interval as Interval
from sweep.stats.interval import Summary as Summary
from sweep.stats.interval import clopper_pearson as clopper_pearson
from sweep.stats.interval import sd_interval as sd_interval
from sweep.stats.interval import summarise as summarise
from sweep.stats.interval import t_interval as t_interval
from sweep.stats.method import Method as Method
from sweep.stats.planning import expected_best as expected_best
from sweep.stats.planning import seeds_for_difference as seeds_for_difference
from sweep.stats.planning import seeds_for_half_width as seeds_for_half_width
from sweep.stats.ranks import Permutation as Permutation
from sweep.stats.ranks import Superiority as Superiority
from sweep.stats.ranks import WinRate as WinRate
from sweep.stats.ranks import WorstRank as WorstRank
from sweep.stats.ranks import mirrored as mirrored
from sweep.stats.ranks import permutation_test as permutation_test
from sweep.stats.ranks import reading as reading
from sweep.stats.ranks import sign_flip_test as sign_flip_test
from sweep.stats.ranks import superiority as superiority
from sweep.stats.ranks import win_rate as win_rate
from sweep.stats.ranks import worst_rank_median as worst_rank_median
from sweep.stats.sample import per_seed as per_seed
from sweep.stats.stopping import OrderState as OrderState
from sweep.stats.stopping import UntilOrder as UntilOrder
from sweep.stats.stopping import UntilWidth as UntilWidth
from sweep.stats.stopping import WidthState as WidthState
from sweep.stats.stopping import more_seeds as more_seeds
from sweep.stats.stopping import order_rule as order_rule
from sweep.stats.stopping import parse_until as parse_until
from sweep.stats.stopping import sequence_interval as sequence_interval
from sweep.stats.stopping import width_rule as width_rule
from sweep.stats.tasks import iqm as iqm
from sweep.stats.tasks import normalise as normalise
from sweep.stats.tasks import stratified_interval as stratified_interval
from sweep.stats.variance import Noise as Noise
from sweep.stats.variance import TrainingVariance as TrainingVariance
from sweep.stats.variance import TwoWay as TwoWay
from sweep.stats.variance import implementation_noise as implementation_noise
from sweep.stats.variance import training_variance as training_variance
from sweep.stats.variance import two_way_difference as two_way_difference
from sweep.stats.variance import two_way_interval as two_way_interval
