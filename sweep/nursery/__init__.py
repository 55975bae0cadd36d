"""A nursery: an interpreter that has loaded everything and run nothing, and forks once for every call.

Each call starts from the same process state, whoever called before: no module of the user, no thread, no CUDA, no
handler, no counter. It ends in `_exit`, or becomes a program, and nothing that it started outlives it, in whatever
group or session: what a call leaves is orphaned to the interpreter, which ends it. `asking` is the end that calls,
`interpreter` the process that forks, `child` what it forks. The answer comes back through a pipe; what counts is on
the disk.
"""

import sys

from sweep.nursery.asking import Program as Program
from sweep.nursery.asking import call as call
from sweep.nursery.asking import dismiss as dismiss
from sweep.nursery.asking import start as start
from sweep.nursery.child import alone as alone
from sweep.nursery.child import at_exit as at_exit
from sweep.nursery.messages import GRACE as GRACE
from sweep.nursery.messages import Call as Call
from sweep.nursery.messages import Ended as Ended
from sweep.nursery.messages import named as named

POSSIBLE = sys.platform == "linux"  # elsewhere a fork of a process that has loaded torch is not safe
