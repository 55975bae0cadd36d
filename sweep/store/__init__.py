"""Owns a run directory: its names, its atomic writes, its records and its lock. Reads without torch or Ray."""

from sweep.store.attempt import Attempt
from sweep.store.directory import Store
from sweep.store.history import Row, Table
from sweep.store.manifest import Manifest, SeedEntry
from sweep.store.member import Member, Status
from sweep.store.owner import Owner
from sweep.store.predictions import Predictions
from sweep.store.reading import Reading
from sweep.store.record import Artifact, Damaged, Failure, Record
from sweep.store.scores import Scores

__all__ = [
    "Artifact",
    "Attempt",
    "Damaged",
    "Failure",
    "Manifest",
    "Member",
    "Owner",
    "Predictions",
    "Reading",
    "Record",
    "Row",
    "Scores",
    "SeedEntry",
    "Status",
    "Store",
    "Table",
]
