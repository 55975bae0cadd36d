"""Scores of items and answers of single examples, over the seeds of a directory: numbers, no words."""

from sweep.evaluation.answers import Answers, Difference, answers, between
from sweep.evaluation.items import Compared, Items, compare, items, names

__all__ = ["Answers", "Compared", "Difference", "Items", "answers", "between", "compare", "items", "names"]
