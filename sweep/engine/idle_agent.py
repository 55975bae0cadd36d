"""In place of the agent behind Ray's dashboard, in a Ray without one: says that it has no ports, and waits.

A script of its own that needs nothing but the standard library: Ray's raylet waits for what it writes before it starts
a worker, and ends when this ends.

    idle_agent.py SESSION_DIRECTORY NODE_ID NAME_OF_A_PORT ...
"""

import os
import sys
import time

NONE = "-1"  # what the agent of a Ray without the parts for a dashboard says of each of its ports
LOOK = 0.5  # seconds between looks whether the raylet is still there


def main(folder: str, node: str, *ports: str) -> None:
    raylet = os.getppid()
    for port in ports:
        path = os.path.join(folder, f"{port}_{node}")
        with open(f"{path}.part", "w", encoding="ascii") as stream:
            stream.write(NONE)
        os.replace(f"{path}.part", path)
    while os.getppid() == raylet:
        time.sleep(LOOK)


if __name__ == "__main__":
    main(*sys.argv[1:])
