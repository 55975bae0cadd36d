"""The launch of a sweep: from a config to a queue of runs, the engine that trains them, and their end."""

from sweep.launch.event import Begun as Begun
from sweep.launch.event import Event as Event
from sweep.launch.event import Finished as Finished
from sweep.launch.event import Retried as Retried
from sweep.launch.event import Said as Said
from sweep.launch.queue import Launch as Launch
