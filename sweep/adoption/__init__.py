"""Adoption: existing results become a run directory, marked as runs that were made elsewhere."""

from sweep.adoption.runs import Entry, Opened
from sweep.adoption.sources import opened
from sweep.adoption.tables import of_frame
from sweep.adoption.take import Adoption, adoption, take

__all__ = ["Adoption", "Entry", "Opened", "adoption", "of_frame", "opened", "take"]
