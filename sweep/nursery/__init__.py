"""A nursery: an interpreter that has loaded everything and run nothing, and forks once for every call.

Each call starts from the same process state, whoever called before: no module of the user, no thread, no CUDA, no
handler, no counter. It ends in `_exit`, or becomes a program, and nothing that it started outlives it, in whatever
group or session: what a call leaves is orphaned to the interpreter, which ends it. `asking` is the end that calls,
`interpreter` the process that forks, `child` what it forks. The answer comes back through a pipe; what counts is on
the disk.
"""

import sys

from sweep.nursery.asking import Program, call, dismiss, start
from sweep.nursery.child import alone, at_exit
from sweep.nursery.messages import GRACE, Call, Ended, Gone, named

POSSIBLE = sys.platform == "linux"  # elsewhere a fork of a process that has loaded torch is not safe

__all__ = [
    "GRACE",
    "POSSIBLE",
    "Call",
    "Ended",
    "Gone",
    "Program",
    "alone",
    "at_exit",
    "call",
    "dismiss",
    "named",
    "start",
]
