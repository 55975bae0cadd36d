"""Engines pull bundles of runs and yield that each has ended; they know nothing of training."""

from sweep.engine.event import Done as Done
from sweep.engine.event import Engine as Engine
from sweep.engine.event import Gone as Gone
from sweep.engine.event import Tick as Tick
from sweep.engine.inline import inline as inline
from sweep.engine.on_ray import RayEngine as RayEngine
from sweep.engine.on_ray import job_address as job_address
from sweep.engine.on_ray import require_memory as require_memory
