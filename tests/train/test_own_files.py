"""Data without code: tables, folders of pictures, arrays, each with a split that is named, drawn, or of a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sweep
from sweep.config import load as config_of
from sweep.errors import ConfigError
from sweep.prepare import prepare
from sweep.train.data import load
from sweep.train.params import Data
from sweep.train.splits import chosen, identity, stored

ROWS = 80
DRAW = np.random.default_rng(1)
FRAME = pd.DataFrame({
    "id": [f"row{i}" for i in range(ROWS)],
    "age": DRAW.normal(40, 9, ROWS),
    "height": DRAW.integers(150, 200, ROWS),
    "town": DRAW.choice(["Rome", "Oslo", "Bonn"], ROWS),
    "kind": DRAW.choice(["cat", "ant"], ROWS),
    "part": ["test" if i % 5 == 0 else "valid" if i % 5 == 1 else "train" for i in range(ROWS)],
})  # fmt: skip


def csv(folder: Path, frame: pd.DataFrame = FRAME, name: str = "table.csv") -> str:
    frame.to_csv(folder / name, index=False, sep="\t" if ".tsv" in name else ",")
    return str(folder / name)


def table(path: str, **more: Any) -> Data:
    return Data.model_validate({"path": path, "target": "kind", "ignore": ("id", "part"), **more})


def pictures(folder: Path, size: int = 6, *tops: str) -> str:
    for top in tops or (".",):
        for value, name in ((40, "dark"), (200, "light")):
            (folder / top / name).mkdir(parents=True)
            for i in range(12):
                noise = DRAW.integers(0, 40, (size, size, 3))
                Image.fromarray((value + noise).astype(np.uint8)).save(folder / top / name / f"{i}.png")
    return str(folder)


def test_the_path_alone_names_what_is_there(tmp_path: Path) -> None:
    def named(path: str, **more: Any) -> str:
        return Data.model_validate({"path": path, **more}).name

    assert named("a.npz") == "npz"
    for ending in ("csv", "TSV", "parquet", "csv.gz"):
        assert named(f"some.data.{ending}", target="y") == "table"
    assert named(pictures(tmp_path / "pictures")) == "images"
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "train-images-idx3-ubyte").touch()
    assert named(str(tmp_path / "idx")) == "idx"


def test_what_earlier_versions_said_of_their_data_is_said_in_the_same_way() -> None:
    assert Data().model_dump(mode="json") == {"name": "digits", "folder": None, "path": None, "limit": None}
    assert "split" in Data(split=3).model_dump(mode="json")  # the control: what is used is kept


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.csv.gz"])
def test_a_table_becomes_numbers_with_a_column_for_each_text(tmp_path: Path, name: str) -> None:
    found = load(table(csv(tmp_path, name=name)), "classification")
    assert found.classes == ("ant", "cat")
    assert found.input_shape == (5,)  # age, height, and Bonn, Oslo, Rome
    town = found.train.inputs[:, 2:].numpy() * np.array(found.std[2:]) + np.array(found.mean[2:])
    wanted = pd.get_dummies(FRAME["town"]).to_numpy()[found.train.ids.numpy()]
    assert np.allclose(town, wanted, atol=1e-5)


def test_a_parquet_file_and_a_frame_are_the_same_data_as_the_text(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    FRAME.to_parquet(tmp_path / "table.parquet")
    options: Any = {"ignore": ("id", "part")}
    three = [
        sweep.data.table(each, "kind", **options).load("classification")
        for each in (csv(tmp_path), tmp_path / "table.parquet", FRAME)
    ]
    assert all(each.train.inputs.equal(three[0].train.inputs) for each in three)


def test_missing_values_are_refused_or_take_the_median_of_train(tmp_path: Path) -> None:
    holes = FRAME.copy()
    holes.loc[[3, 10], "age"] = np.nan
    holes.loc[7, "town"] = np.nan
    path = csv(tmp_path, holes)
    with pytest.raises(ConfigError, match=r"age \(2 rows\), town \(1 rows\)"):
        load(table(path), "classification")
    found = load(table(path, missing="impute", split="part", ignore=("id",)), "classification")
    train = holes["age"][FRAME["part"] == "train"]
    place = found.test.ids.tolist().index(10)
    age = float(found.test.inputs[place, 0]) * found.std[0] + found.mean[0]
    assert age == pytest.approx(float(train.median()), rel=1e-5)
    assert found.input_shape == (6,)  # one more text
    holes.loc[2, "kind"] = np.nan
    with pytest.raises(ConfigError, match="target"):
        load(table(csv(tmp_path, holes), missing="impute"), "classification")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"target": "sort"}, "age, height"),
        ({"ignore": ("part", "idd")}, "no column 'idd'"),
        ({"split": "town", "ignore": ("id", "part")}, "train, val or test"),
        ({"split": {"test": [ROWS]}}, "80 examples"),
        ({"split": {"test": [1], "val": [1]}}, "both test and val"),
    ],
)
def test_a_wrong_column_or_position_is_named(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(table(csv(tmp_path), **more), "classification")


def test_many_different_texts_are_refused(tmp_path: Path) -> None:
    many = pd.concat([FRAME] * 2).assign(id=[f"row{i}" for i in range(2 * ROWS)])
    with pytest.raises(ConfigError, match="'id' has 160 different texts"):
        load(table(csv(tmp_path, many), ignore=("part",)), "classification")


def test_a_split_is_a_column_positions_or_a_seed(tmp_path: Path) -> None:
    path = csv(tmp_path)
    by_column = load(table(path, split="part", ignore=("id",)), "classification")
    assert by_column.test.ids.tolist() == list(range(0, ROWS, 5))
    assert by_column.val.ids.tolist() == list(range(1, ROWS, 5))
    named = load(table(path, split={"test": [5, 2]}), "classification")
    assert named.test.ids.tolist() == [2, 5]
    usual, seven, again, eight = (
        load(table(path, **more), "classification").test.ids.tolist()
        for more in ({}, {"split": 7}, {"split": 7, "missing": "impute"}, {"split": 8})
    )
    assert seven == again
    assert len({tuple(usual), tuple(seven), tuple(eight)}) == 3
    raw = sweep.data.table(path, "kind", ignore=("id", "part")).read()
    assert chosen(stored(raw, "classification", ""), raw, 7)["test"].tolist() == seven


def test_an_array_of_an_npz_file_can_name_the_split(tmp_path: Path) -> None:
    x = DRAW.normal(size=(40, 3))
    names = np.where(np.arange(40) < 10, "test", "train")
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40) % 2, where=names)
    found = load(Data(name="npz", path=str(tmp_path / "data.npz"), split="where"), "classification")
    assert found.test.ids.tolist() == list(range(10))


@pytest.mark.parametrize("tops", [(), ("train", "test")])
def test_a_folder_of_pictures_is_a_data_set(tmp_path: Path, tops: tuple[str, ...]) -> None:
    found = load(Data.model_validate({"path": pictures(tmp_path, 6, *tops)}), "classification")
    assert found.classes == ("dark", "light")
    assert found.input_shape == (3, 6, 6)
    assert len(found.test) == (24 if tops else 6)
    light = found.train.inputs[found.train.targets == 1].mean()
    assert light > found.train.inputs[found.train.targets == 0].mean()


def test_pictures_of_unlike_sizes_need_one(tmp_path: Path) -> None:
    path = pictures(tmp_path)
    Image.new("L", (9, 5)).save(tmp_path / "dark" / "other.png")
    with pytest.raises(ConfigError, match="size"):
        load(Data.model_validate({"path": path}), "classification")
    found = load(Data.model_validate({"path": path, "size": (4, 4)}), "classification")
    assert found.input_shape == (3, 4, 4)


def test_the_content_of_every_picture_is_part_of_the_identity(tmp_path: Path) -> None:
    data = Data.model_validate({"path": pictures(tmp_path)})
    before = identity(data, "classification")
    Image.new("RGB", (6, 6)).save(tmp_path / "dark" / "3.png")
    assert identity(data, "classification") != before


def test_a_config_names_a_file_and_its_problems_before_anything_starts(folder: Path) -> None:
    words = ["params.data.path=table.csv", "params.model.hidden=[4]", "params.epochs=1"]
    csv(folder)
    made = prepare(config_of(None, [*words, "params.data.target=kind", "params.data.ignore=[id,part]"]))
    assert made.cells[0].params["data"]["name"] == "table"
    kind = "params.data.target=kind"
    for *more, said in (
        ["needs target"], [kind, "params.data.size=[3,3]", "size"],
        ["params.data.target=age", "params.data.ignore=[id,part]", "not class numbers"],
        [kind, "params.data.ignore=[id,part]", "params.model={name: cnn}", "needs images"],
    ):  # fmt: skip
        config = config_of(None, [*words[:1], *more])
        with pytest.raises(ConfigError, match=said):
            prepare(config)
