"""A packed directory opens like the one it came from, and a hostile zip touches nothing."""

from __future__ import annotations

import json
import os
import stat
import zipfile
import zlib
from pathlib import Path

import pytest
from finished import failure, sweep_of

import sweep
from sweep import archive
from sweep.cli.app import main
from sweep.errors import StoreError
from sweep.report import build, to_json
from sweep.report.checklist import methods
from sweep.store import Store


def runs(path: Path) -> Store:
    return sweep_of(
        path,
        lambda spec: {"failure": failure(), "seconds": 7.0}
        if spec.seed == 2
        else {"metrics": {"test/accuracy": 0.9 + spec.seed / 100}, "seconds": 3600.0,
              "history": [{"step": 1, "val/loss": 0.5}]},
        seeds=range(4),
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return runs(tmp_path / "runs")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The zip of a directory like `made`, as bytes."""
    folder = tmp_path_factory.mktemp("packed")
    archive.pack(runs(folder / "runs"), folder / "sent.zip")
    return (folder / "sent.zip").read_bytes()


@pytest.fixture
def sent(packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip that a test may alter, and no directory unpacked from it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "sent.zip").write_bytes(packed)
    return tmp_path / "sent.zip"


def test_a_packed_directory_gives_the_same_report(made: Store, tmp_path: Path) -> None:
    target = tmp_path / "sent.zip"
    archive.pack(made, target)
    again = Store.open(target)
    one, two = to_json(build(made)), to_json(build(again))
    for body in (one, two):
        body.pop("directory"), body.pop("next")
    assert one == two
    assert sweep.open(target).frame.equals(sweep.open(made.path).frame)
    assert Store.open(target).path == again.path  # unpacked once
    assert main(["report", str(target)]) == 0


def test_the_crate_answers_for_every_file(sent: Path) -> None:
    with zipfile.ZipFile(sent) as held:
        names = set(held.namelist())
        graph = json.loads(held.read("ro-crate-metadata.json"))["@graph"]
    described = {each["@id"] for each in graph if each["@type"] == "File"}
    assert described == names - {"ro-crate-metadata.json"}
    assert {"report.html", "frames/runs.csv", "sweep.json"} <= names
    assert all(len(each["sha256"]) == 64 for each in graph if each["@type"] == "File")


def test_a_packed_directory_is_verified_as_a_directory_is(
    made: Store, sent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for place in (made.path, sent):
        assert main(["verify", str(place), "--seed", "4000000000"]) == 2
        said.append(capsys.readouterr().err.partition(": ")[2].partition(": ")[2])
    assert said[0] == said[1]
    assert "no run of seed 4000000000" in said[0]


@pytest.mark.parametrize("name", ["../outside", "/outside", "members/../../outside", "members\\..\\outside"])
def test_a_name_that_leads_out_is_not_unpacked(sent: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(sent, "a") as held:
        held.writestr(name, "harm")
    before = set(tmp_path.iterdir())
    Store.open(sent)
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}
    assert not [path for path in tmp_path.rglob("*") if "outside" in path.name]


def test_a_zip_of_other_content_is_never_taken_for_another(made: Store, tmp_path: Path) -> None:
    """The table of a zip holds CRC-32s alone, and other content is easily made to have the same."""
    content, same_sum = b'{"kind": "retry"}\n', (0x1DB710641).to_bytes(5, "little")
    forged = bytes(a ^ b for a, b in zip(content, same_sum.ljust(len(content), b"\0"), strict=True))
    found = []
    for events in (content, forged):
        with zipfile.ZipFile(tmp_path / "sent.zip", "w") as held:
            held.write(made.path / "sweep.json", "sweep.json")
            held.writestr("events.jsonl", events)
        found.append((Store.open(tmp_path / "sent.zip").path / "events.jsonl").read_bytes())
    assert zlib.crc32(content) == zlib.crc32(forged)
    assert found == [content, forged]


def test_links_bombs_and_damage_are_refused(sent: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("members/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(sent, "a", zipfile.ZIP_DEFLATED) as held:
        held.writestr(link, "/etc")
    names = [path.name for path in Store.open(sent).path.rglob("*")]
    assert "record.json" in names
    assert "link" not in names
    with zipfile.ZipFile(sent, "a", zipfile.ZIP_DEFLATED) as held:
        held.writestr("members/big", b"0" * (64 << 20))
    with pytest.raises(StoreError, match="unpacks"):
        Store.open(sent)
    (tmp_path / "torn.zip").write_bytes(sent.read_bytes()[:1000])
    (tmp_path / "empty.zip").write_bytes(b"")
    for name in ("torn.zip", "empty.zip"):
        with pytest.raises(StoreError):
            Store.open(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as held:
        held.writestr("a.txt", "a")
    with pytest.raises(StoreError, match="no sweep"):
        Store.open(tmp_path / "other.zip")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_is_refused_and_leaves_nothing(sent: Path, tmp_path: Path, kind: int) -> None:
    target = tmp_path / "damaged.zip"
    with zipfile.ZipFile(sent) as held, zipfile.ZipFile(target, "w", kind) as other:
        for name in held.namelist():
            other.writestr(name, held.read(name))
        at = other.getinfo("sweep.json").header_offset + 30 + len("sweep.json") + 12
    data = bytearray(target.read_bytes())
    data[at : at + 8] = bytes(255 - byte for byte in data[at : at + 8])
    target.write_bytes(data)
    with pytest.raises(StoreError, match="cannot be unpacked"):
        Store.open(target)
    assert not [*tmp_path.glob("cache/sweep/*")]


def test_what_an_entry_says_of_its_packed_size_is_not_believed(sent: Path) -> None:
    with zipfile.ZipFile(sent, "a", zipfile.ZIP_DEFLATED) as held:
        held.writestr("members/big", bytes(64 << 20))
        held.getinfo("members/big").compress_size = 64 << 20
    with pytest.raises(StoreError, match="unpacks"):
        Store.open(sent)


@pytest.mark.parametrize("holes", [128 << 20, 20 << 30])
def test_a_zip_that_is_mostly_nothing_is_refused_unread(sent: Path, tmp_path: Path, holes: int) -> None:
    with (tmp_path / "holes.zip").open("wb") as stream:
        stream.seek(holes)
        stream.write(sent.read_bytes())
    with pytest.raises(StoreError, match="belong to files"):
        Store.open(tmp_path / "holes.zip")


def test_a_file_of_holes_is_named_and_not_packed(made: Store, tmp_path: Path) -> None:
    with (made.path / "members/big").open("wb") as stream:
        stream.truncate(20 << 30)
    with pytest.raises(StoreError, match="sparse file") as refused:
        archive.pack(made, tmp_path / "sent.zip")
    assert str(refused.value.where).endswith("members/big")
    assert not [*tmp_path.glob("*.zip"), *tmp_path.glob(".tmp-*")]


def test_names_and_times_that_a_zip_cannot_hold_are_packed_all_the_same(made: Store, tmp_path: Path) -> None:
    (made.path / "members" / os.fsdecode(b"caf\xe9")).write_text("x")
    os.utime(made.path / "sweep.json", (0, 0))
    archive.pack(made, tmp_path / "sent.zip")
    with zipfile.ZipFile(tmp_path / "sent.zip") as held:
        assert "members/caf\\udce9" in held.namelist()
    assert Store.open(tmp_path / "sent.zip").manifest == made.manifest


def test_packing_into_a_place_that_cannot_be_written_says_so(made: Store, tmp_path: Path) -> None:
    assert main(["pack", str(made.path), "--out", str(tmp_path / "no" / "x.zip")]) == 2
    assert main(["pack", str(made.path), "--out", str(tmp_path / "x.tar")]) == 2
    assert not os.path.exists(tmp_path / "no")


def test_the_checklist_counts_what_failed_and_what_it_cost(made: Store, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(made.path), "--checklist"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "4 planned, 3 ok, 1 failed" in said
    assert "seeds: 4: 0, 1, 2, 3" in said
    assert "not recorded: please answer this yourself" in said
    assert "1 of 4 runs failed" in methods(build(made))
    assert main(["report", str(made.path), "--checklist", "--format", "latex"]) == 0


def test_a_link_to_a_zip_is_refused_in_words(sent: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(sent)
    with pytest.raises(StoreError, match="cannot be unpacked"):
        Store.open(tmp_path / "link.zip")
