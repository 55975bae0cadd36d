"""A fork server: an interpreter that has loaded all modules, has run nothing, and forks once for every call.

Each call starts from the same process state, independent of earlier calls: no module of the user, no thread, no CUDA,
no handler, no counter. It ends in `_exit`, or becomes a program. No process that it started outlives it, in any group
or session: orphans become children of the interpreter, which ends them. `client` is the calling end, `server` the
process that forks, `child` the forked process. The answer comes back through a pipe, and results are on disk.
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
