"""The default engine on hosts that limit a user: no name, no home, little address space."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

WORDS = ["-m", "sweep.cli", "run", "--seeds", "1", "--out"]
PROGRAM = ["--", "sh", "-c", "echo '{\"acc\": 0.5}'  # {seed}"]

# An interpreter below the home of root stays readable.
NOBODY = [
    "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]  # fmt: skip


def test_too_little_address_space_is_refused_before_the_start(tmp_path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    code = (
        "import resource, sys\nfrom sweep.engine.on_ray import require_memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({memory} // 5, -1))\n"
        "from sweep.cli.app import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *WORDS[2:], "out", *PROGRAM], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "ulimit -v" in done.stderr
    assert "--engine inline" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can change who it is")
@pytest.mark.ray
@pytest.mark.walk
def test_a_user_without_a_name_or_a_home_can_use_the_default_engine() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        done = subprocess.run(
            [*NOBODY, sys.executable, *WORDS, "out", *PROGRAM],
            cwd=folder, env={**environment, "HOME": "/"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.walk
@pytest.mark.parametrize("server", ["gcs_server", "raylet"])
def test_a_dead_server_of_ray_stops_the_launch_and_the_next_command_resumes(tmp_path: Path, server: str) -> None:
    command = "echo $$ >>begun; while ! test -e go; do sleep 0.1; done; echo '{\"acc\": 0.5}'  # {seed}"
    words = [sys.executable, *WORDS, "out", "--jobs", "1", "--seeds", "1-3", "--", "sh", "-c", command]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launch:
        give_up = time.monotonic() + 120
        while not (tmp_path / "begun").exists() and launch.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        (process,) = [each for each in psutil.Process(launch.pid).children() if server in each.name()]
        process.kill()
        process.wait()
        out, err = launch.communicate(timeout=50)
    assert launch.returncode == 1, err
    assert "run the same command to resume" in err
    assert "lost (" not in err  # a seed is not tried in vain
    assert "3 planned" in out
    assert "0 ok + 0 failed" in out
    assert "sweep watch" not in out  # nothing of the launch is at work any more
    (tmp_path / "go").touch()
    again = subprocess.run(words, cwd=tmp_path, capture_output=True)
    assert again.returncode == 0, again.stderr
