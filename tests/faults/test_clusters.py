"""Clusters: three nodes simulated on this host, nodes and heads that go away, directories that are not shared."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import kit
import psutil
import pytest
from processes import until
from test_on_ray import configured, descendants, finish, starts

from sweep.config import load
from sweep.engine import Done, inline
from sweep.errors import EnvironmentRefused, IntegrityError
from sweep.job import Job
from sweep.launch import Launch
from sweep.plan import RunSpec
from sweep.prepare import prepare
from sweep.store import Store
from sweep.store.parcel import Parcel, unpack

CLUSTER = """
import json, os, signal, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1]) - 1)]
cluster.wait_for_nodes()
print(json.dumps({"address": cluster.address, "nodes": [n.node_id for n in nodes]}), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "remove":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    elif word == "head":
        cluster.remove_node(cluster.head_node, allow_graceful=False)
    elif word == "two":
        import time, ray
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        while sum(n["Alive"] for n in ray.nodes()) < 2:
            time.sleep(0.1)
        ray.shutdown()
    elif word == "end":
        break
    print("done", flush=True)
try:
    cluster.shutdown()
except Exception:
    pass
"""


def end(process: subprocess.Popen[Any], word: str | None = None) -> None:
    """Have a process end at a word or at SIGTERM, or else by force, and with it all that it started."""
    below = descendants(process.pid)
    if word is None:
        process.terminate()
    try:
        process.communicate(word, timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Simulated:
    """A cluster in a process of its own, so that its end is no end of the test."""

    def __init__(self, nodes: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(nodes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=kit.environment(), start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def close(self) -> None:
        end(self.process, "end\n")


@pytest.fixture
def three_nodes() -> Iterator[Simulated]:
    made = Simulated(3)
    yield made
    made.close()


@pytest.mark.ray
@pytest.mark.walk
def test_cases_16_17_a_node_lost_in_mid_seed(tmp_path: Path, three_nodes: Simulated, nursery: kit.Nursery) -> None:
    """Work is spread over three nodes; the seeds of one that goes away move and count once."""
    tally = configured(tmp_path, pause=0.4, epochs=4)
    words = ("run", "faults.yaml", "--seeds", "0-5", "--out", "spread", "--address", three_nodes.address)
    process = kit.start(*words, folder=tmp_path)
    until(lambda: len(starts(tally)) >= 3)  # three single-CPU nodes hold three at once
    three_nodes.tell("remove")
    code, said = finish(process)
    assert code == 0, said
    assert "lost (" in said
    kit.whole(tmp_path / "spread", range(6))
    tries = {seed: len(pids) for seed, pids in starts(tally).items()}
    assert set(tries) == set(range(6))
    assert max(tries.values()) == 2
    words = ("run", "faults.yaml", "--engine", "inline", "--seeds", "0-5", "--out", "calm")
    assert nursery.run(words, tmp_path).code == 0
    assert kit.tree(tmp_path / "spread") == kit.tree(tmp_path / "calm")


@pytest.mark.ray
@pytest.mark.slow
def test_case_18_the_head_is_lost_and_another_cluster_goes_on_from_disk(tmp_path: Path) -> None:
    tally = configured(tmp_path, pause=0.4, epochs=4)
    first = Simulated(2)
    process = kit.start(
        "run", "faults.yaml", "--seeds", "0-5", "--out", "runs", "--address", first.address, folder=tmp_path
    )
    until(
        lambda: (
            any(m.record for m in Store.open(tmp_path / "runs").scan())
            if (tmp_path / "runs" / "sweep.json").exists()
            else 0
        )
    )
    first.close()
    code, said = finish(process)
    assert code not in (0, None), said
    done = [m.seed for m in Store.open(tmp_path / "runs").scan() if m.record is not None]
    second = Simulated(2)
    try:
        more = kit.start(
            "run", "faults.yaml", "--seeds", "0-5", "--out", "runs", "--address", second.address, folder=tmp_path
        )
        code, said = finish(more)
    finally:
        second.close()
    assert code == 0, said
    kit.whole(tmp_path / "runs", range(6))
    assert all(len(starts(tally)[seed]) == 1 for seed in done)


@pytest.mark.ray
@pytest.mark.walk
def test_a_job_of_a_cluster_trains_on_that_cluster_and_starts_none_of_its_own(tmp_path: Path) -> None:
    tally = configured(tmp_path, pause=0.4, epochs=4)
    cluster = Simulated(1)
    try:
        # What `ray job submit` sets for its entry point.
        of_a_job = {"RAY_ADDRESS": cluster.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"env_vars": {}}}'}
        process = kit.start("run", "faults.yaml", "--seeds", "0,1", "--out", "runs", folder=tmp_path, **of_a_job)
        until(lambda: starts(tally))
        started = [psutil.Process(pid).name() for pid in descendants(process.pid)]
        code, said = finish(process)
    finally:
        cluster.close()
    assert code == 0, said
    assert f"the Ray cluster {cluster.address}" in said
    assert not [name for name in started if "gcs_server" in name or "raylet" in name]
    kit.whole(tmp_path / "runs", range(2))


@pytest.mark.ray
@pytest.mark.walk
def test_case_19_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    configured(tmp_path)
    process = kit.start(
        "run", "faults.yaml", "--seeds", "0", "--out", "runs", "--address", "127.0.0.1:9", folder=tmp_path,
        RAY_gcs_rpc_server_connect_timeout_s="2",
    )  # fmt: skip
    begun = time.monotonic()
    code, said = finish(process)
    assert time.monotonic() - begun < 120
    assert code == 2, said
    assert "127.0.0.1:9" in said
    assert "the same version of Ray" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


class Node:
    """A node of a simulated cluster with a file system and packages of its own."""

    def __init__(self, cluster: Simulated, *, hidden: Path | None = None, packages: Path | None = None) -> None:
        join = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={cluster.address}", "--num-cpus=1",
                "--disable-usage-stats", "--block"]  # fmt: skip
        env = kit.environment()
        if packages is not None:
            env["PYTHONPATH"] = f"{packages}{os.pathsep}{env['PYTHONPATH']}"
        if hidden is not None:
            join = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden), *join]
        self.process = subprocess.Popen(
            join, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        end(self.process)


@contextlib.contextmanager
def two_nodes(**other: Path) -> Iterator[Simulated]:
    """A cluster of one node as this machine is, and one that is not."""
    cluster = Simulated(1)
    node = Node(cluster, **other)
    try:
        cluster.tell("two")
        yield cluster
    finally:
        node.close()
        cluster.close()


def cannot_hide() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0


@pytest.mark.ray
@pytest.mark.walk
@pytest.mark.skipif(cannot_hide(), reason="a mount of its own needs root")
def test_a_node_without_the_directory_is_named_before_work_and_sends_its_files(tmp_path: Path) -> None:
    configured(tmp_path, pause=0.2, epochs=3)
    (tmp_path / "shared").mkdir()
    words = ("run", "faults.yaml", "--seeds", "0-5", "--out")
    with two_nodes(hidden=tmp_path / "shared") as cluster:
        code, said = finish(kit.start(*words, "shared/runs", "--address", cluster.address, folder=tmp_path))
    assert code == 0, said
    assert said.count("cannot see the run directory, so it sends the files of its runs to this machine") == 1
    assert said.index("cannot see") < said.index("[1/6]")
    kit.whole(tmp_path / "shared" / "runs", range(6))
    calm = kit.sweep(*words, "calm", "--engine", "inline", folder=tmp_path)
    assert calm.returncode == 0
    assert kit.tree(tmp_path / "shared" / "runs") == kit.tree(tmp_path / "calm")


@pytest.mark.ray
@pytest.mark.walk
def test_a_node_with_another_torch_is_named_before_work(tmp_path: Path) -> None:
    configured(tmp_path, pause=0.0, epochs=1)
    fake = tmp_path / "packages" / "torch-1.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    words = ("run", "faults.yaml", "--seeds", "0-1")
    with two_nodes(packages=tmp_path / "packages") as cluster:
        to = ("--address", cluster.address)
        code, said = finish(kit.start(*words, "--out", "exact", "--deterministic", *to, folder=tmp_path))
        assert code == 2, said
        assert "has torch 1.0 (here 2." in said
        assert "install the same packages on every node" in said
        assert "Traceback" not in said
        assert not (tmp_path / "exact").exists()
        code, said = finish(kit.start(*words, "--out", "fast", *to, folder=tmp_path))
        assert code == 0, said
        assert said.count("this sweep will have mixed environments") == 1


def refused(pull: Any, work: Any, job: Job) -> Iterator[Any]:
    """An engine that finds nothing to work with."""
    raise EnvironmentRefused("one run needs 64 CPUs")
    yield


def test_what_is_refused_before_work_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentRefused):
        events(tmp_path / "a" / "b" / "runs", refused)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(EnvironmentRefused):
        events(tmp_path / "empty", refused)
    assert list((tmp_path / "empty").iterdir()) == []
    events(tmp_path / "there", inline, seeds=[1])
    before = kit.tree(tmp_path / "there")
    with pytest.raises(EnvironmentRefused):
        events(tmp_path / "there", refused, seeds=[1, 2])
    members = list(Store.open(tmp_path / "there").scan(verify=True))
    assert [m.status for m in members] == ["ok", "pending"]
    assert {k: v for k, v in kit.tree(tmp_path / "there").items() if k != "sweep.json"}.items() <= before.items()


def unshared(pull: Any, work: Any, job: Job) -> Iterator[Any]:
    """An engine whose workers see another file system: the path of the run directory leads nowhere there."""
    away = partial(work.func, job=replace(job, path="/nowhere/" + job.launch))
    yield from inline(pull, away, job)


def events(out: Path, engine: Any, **changes: Any) -> list[Any]:
    config = load(None, **{"name": "faults", "train": "victims:steps", "seeds": [1, 2, 3], **changes})
    return list(Launch(prepare(config), out, engine, own_process=False))


def test_files_travel_where_the_directory_is_not_shared(tmp_path: Path) -> None:
    events(tmp_path / "shared", inline)
    events(tmp_path / "sent", unshared)
    kit.whole(tmp_path / "sent", [1, 2, 3])
    assert kit.tree(tmp_path / "sent") == kit.tree(tmp_path / "shared")
    assert kit.leftovers(tmp_path / "sent") == []
    assert not any(p.name.startswith("launch-") for p in (tmp_path / "sent").iterdir())


def test_a_directory_that_is_only_called_so_gets_nothing(tmp_path: Path) -> None:
    """The same path on another machine may be an old copy: its records would be lost to the launch."""
    events(tmp_path / "copy", inline, seeds=[1])
    before = kit.tree(tmp_path / "copy")

    def engine(pull: Any, work: Any, job: Job) -> Iterator[Any]:
        yield from inline(pull, partial(work.func, job=replace(job, path=str(tmp_path / "copy"))), job)

    events(tmp_path / "real", engine)
    kit.whole(tmp_path / "real", [1, 2, 3])
    assert kit.tree(tmp_path / "copy") == before


def test_a_failure_travels_too_and_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    events(tmp_path / "failed", unshared, train="victims:ends", params={"how": "value error", "seed": 2})
    members = {m.seed: m for m in Store.open(tmp_path / "failed").scan(verify=True)}
    assert {seed: m.status for seed, m in members.items()} == {1: "ok", 2: "failed", 3: "ok"}
    log = Store.open(tmp_path / "failed").log(members[2])
    assert log is not None
    assert "seed 2 is unlucky" in log.read_text()


def sent(out: Path) -> tuple[Store, RunSpec, Parcel]:
    """One parcel as a worker sends it, and the store that waits for it."""
    caught: list[Any] = []

    def engine(pull: Any, work: Any, job: Job) -> Iterator[Any]:
        for event in unshared(pull, work, job):
            assert isinstance(event, Done)
            caught.append((event.bundle[0], event.answer[0]))
        return
        yield

    events(out, engine, seeds=[1])
    return Store.open(out), *caught[0]


@pytest.mark.parametrize("what", ["altered", "missing", "another run", "out of the folder"])
def test_a_parcel_that_was_tampered_with_is_refused_and_nothing_counts(tmp_path: Path, what: str) -> None:
    store, spec, parcel = sent(tmp_path / "runs")
    files = dict(parcel.files)
    if what == "altered":
        files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x7f"
    elif what == "missing":
        del files["history.jsonl"]
    elif what == "another run":
        spec = replace(spec, seed=2)
    else:
        files["../../../escaped"] = b"x"
    with pytest.raises(Exception, match=r"another run|its worker recorded|leads out") as caught:
        unpack(store, spec, replace(parcel, files=tuple(files.items())), "")
    assert isinstance(caught.value, IntegrityError) or what == "out of the folder"
    assert not (tmp_path / "runs" / "members" / "escaped").exists()
    assert [m.status for m in store.scan()] in (["lost"], ["pending"])
    assert unpack(store, sent(tmp_path / "again")[1], parcel, "")
    assert [m.status for m in store.scan(verify=True)] == ["ok"]
    assert not unpack(store, sent(tmp_path / "third")[1], parcel, "")  # a late duplicate


@pytest.mark.ray
@pytest.mark.walk
def test_case_19_a_cluster_of_another_version_is_refused_before_work_with_both_versions(tmp_path: Path) -> None:
    configured(tmp_path)
    cluster = Simulated(1)
    code = "import sys, ray; ray.__version__ = '2.53.1'; from sweep.cli.app import main; sys.exit(main(sys.argv[1:]))"
    words = ["run", "faults.yaml", "--seeds", "0", "--out", "runs", "--address", cluster.address]
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, env=kit.environment(), text=True,
            capture_output=True, timeout=240,
        )  # fmt: skip
    finally:
        cluster.close()
    assert done.returncode == 2, done.stderr
    assert "2.53.1" in done.stderr
    assert __import__("ray").__version__ in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
