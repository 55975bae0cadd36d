"""Take results that exist already into a run directory, as runs that were not made here."""

from sweep.adoption.sources import Entry, Source, of_frame, opened
from sweep.adoption.take import Adoption, adoption, take

__all__ = ["Adoption", "Entry", "Source", "adoption", "of_frame", "opened", "take"]
