#!/usr/bin/env bash
# Record docs/terminal.svg from a real run, shown at twice its speed. Needs asciinema (PyPI) and svg-term (npm: svg-term-cli).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
cat > typed.sh <<'TYPED'
command='sweep run --seeds 0-9 params.optimizer.lr=0.001,0.01'
printf '\033[32m$\033[0m '
for ((i = 0; i < ${#command}; i++)); do printf '%s' "${command:i:1}"; sleep 0.08; done
sleep 0.5; printf '\n'; $command; sleep 10
TYPED
TERM=xterm-256color asciinema rec -q --cols 96 --rows 17 -i 1 -c 'bash typed.sh' run.cast
python - <<'FASTER'
import json
head, *lines = open("run.cast", encoding="utf-8").read().splitlines()
events = []
for at, kind, text in map(json.loads, lines):
    if events and len(text) > 1 and at / 2 - events[-1][0] < 0.3:  # a key is a frame of its own; few others are needed
        events[-1][2] += text
    else:
        events.append([at / 2, kind, text])
events.append([events[-1][0] + 5, "o", " "])  # the report stays to be read
open("run.cast", "w", encoding="utf-8").write("\n".join([head, *map(json.dumps, events)]) + "\n")
FASTER
svg-term --in run.cast --out "$here/terminal.svg" --width 96 --height 17 --window
