"""Which files a data set is made of, and their digest. Loads neither torch nor scikit-learn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sweep.errors import ConfigError, EnvironmentRefused
from sweep.train.params import Data

# The MNIST family: the name of each part with and without its compression, with "." or "-" before idx.
IDX_PARTS = {
    "train_images": "train-images",
    "train_labels": "train-labels",
    "test_images": "t10k-images",
    "test_labels": "t10k-labels",
}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_EMBEDDED = {
    "digits": {"table": "digits.csv.gz"},
    "diabetes": {"inputs": "diabetes_data_raw.csv.gz", "targets": "diabetes_target.csv.gz"},
}


def data_files(data: Data) -> Mapping[str, Path]:
    """Return the files of a data set by their part; ConfigError when one is missing, naming it and the folder."""
    if data.name in _EMBEDDED:
        folder = _sklearn_data()
        return {part: folder / name for part, name in _EMBEDDED[data.name].items()}
    if data.name == "images":
        return _pictures(Path(data.path or "").expanduser())
    if data.name in ("npz", "table"):
        path = Path(data.path or "").expanduser()
        if not path.is_file():
            raise ConfigError(
                f"no such file: {path}",
                where="params.data.path",
                hint="a relative path starts in the folder where the command is typed",
            )
        return {"arrays" if data.name == "npz" else "table": path}
    folder = Path(data.folder or "").expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"no such folder: {folder}",
            where="params.data.folder",
            hint="on Debian and Ubuntu: apt install dataset-fashion-mnist, then "
            "params.data.folder=/usr/share/datasets/fashion-mnist",
        )
    return {part: _idx_file(folder, stem) for part, stem in IDX_PARTS.items()}


def data_digest(data: Data) -> str:
    """Return the sha256 (hex) over the name and the bytes of every file, in the order of the parts' names.

    Where the files lie does not count: the same data in another folder are the same experiment.
    """
    whole = hashlib.sha256()
    for part, path in sorted(data_files(data).items()):
        with path.open("rb") as file:
            whole.update(f"{part}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _pictures(folder: Path) -> Mapping[str, Path]:
    """Return the pictures below the folders of their classes, by their path from the top."""
    found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES and each.is_file())
    parts = {each.relative_to(folder).as_posix(): each for each in found}
    if not parts or any("/" not in name for name in parts):
        raise ConfigError(
            f"{len(parts)} pictures below folders of classes in {folder}", where="params.data.path",
            hint=f"a folder for each class, with files {', '.join(PICTURES)}",
        )  # fmt: skip
    return parts


def _idx_file(folder: Path, stem: str) -> Path:
    dims = 3 if stem.endswith("images") else 1
    names = [f"{stem}{dot}idx{dims}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"none of {', '.join(names)} is in {folder}",
        where="params.data.folder",
        hint="the folder must hold the four files of an MNIST-like data set, compressed or not",
    )


def _sklearn_data() -> Path:
    # Located, not imported: importing scikit-learn takes a second, reading its tables milliseconds.
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentRefused("scikit-learn is not installed", hint="pip install scikit-learn")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
