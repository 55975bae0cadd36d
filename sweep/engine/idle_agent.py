"""A stand-in for an agent of Ray that may never be needed: it announces its port at once, and waits.

Ray's raylet starts no worker before its agents have written their ports, and ends when one of them ends. Loading an
agent takes a second of a core. This is a script that needs only the standard library:

    idle_agent.py SESSION_DIRECTORY NODE_ID NAME_OF_A_PORT ...                  listens nowhere
    idle_agent.py SESSION_DIRECTORY NODE_ID NAME_OF_A_PORT -- COMMAND ...       becomes the command at the first request

The command receives the port as its last word, `--runtime-env-agent-port=…`.
"""

import os
import select
import socket
import sys
import time

NONE = -1  # the value of each port in a Ray without the packages for a dashboard
LOOK = 0.5  # seconds between checks that the raylet is still alive
LOOPBACK = "127.0.0.1"


def say(folder: str, node: str, name: str, port: int) -> None:
    path = os.path.join(folder, f"{name}_{node}")
    with open(f"{path}.part", "w", encoding="ascii") as stream:
        stream.write(str(port))
    os.replace(f"{path}.part", path)


def main(words: list[str]) -> None:
    raylet = os.getppid()
    folder, node, *rest = words
    if "--" not in rest:
        for name in rest:
            say(folder, node, name, NONE)
        while os.getppid() == raylet:
            time.sleep(LOOK)
        return
    name, _, *command = rest
    with socket.socket() as door:
        door.bind((LOOPBACK, 0))
        door.listen()
        port = door.getsockname()[1]
        say(folder, node, name, port)
        while not select.select([door], [], [], LOOK)[0]:
            if os.getppid() != raylet:
                return
    # The first request is refused and repeated, as with an agent that is still loading.
    os.execv(command[0], [*command, f"--runtime-env-agent-port={port}"])


if __name__ == "__main__":
    main(sys.argv[1:])
