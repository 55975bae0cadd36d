"""Predictions come back bit by bit, mismatched ones are refused, and reading runs no code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predicted import read

from sweep.errors import IntegrityError, SweepError
from sweep.store import Predictions, predictions

PROBS = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])


def made(**changes: Any) -> Predictions:
    return predictions.checked(**{"ids": [1, 2, 3], "targets": [1, 0, 0], "probs": PROBS, **changes})


def written(of: Predictions) -> bytes:
    stream = io.BytesIO()
    predictions.write(stream, of.arrays())
    return stream.getvalue()


def same(a: Predictions, b: Predictions) -> bool:
    return a.arrays().keys() == b.arrays().keys() and all(
        x.dtype == b.arrays()[name].dtype and x.tobytes() == b.arrays()[name].tobytes()
        for name, x in a.arrays().items()
    )


@pytest.mark.parametrize(
    "of",
    [
        made(),
        made(ids=["a", "bé", "c"]),
        made(probs=None, mean=np.array([[0.1], [0.2], [np.nan]]), var=np.ones((3, 1)), targets=np.ones((3, 1))),
    ],
    ids=["classes", "text ids", "regression"],
)
def test_predictions_come_back(tmp_path: Path, of: Predictions) -> None:
    (tmp_path / "p.npz").write_bytes(written(of))
    assert same(read(tmp_path / "p.npz"), of)


def test_equal_predictions_are_equal_bytes() -> None:
    assert written(made()) == written(made())
    assert written(made()) != written(made(targets=[1, 0, 1]))


def test_tensors_of_any_float_are_taken() -> None:
    found = made(probs=torch.tensor(PROBS, dtype=torch.bfloat16, requires_grad=True), targets=torch.tensor([1, 0, 0]))
    assert found.probs is not None
    assert found.probs.dtype == np.float32
    assert np.array_equal(found.probs, PROBS)  # each of these is exact in bfloat16


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ids": [1, 2]}, "targets has 3 rows, but ids has 2"),
        ({"ids": [1, 1, 2]}, "have the same id"),
        ({"ids": [1, None, 2]}, "Python objects"),
        ({"probs": None}, "probs .* or mean"),
        ({"mean": [1.0, 2.0, 3.0]}, "probs .* or mean"),
        ({"probs": PROBS[:2]}, "probs has 2 rows"),
        ({"ids": 3}, "ids"),
        ({"targets": 3}, "targets"),
    ],
    ids=str,
)
def test_rows_that_do_not_match_are_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(SweepError, match=what):
        made(**changes)


def test_a_pickle_inside_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "p.npz", ids=np.array([Bomb()], dtype=object), targets=np.zeros(1), probs=np.ones((1, 1)))
    with pytest.raises(IntegrityError, match="not a readable predictions file"):
        read(tmp_path / "p.npz")
    (tmp_path / "q.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(IntegrityError):
        read(tmp_path / "q.npz")
    assert not (tmp_path / "ran").exists()


def test_cut_or_flipped_bytes_never_raise_anything_but_integrity(tmp_path: Path) -> None:
    data = written(made())
    path = tmp_path / "p.npz"
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        with pytest.raises(IntegrityError):
            read(path)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            read(path)
        except IntegrityError:
            continue


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "LIMIT", 100)
    (tmp_path / "p.npz").write_bytes(written(made()))
    with pytest.raises(IntegrityError, match="unpacks to more"):
        read(tmp_path / "p.npz")
