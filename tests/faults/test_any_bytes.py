"""Whatever bytes stand in a file, whatever text stands in a name: an answer or an expected error, and inert output."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import escape
from rich.cells import cell_len

from sweep import metrics as collect
from sweep.config.schema import Collect
from sweep.errors import SweepError
from sweep.export import guarded
from sweep.report import document
from sweep.report.document import Table
from sweep.stats import parse_gate, parse_until
from sweep.train.params import Data
from sweep.train.read import read, read_idx
from sweep.words import shown

MANY = settings(max_examples=200)


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


IDX = b"\0\0\x08\x02" + struct.pack(">2I", 3, 4) + bytes(range(12))
ARRAYS = npz(x=np.arange(12.0).reshape(4, 3), y=np.arange(4))
WRITTEN = npz(ids=np.arange(4), targets=np.arange(4) % 2, probs=np.full((4, 2), 0.5))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a few of its bytes changed, and perhaps cut, doubled or with something behind it."""
    data = bytearray(whole)
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
        data[at] = value
    cut = draw(st.integers(0, len(data)) | st.none())
    return bytes(data[:cut]) + draw(st.binary(max_size=20))


def expected(call: Callable[[], object]) -> None:
    """It answers, or says what is wrong; any other error fails the test."""
    with suppress(SweepError):
        call()


@given(st.binary(max_size=80) | damaged(IDX) | damaged(gzip.compress(IDX)))
@MANY
def test_any_bytes_as_an_idx_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(data)
    expected(lambda: read_idx(path))


@given(st.binary(max_size=80) | damaged(ARRAYS))
@MANY
def test_any_bytes_as_a_data_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(data)
    expected(lambda: read(Data(name="npz", path=str(path))))


WHERE = {
    "log.json": Collect.model_validate({"json": "log.json"}),
    "log.csv": Collect.model_validate({"csv": "log.csv"}),
    "metrics.json": None,
}
LINES = st.lists(
    st.sampled_from(['{"epoch": 1, "a": 0.5}', '{"a": NaN}', '{"a": {"b": 1e999}}', "epoch,a", "1,0.5", '"', "[", "}",
                     '{"epoch": 1e400}', "\ufeffepoch\ta", "\0", "9" * 400, "acc=high", "acc=1.5", '{"a": "1_0"}'])
).map(lambda lines: "\n".join(lines).encode())  # fmt: skip


@given(st.binary(max_size=200) | LINES)
@MANY
def test_any_bytes_as_what_a_program_wrote(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "written"
    folder.mkdir(exist_ok=True)
    text = data.decode(errors="replace")
    for at_work in (False, True):
        left = collect.Left(folder, {"seed": "1"}, folder, text, at_work=at_work)
        for name, where in WHERE.items():
            (folder / name).write_bytes(data)
            expected(lambda where=where, left=left: collect.metrics(where, left))
            assert all(isinstance(step, int) for step, _ in collect.so_far(where, left))
            (folder / name).unlink()
        pattern = Collect(regex=r"(?:epoch (?P<epoch>\S+))|acc=(?P<acc>\S+)")
        for where in (None, pattern):
            expected(lambda where=where, left=left: collect.metrics(where, left))
            collect.so_far(where, left)


@given(st.binary(max_size=80) | damaged(WRITTEN))
@MANY
def test_any_bytes_as_the_predictions_a_program_wrote(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "predicted"
    folder.mkdir(exist_ok=True)
    (folder / "p.npz").write_bytes(data)
    left = collect.Left(folder, {}, folder, "")
    expected(lambda: list(collect.predictions(Collect(predictions={"test": "p.npz"}), left)))


@given(st.text(max_size=60))
@MANY
def test_any_text_as_a_rule(text: str) -> None:
    expected(lambda: parse_gate(text))
    expected(lambda: parse_until(text))


MARKED = "a\u0301\U00011d3a" * 30  # marks that take no cell of their own
NAMES = st.text(max_size=80) | st.text("\\${}_&%#~^|`*<>[]()=+-@'\"\n\t\r\x1b\u202e", max_size=30)


@given(NAMES)
@example(MARKED)
@MANY
def test_any_text_as_a_name_is_inert_wherever_it_is_shown(name: str) -> None:
    told = shown(name)
    assert told.isprintable()
    assert cell_len(told) <= 60
    assert len(told) <= 5 * 60  # also if many of its characters take no cell
    assert not re.search("[<>\"']", str(escape(told)))
    table = document.of(Table(("", "metric"), ((told, "1"),), notes=(told,)))
    row = document.markdown(table).splitlines()[2]
    assert row.endswith("| 1 |")
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    latex = document.latex(table)
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 1
    body = latex.partition("\\midrule")[2].partition("\\bottomrule")[0]
    signs = r"\$\\(?:pm|cdot|uparrow|downarrow)\$"  # ours, for characters that are no markup
    bare = re.sub(rf"{signs}|\\(?:[&%$#_{{}}]|text[a-z]+\{{\}}|\\)", "", body)
    assert not re.search(r"[%$#_~^]|\\(?:input|write|def)", bare), body
    assert len(re.findall("&", bare)) == 1, body


@given(NAMES)
@example("\n=1+1")
@example("＝1+1")
@MANY
def test_any_text_as_a_cell_is_no_formula(text: str) -> None:
    import pandas as pd

    table = guarded(pd.DataFrame({text: [text]}))
    for cell in (table.columns[0], table.iloc[0, 0]):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
        assert cell.removeprefix("'") == text.removeprefix("'")
