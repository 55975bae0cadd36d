"""One launch a directory; a dead owner's lock is taken over, a living one's is not."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.errors import StoreError
from sweep.store import Owner, Store, atomic, lock
from sweep.store.owner import this_process

HOLD = """
import sys, time
from pathlib import Path
from sweep.store import Store
with Store.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_living_owner_is_named_and_a_killed_one_replaced(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        try:
            with pytest.raises(StoreError, match=f"pid {process.pid} on .*"), Store.lock(tmp_path):
                pass
            owner = Store.owner_of(tmp_path)
            assert owner is not None
            assert owner.pid == process.pid
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL
    assert Store.owner_of(tmp_path) is None
    with Store.lock(tmp_path) as owner:
        assert owner.pid == os.getpid()
        assert Store.owner_of(tmp_path) == owner
    assert Store.owner_of(tmp_path) is None


def test_the_lock_is_let_go_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Store.lock(tmp_path):
        raise ZeroDivisionError
    with Store.lock(tmp_path):
        pass


def elsewhere() -> Owner:
    return replace(this_process(), host=f"not-{socket.gethostname()}", nonce="abc")


def test_a_lock_of_another_host_is_believed_until_broken(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(atomic.dumps(elsewhere().to_json()))
    with pytest.raises(StoreError, match="--break-lock"), Store.lock(tmp_path):
        pass
    with Store.lock(tmp_path, break_lock=True) as owner:
        assert owner.here


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"pid": "x"}', b"\xff"])
def test_a_lock_file_that_names_nobody_stops_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    with Store.lock(tmp_path):
        pass


def test_a_process_is_known_by_more_than_its_pid() -> None:
    me = this_process()
    assert me.dead() is False
    assert replace(me, ticks="1").dead() is True  # the pid of a process that has gone, used again
    assert replace(me, boot="another").dead() is True
    assert replace(me, pid=0).dead() is True  # abandoned
    assert elsewhere().dead() is None
    assert Owner.from_json(atomic.loads(atomic.dumps(me.to_json()))) == me


def _nothing() -> None: ...


def test_an_ended_process_that_nobody_waited_for_is_dead() -> None:
    process = multiprocessing.get_context("fork").Process(target=_nothing)
    process.start()
    assert process.pid is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert replace(this_process(), pid=process.pid, ticks=ticks).dead() is True
    process.join()


# File systems without hard links (FAT, SMB, buckets), or without locks (some of Lustre and NFS)


def unlinked(code: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def without(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if "links" in how:
        monkeypatch.setattr(atomic, "_link", unlinked(errno.EPERM if "locks" in how else errno.ENOTSUP))
    if "locks" in how:
        monkeypatch.setattr(atomic, "_flock", unlinked(errno.ENOLCK if "links" in how else errno.ENOSYS))


LACKS = ("links", "locks", "links and locks")


@pytest.mark.parametrize("lack", LACKS)
def test_a_record_is_created_once_whatever_the_file_system_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    without(monkeypatch, lack)
    path = tmp_path / "record.json"
    fork = multiprocessing.get_context("fork")
    won = fork.SimpleQueue()

    def create(number: int) -> None:
        won.put((number, lock.create_once(path, b"%d" % number)))

    racing = [fork.Process(target=create, args=(number,)) for number in range(6)]
    for each in racing:
        each.start()
    found = dict(won.get() for _ in racing)
    for each in racing:
        each.join()
    (first,) = [number for number, was in found.items() if was]
    assert path.read_bytes() == b"%d" % first
    assert not lock.create_once(path, b"later")
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("lack", LACKS)
def test_a_record_that_cannot_be_written_to_its_end_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str, time: int
) -> None:
    """time: at which of the writes of its content the disk is full; without hard links it is written twice."""
    without(monkeypatch, lack)
    path, content, real, writes = tmp_path / "record.json", b"the whole record", atomic._write, []

    def full(fd: int, data: bytes | memoryview) -> None:
        writes.append(bytes(data))
        if writes.count(content) == time and writes[-1] == content:
            real(fd, data[:4])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, data)

    with monkeypatch.context() as disk, suppress(OSError):
        disk.setattr(atomic, "_write", full)
        assert lock.create_once(path, content)
    assert not path.exists() or path.read_bytes() == content
    assert lock.create_once(path, content) != (writes.count(content) < time)
    assert path.read_bytes() == content


@pytest.mark.parametrize("lack", LACKS)
def test_one_launch_a_directory_whatever_the_file_system_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    without(monkeypatch, lack)
    with Store.lock(tmp_path) as owner:
        with pytest.raises(StoreError, match=f"pid {os.getpid()}"), Store.lock(tmp_path):
            pass
        assert Store.owner_of(tmp_path) == owner
    with Store.lock(tmp_path):
        pass


def test_a_lock_of_a_dead_process_is_taken_over_without_the_kernels_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "locks")
    dead = replace(this_process(), pid=0)
    (tmp_path / "lock.held").write_text(atomic.dumps(dead.to_json()))
    with Store.lock(tmp_path), pytest.raises(StoreError), Store.lock(tmp_path):
        pass
    assert not (tmp_path / "lock.held").exists()
    (tmp_path / "lock.held").write_text("torn")  # its maker died in the middle: a person has to decide
    with pytest.raises(StoreError, match="break-lock"), Store.lock(tmp_path):
        pass
    with Store.lock(tmp_path, break_lock=True):
        pass


@pytest.mark.parametrize("call", ["_replace", "_fsync"])
def test_a_file_system_that_cannot_keep_results_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(atomic, call, unlinked(errno.EIO))
    with pytest.raises(StoreError, match="cannot keep results") as caught:
        Store.claim(tmp_path / "runs")
    assert "--out" in str(caught.value)
    assert not list((tmp_path / "runs").iterdir())
