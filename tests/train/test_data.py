"""Data are read strictly, split by the data alone and normalised by what train knows."""

from __future__ import annotations

import gzip
import math
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.cli.app import main
from sweep.errors import ConfigError
from sweep.train import splits
from sweep.train.data import load
from sweep.train.params import Data
from sweep.train.read import data_digest, data_files, read, read_idx


def idx(array: np.ndarray[Any, Any]) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(">u1").tobytes()


def write_family(folder: Path, *, compressed: bool = True) -> Path:
    """Four files of the MNIST family: 200 and 40 images of 6 x 5, classes 0 to 3."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for part, n in (("train", 200), ("t10k", 40)):
        for kind, array in (
            ("images-idx3", draw.integers(0, 256, (n, 6, 5))), ("labels-idx1", np.arange(n) % 4),
        ):  # fmt: skip
            data = idx(array)
            end = ".gz" if compressed else ""
            (folder / f"{part}-{kind}-ubyte{end}").write_bytes(gzip.compress(data) if compressed else data)
    return folder


def test_idx_files_compressed_or_not_are_the_same_data(tmp_path: Path) -> None:
    packed = load(Data(name="idx", folder=str(write_family(tmp_path / "a"))), "classification")
    plain = load(Data(name="idx", folder=str(write_family(tmp_path / "b", compressed=False))), "classification")
    assert packed.input_shape == (1, 6, 5)
    assert len(packed.test) == 40
    assert len(packed.train) + len(packed.val) == 200
    assert torch.equal(packed.train.inputs, plain.train.inputs)
    assert torch.equal(packed.test.targets, plain.test.targets)
    assert packed.test.ids.min() == 200


whole = idx(np.zeros((3, 2, 2)))
DAMAGED = {
    "empty": (b"", "no IDX header"),
    "another format": (b"\x89PNG\r\n\x1a\n" * 4, "no IDX header"),
    "header cut": (whole[:9], "header is cut off"),
    "body cut": (whole[:-1], "declares 12 bytes (3, 2, 2), but the file holds 11"),
    "body too long": (whole + b"x", "the file holds more"),
    "gzip cut": (gzip.compress(whole)[:-9], "cannot be read"),
    "huge header": (b"\0\0\x08\x03" + b"\xff" * 12, ""),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_idx_files_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(DAMAGED[kind][0])
    with pytest.raises(ConfigError) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert DAMAGED[kind][1] in str(error.value)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        data_digest(Data(name="idx", folder=str(tmp_path / "none")))
    folder = write_family(tmp_path / "a")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConfigError, match="t10k-labels"):
        data_digest(Data(name="idx", folder=str(folder)))
    with pytest.raises(ConfigError, match="no such file"):
        data_digest(Data(name="npz", path=str(tmp_path / "none.npz")))


def npz(path: Path, **arrays: Any) -> Data:
    np.savez(path, **arrays)
    return Data(name="npz", path=str(path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((30, 2))}, "belong together"),
        ({"a": np.zeros(3)}, "no x and y; it holds a"),
        ({"x": np.zeros((30, 2)), "y": np.zeros(29)}, "x has 30 rows"),
        ({"x": np.zeros(30), "y": np.zeros(30)}, "x has shape (30,)"),
        ({"x": np.array(["a"] * 30)[:, None], "y": np.zeros(30)}, "numbers"),
        ({"x": np.full((30, 2), np.nan), "y": np.zeros(30)}, "not finite"),
        ({"x": np.zeros((30, 2)), "y": np.full(30, 0.5)}, "not class numbers"),
        ({"x": np.zeros((30, 2)), "y": np.full(30, -1)}, "not class numbers"),
        ({"x": np.zeros((30, 2)), "y": np.array([object()] * 30)}, "not an .npz file of plain arrays"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4)}, "are left for"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "nothing to learn from"),
        ({"x": np.zeros((30, 0)), "y": np.zeros(30)}, "nothing to learn from"),
        ({"x": np.zeros((30, 2)), "y": np.arange(30) % 2, "x_test": np.zeros((0, 2)), "y_test": np.zeros(0)}, "x_test"),
    ],
)
def test_bad_npz_files_say_what_is_wrong(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(npz(tmp_path / "data.npz", **arrays), "classification")
    assert message in str(error.value)


def _run(out: Path, *words: str) -> int:
    return main(["run", *words, "params.epochs=1", "--engine", "inline", "--seeds", "1", "--out", str(out)])


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        ("train-images-idx3", (200, *[1] * 70)),
        ("train-images-idx3", (200, *[1] * 8)),
        ("train-images-idx3", (200, 0, 5)),
        ("train-images-idx3", (0, 6, 5)),
        ("train-images-idx3", (200,)),
        ("t10k-images-idx3", (40, 0, 5)),
        ("t10k-images-idx3", (40, 6, 4)),  # with those to train on of (6, 5): all of the folder is named
    ],
)
def test_idx_files_of_no_use_are_refused_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, shape: tuple[int, ...]
) -> None:
    folder = write_family(tmp_path / "data", compressed=False)
    header = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    (folder / f"{part}-ubyte").write_bytes(header + bytes(math.prod(shape)))
    if shape[0] == 0:
        (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(0)))
    code = _run(tmp_path / "o", "params.data.name=idx", f"params.data.folder={folder}")
    said = capsys.readouterr().err
    assert code == 2
    assert ("examples of test differ in shape" if shape == (40, 6, 4) else part) in said
    assert "Traceback" not in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("shape", [(0, 5), (30, 0), (30, *[1] * 70)])
def test_a_table_of_no_use_is_refused_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...]
) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, y=np.zeros(shape[0]))
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).encode() + b"\n"
    array = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(8 * math.prod(shape))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x.npy", array)
    code = _run(tmp_path / "o", "params.data.name=npz", f"params.data.path={path}")
    assert code == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_earlier_directory_of_data_that_float32_cannot_carry_takes_no_new_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: one of data that it carries does."""
    draw = np.random.default_rng(0)
    code = {}
    for name, offset in (("near", 0.0), ("far", 1.7e9)):
        path, out = tmp_path / f"{name}.npz", tmp_path / name
        np.savez(path, x=draw.normal(size=(80, 3)) + offset, y=np.arange(80) % 2)
        words = ["run", "params.data.name=npz", f"params.data.path={path}", "params.epochs=1", "--engine", "inline"]
        with monkeypatch.context() as patch:  # as it was: the bytes of the file alone
            patch.setattr(splits, "NORMALISED", "")
            assert main([*words, "--seeds", "1", "--out", str(out)]) == 0
        capsys.readouterr()
        code[name] = main([*words, "--seeds", "1,2", "--out", str(out)])
        said = capsys.readouterr().err
    assert code == {"near": 0, "far": 2}
    assert "normalised in float64" in said
    assert main(["reproduce", str(tmp_path / "far")]) == 2
    assert "earlier version" in capsys.readouterr().err


