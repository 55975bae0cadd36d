"""The run directory: its names, atomic writes, records and lock. Reading it loads neither torch nor Ray."""

from sweep.store.attempt import Attempt as Attempt
from sweep.store.directory import Reading as Reading
from sweep.store.directory import Store as Store
from sweep.store.history import Row as Row
from sweep.store.history import Table as Table
from sweep.store.manifest import Manifest as Manifest
from sweep.store.manifest import SeedEntry as SeedEntry
from sweep.store.member import Member as Member
from sweep.store.member import by_seed as by_seed
from sweep.store.owner import Owner as Owner
from sweep.store.predictions import Predictions as Predictions
from sweep.store.record import Artifact as Artifact
from sweep.store.record import Damaged as Damaged
from sweep.store.record import Failure as Failure
from sweep.store.record import Record as Record
