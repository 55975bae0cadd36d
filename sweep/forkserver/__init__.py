"""A fork server: an interpreter that has loaded everything and run nothing, and forks once for every call.

Each call starts from the same process state, whoever called before: no module of the user, no thread, no CUDA, no
handler, no counter. It ends in `_exit`, or becomes a program, and nothing that it started outlives it, in whatever
group or session: what a call leaves is orphaned to the interpreter, which ends it. `client` is the end that calls,
`server` the process that forks, `child` what it forks. The answer comes back through a pipe; what counts is on
the disk.
"""

import sys

from sweep.forkserver.child import alone as alone
from sweep.forkserver.child import at_exit as at_exit
from sweep.forkserver.client import Program as Program
from sweep.forkserver.client import call as call
from sweep.forkserver.client import dismiss as dismiss
from sweep.forkserver.client import start as start
from sweep.forkserver.messages import GRACE as GRACE
from sweep.forkserver.messages import Call as Call
from sweep.forkserver.messages import Ended as Ended
from sweep.forkserver.messages import named as named

POSSIBLE = sys.platform == "linux"  # elsewhere a fork of a process that has loaded torch is not safe