def test_npz_with_splits_of_its_own_keeps_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    parts = {"train": 60, "test": 20, "val": 10}
    arrays = {f"x_{k}": draw.normal(size=(n, 8, 8)) for k, n in parts.items()}
    arrays |= {f"y_{k}": np.arange(n) % 3 for k, n in parts.items()}
    data = load(npz(tmp_path / "d.npz", classes=np.array(["a", "b", "c"]), **arrays), "classification")
    assert (len(data.train), len(data.val), len(data.test)) == (60, 10, 20)
    assert data.input_shape == (1, 8, 8)
    assert data.classes == ("a", "b", "c")


def test_splits_are_disjoint_stratified_and_the_documented_size() -> None:
    data = load(Data(), "classification")
    ids = [set(split.ids.tolist()) for split in (data.train, data.val, data.test)]
    assert not ids[0] & ids[1]
    assert not (ids[0] | ids[1]) & ids[2]
    assert len(set.union(*ids)) == 1797
    assert abs(len(data.test) - 1797 / 4) < 5
    counts = torch.bincount(data.test.targets)
    assert counts.min() >= 40


def test_normalisation_knows_train_only(tmp_path: Path) -> None:
    """Negative control built in: the test rows are far away, and would show in mean and deviation."""
    x = np.random.default_rng(2).normal(5, 3, size=(200, 2))
    data = load(
        npz(tmp_path / "d.npz", x_train=x, y_train=np.arange(200) % 2, x_test=x + 1e6, y_test=np.arange(200) % 2),
        "classification",
    )
    assert torch.allclose(data.train.inputs.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(data.train.inputs.std(0, correction=0), torch.ones(2), atol=1e-5)
    assert data.mean[0] == pytest.approx(x[data.train.ids.numpy(), 0].mean())
    assert data.test.inputs.min() > 1e4


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path, y = tmp_path / "d.npz", np.arange(80) % 2
    x = np.random.default_rng(3).normal(size=(80, 2))
    before, digest = load(npz(path, x=x, y=y), "classification"), data_digest(Data(name="npz", path=str(path)))
    after = load(npz(path, x=x, y=1 - y), "classification")
    assert not torch.equal(before.train.targets, after.train.targets)
    assert data_digest(Data(name="npz", path=str(path))) != digest


def test_the_digest_is_of_the_bytes_not_of_the_place(tmp_path: Path) -> None:
    a, b = (Data(name="idx", folder=str(write_family(tmp_path / name))) for name in "ab")
    for source, target in zip(data_files(a).values(), data_files(b).values(), strict=True):
        target.write_bytes(source.read_bytes())  # gzip keeps the time of packing
    assert data_digest(a) == data_digest(b)


def test_checking_parameters_and_hashing_data_loads_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys; from sweep.train import recipes, read, params; read.data_digest(params.Data())\n"
        "sys.exit(str([m for m in ('torch', 'sklearn', 'ray', 'pandas') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_large_offset_takes_nothing_from_a_column(tmp_path: Path) -> None:
    """Negative control: the column without an offset keeps the bits of float32."""
    x, y = np.random.default_rng(4).normal(size=(200, 2)), np.arange(200) % 2
    near = load(npz(tmp_path / "near.npz", x=x, y=y), "classification")
    far = load(npz(tmp_path / "far.npz", x=x + np.array([1.7e9, 0]), y=y), "classification")
    assert (near.wide, far.wide) == ((), (True, False))
    for mine, its in ((near.train, far.train), (near.val, far.val), (near.test, far.test)):
        assert its.inputs.dtype == torch.float32
        assert torch.allclose(mine.inputs[:, 0], its.inputs[:, 0], atol=1e-5)
        assert torch.equal(mine.inputs[:, 1], its.inputs[:, 1])


@pytest.mark.parametrize(("offset", "scale"), [(2.0**53, 1000.0), (1e15, 1.0), (-1e18, 1e5)])
def test_an_offset_that_strains_float64_takes_no_more_than_its_rounding(
    tmp_path: Path, offset: float, scale: float
) -> None:
    """A column is never zeros while its file tells examples apart."""
    x, y = np.random.default_rng(6).normal(size=(200, 1)) * scale, np.arange(200) % 2
    far = load(npz(tmp_path / "far.npz", x=x + offset, y=y), "classification")
    mine, its = x[far.train.ids.numpy(), 0], far.train.inputs[:, 0].numpy()
    assert np.corrcoef(mine, its)[0, 1] > 0.99
    assert its.std() == pytest.approx(1.0, abs=0.01)


def test_whole_numbers_with_an_offset_keep_what_tells_them_apart(tmp_path: Path) -> None:
    x = 1_700_000_000 + np.random.default_rng(5).integers(0, 60, size=(200, 1))
    data = load(npz(tmp_path / "d.npz", x=x, y=np.arange(200) % 2), "classification")
    assert len(data.train.inputs.unique()) == len(np.unique(x[data.train.ids.numpy()]))


def test_the_noise_of_a_computed_constant_stays_noise(tmp_path: Path) -> None:
    x = np.where(np.arange(200) % 2, 0.3, 0.1 + 0.2)[:, None]
    x = np.concatenate([x, np.full((200, 1), 0.1)], axis=1)
    assert x[0, 0] != x[1, 0]
    data = load(npz(tmp_path / "d.npz", x=x, y=np.arange(200) % 2), "classification")
    assert data.wide == ()


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_data_that_float32_carries_are_normalised_in_float32(name: str) -> None:
    """Bit for bit: these tensors are part of what a directory of an earlier version was trained on."""
    source = Data.model_validate({"name": name})
    data, stored = load(source, "classification" if name == "digits" else "regression"), read(source).inputs
    shape = (1, -1) + (1,) * (stored.ndim - 2)
    mean, std = (np.array(one).reshape(shape).astype(np.float32) for one in (data.mean, data.std))
    for split in (data.train, data.val, data.test):
        x = stored[split.ids.numpy()].astype(np.float32)
        x -= mean
        x /= std
        assert split.inputs.numpy().tobytes() == x.tobytes()
