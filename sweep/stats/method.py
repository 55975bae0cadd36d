"""Statistical methods as codes; the value is the name in tables and in --json."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    T = "Student t over seeds"
    T_SPLITS = "Student t over splits, variance by Nadeau & Bengio"
    T_FOLDS = "Student t over seeds and folds, variance by Nadeau & Bengio"
    PAIRED_T = "paired t over seeds"
    PAIRED_T_SPLITS = "paired t over splits, variance by Nadeau & Bengio"
    PAIRED_T_FOLDS = "paired t over seeds and folds, variance by Nadeau & Bengio"
    WELCH = "Welch t over seeds"
    WELCH_SPLITS = "Welch t over splits, variance by Nadeau & Bengio"
    WELCH_FOLDS = "t over seeds and paired folds, variance by Nadeau & Bengio"
    SEQUENCE = "t confidence sequence over seeds"
    FIXED_WIDTH = "fixed width, t rule and 4 more"
    SD = "chi-square over seeds"
    REPEATS = "chi-square over repeats within seeds"
    TWO_WAY = "two-way over seeds and examples"
    ORDER = "order statistics"
    BOOTSTRAP = "percentile bootstrap stratified by task"
    CLOPPER_PEARSON = "Clopper-Pearson"
    WILSON = "Wilson score"
    WILSON_TASKS = "Wilson score, variance within tasks"
    NEWCOMBE = "Newcombe hybrid score"
    NEWCOMBE_5 = "Newcombe method 5"
    NONCENTRAL_T = "noncentral t"
    FISHER = "Fisher exact"
    SIGN_FLIP = "sign-flip"
    PERMUTATION = "permutation"
    ALL_PAIRS = "all pairs, independent seeds"
    WORST_RANK = "all pairs, failed seeds ranked worst"
    ONE_SEED = "no interval: one seed has no spread"
    TOO_LARGE = "no interval: its limits are too large for a float"
    NO_SEED = "no interval: no seed has a value"


SPLITS = {Method.PAIRED_T: Method.PAIRED_T_SPLITS, Method.WELCH: Method.WELCH_SPLITS}
