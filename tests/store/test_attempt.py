"""What one attempt writes, and what the next one may adopt from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from finished import planned

from sweep.errors import SweepError
from sweep.store import Attempt, Manifest, Record, Store, atomic
from sweep.store import attempt as module

PLAN = planned([7], [""], [""], 1, deterministic=False)
SPEC = next(iter(PLAN))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "runs", Manifest("made-up", {}, PLAN.experiment(), PLAN.config.seeds))


def checkpoint(attempt: Attempt, step: int, content: bytes, rows: int = 0) -> None:
    attempt.write_checkpoint(step, content, rows=rows)


def valid(attempt: Attempt) -> list[int]:
    return [about["step"] for _, about in attempt.checkpoints() if isinstance(about, dict)]


def test_attempts_are_numbered_and_know_those_before(store: Store) -> None:
    first, second, third = (store.begin(SPEC) for _ in range(3))
    assert [a.number for a in (first, second, third)] == [1, 2, 3]
    assert third.previous == (second.path, first.path)
    assert len({a.nonce for a in (first, second, third)}) == 3


def test_history_is_seen_while_it_is_written(store: Store) -> None:
    attempt = store.begin(SPEC)
    attempt.log_row(1, {"loss": 0.5})
    seen = store.history(store.member(SPEC.key))
    attempt.close()
    assert seen == [{"step": 1, "loss": 0.5}]
    assert store.history(store.member(SPEC.key)) == [{"step": 1, "loss": 0.5}]


def test_two_checkpoints_are_kept(store: Store) -> None:
    attempt = store.begin(SPEC)
    for step in (5, 10, 200):
        checkpoint(attempt, step, b"state %d" % step)
    assert valid(attempt) == [200, 10]
    assert len(list(attempt.path.glob("checkpoint-*"))) == 4


def test_the_next_attempt_finds_checkpoints_newest_first_and_says_what_is_wrong_with_the_rest(store: Store) -> None:
    first = store.begin(SPEC)
    checkpoint(first, 5, b"five")
    checkpoint(first, 10, b"ten")
    newest = first.path / "checkpoint-000000010.pt"
    newest.write_bytes(b"tan")
    second = store.begin(SPEC)
    assert valid(second) == [5]
    assert next(about for _, about in second.checkpoints()) == "its content has changed since it was written"
    newest.unlink()
    newest.symlink_to(first.path / "checkpoint-000000005.pt")
    assert valid(second) == [5]
    (first.path / "checkpoint-000000005.json").write_bytes(b"{")
    assert valid(second) == []


def test_a_checkpoint_of_another_run_is_no_ones(store: Store) -> None:
    attempt = store.begin(SPEC)
    checkpoint(attempt, 5, b"five")
    stranger = Attempt(attempt.path, "0" * 64, attempt.owner, 1)
    assert [about for _, about in stranger.checkpoints()] == ["it belongs to another run"]


def test_a_full_disk_keeps_the_checkpoint_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = store.begin(SPEC)
    checkpoint(attempt, 5, b"five")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(atomic, "_write", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint(attempt, 10, b"ten")
    assert valid(attempt) == [5]


def test_adopted_history_ends_where_the_checkpoint_was_taken(store: Store) -> None:
    first = store.begin(SPEC)
    for step in (1, 2, 3):
        first.log_row(step, {"loss": 1 / step})
    first.close()
    second = store.begin(SPEC)
    second.adopt_history(first.path, 2)
    second.log_row(3, {"loss": 0.25})
    second.close()
    assert [row["step"] for row in store.history(store.member(SPEC.key))] == [1, 2, 3]
    assert store.history(store.member(SPEC.key))[2]["loss"] == 0.25


def test_artifacts_are_the_files_the_record_answers_for(store: Store) -> None:
    attempt = store.begin(SPEC)
    attempt.log_row(1, {"loss": 0.5})
    attempt.log_text("said\n")
    attempt.write("notes.txt", b"abc")
    checkpoint(attempt, 5, b"five")
    os.symlink("/etc/hostname", attempt.path / "link")
    (attempt.path / "folder").mkdir()
    found = attempt.artifacts()
    assert set(found) == {"history.jsonl", "notes.txt"}
    assert found["notes.txt"].sha256 == atomic.bytes_digest(b"abc")
    attempt.drop_checkpoints()
    assert valid(attempt) == []


def test_a_long_log_keeps_its_beginning_and_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 1000)
    attempt = store.begin(SPEC)
    for line in range(500):
        attempt.log_text(f"line {line}\n")
    text = (attempt.path / "log.txt").read_text()
    assert len(text) < 1300
    assert text.startswith("line 0\n")
    assert text.endswith("line 499\n")
    assert "[... cut ...]" in text
    attempt.log_text("a file name \udcff\n")


def test_an_abandoned_attempt_is_at_once_nobodys(store: Store) -> None:
    attempt = store.begin(SPEC)
    assert store.member(SPEC.key).status == "running"
    attempt.abandon()
    assert store.member(SPEC.key).status == "lost"


def test_a_stop_that_was_asked_for_is_told_from_a_death(store: Store) -> None:
    first = store.begin(SPEC)
    checkpoint(first, 5, b"five")
    first.abandon(stopped=True)
    member = store.member(SPEC.key)
    assert (member.status, store.checkpoint(member)) == ("stopped", 5)
    second = store.begin(SPEC)
    second.abandon()  # the newest attempt tells
    assert store.member(SPEC.key).status == "lost"
    third = store.begin(SPEC)
    third.abandon(stopped=True)
    (third.path.parent / "record.json").write_text("{")  # damage outweighs how it ended
    member = store.member(SPEC.key)
    assert (member.status, store.checkpoint(member)) == ("lost", 5)
    assert "damaged" in member.note


def test_only_the_first_commit_counts(store: Store) -> None:
    def record(attempt: Attempt, accuracy: float) -> Record:
        return Record(spec=SPEC.to_json(), spec_id=SPEC.id, status="ok", attempt=attempt.nonce, metrics={"a": accuracy})

    one, two = store.begin(SPEC), store.begin(SPEC)
    assert store.commit(two, record(two, 0.5))
    assert not store.commit(one, record(one, 0.9))
    member = store.member(SPEC.key)
    assert member.record is not None
    assert member.record.metrics == {"a": 0.5}
    assert member.folder == two.path


def test_what_is_logged_after_the_end_is_refused_and_costs_nothing(store: Store) -> None:
    attempt = store.begin(SPEC)
    attempt.log_row(1, {"loss": 0.5})
    found = attempt.artifacts()
    with pytest.raises(SweepError, match="after the run had ended"):
        attempt.log_row(2, {"loss": 0.25})
    with pytest.raises(SweepError, match="after the run had ended"):
        attempt.write("model.json", b"{}")
    assert {name: atomic.file_digest(attempt.path / name) for name in found} == {
        name: artifact.sha256 for name, artifact in found.items()
    }
