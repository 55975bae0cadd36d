"""Adoption: results that exist already become a run directory, as runs that were not made here."""

from sweep.adoption.runs import Entry, Opened
from sweep.adoption.sources import opened
from sweep.adoption.tables import of_frame
from sweep.adoption.take import Adoption, adoption, take

__all__ = ["Adoption", "Entry", "Opened", "adoption", "of_frame", "opened", "take"]
