"""In place of an agent of Ray's that nobody may ever ask: says at once where it is, and waits.

Ray's raylet starts no worker before its agents have written where they listen, which takes each a second of a core to
load, and ends when one of them ends. A script of its own that needs nothing but the standard library:

    idle_agent.py SESSION_DIRECTORY NODE_ID NAME_OF_A_PORT ...                  listens nowhere
    idle_agent.py SESSION_DIRECTORY NODE_ID NAME_OF_A_PORT -- COMMAND ...       becomes the command when it is asked

The command is given the port as its last word, `--runtime-env-agent-port=…`.
"""

import os
import select
import socket
import sys
import time

NONE = -1  # what the agent of a Ray without the parts for a dashboard says of each of its ports
LOOK = 0.5  # seconds between looks whether the raylet is still there
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
    # Who knocked is turned away and knocks again, as at an agent that is still loading.
    os.execv(command[0], [*command, f"--runtime-env-agent-port={port}"])


if __name__ == "__main__":
    main(sys.argv[1:])
