"""Engines: they pull bundles of runs, have them trained, and yield each when it has ended."""

from sweep.engine.event import Done as Done
from sweep.engine.event import Engine as Engine
from sweep.engine.event import Gone as Gone
from sweep.engine.event import Tick as Tick
from sweep.engine.inline import inline as inline
from sweep.engine.on_ray import RayEngine as RayEngine
from sweep.engine.on_ray import job_address as job_address
from sweep.engine.on_ray import require_memory as require_memory
