"""The parameters of the built-in recipes, with all defaults filled in, checked without torch.

A value that depends on a name (the learning rate of an optimizer, the width of a model) is filled in
when the object is made, so that the spec of a run holds the number that was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from sweep.config.rules import BEST
from sweep.goals import direction

TABLES = (".csv", ".tsv", ".parquet")
Precision = Literal["fp32", "tf32", "bf16"]
# Strict: text is not a number, "false" not a truth value. Not for whole parts: there, a list would not become a tuple.
Count = Annotated[int, Field(ge=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]


class Part(BaseModel):
    """One group of parameters: immutable, and strict about names.

    `by_name` holds the defaults of omitted fields for each `name`. A field that only applies to other
    names is refused rather than ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    by_name: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not cls.by_name:
            return given
        name = given.get("name", cls.model_fields["name"].default)
        own = cls.by_name.get(name)
        if own is None:
            return given
        filled = {key: value for key, value in given.items() if value is not None}
        for key in filled:
            users = [other for other, fields in cls.by_name.items() if key in fields]
            if users and name not in users:
                raise ValueError(f"{key} does not apply to {name} (only to {', '.join(users)})")
        return {**own, **filled}


class Model(Part):
    """A network.

    hidden: widths of an MLP's layers, or of a CNN's head. channels: of the convolutions. A cnn has a pooling
    that halves the image after each 3x3 convolution. A resnet has one stage per entry of `channels`,
    `blocks` residual blocks per stage, and always batch norm.
    """

    by_name = {
        "mlp": {"hidden": (256, 256), "batch_norm": False},
        "cnn": {"channels": (32, 64), "hidden": (128,), "batch_norm": False},
        "resnet": {"channels": (16, 32, 64), "blocks": 2, "batch_norm": True},
    }
    name: Literal["mlp", "cnn", "resnet"] = "mlp"
    hidden: tuple[Count, ...] | None = None
    channels: Widths | None = None
    blocks: Count | None = None
    dropout: Fraction = 0.0
    batch_norm: Flag | None = None
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"

    @model_validator(mode="after")
    def _norm(self) -> Model:
        if self.name == "resnet" and not self.batch_norm:
            raise ValueError("a resnet always has batch norm; leave batch_norm out")
        return self


class Positions(Part):
    """The positions of the examples of test, and of val if they are named; train is the rest."""

    test: tuple[Annotated[int, Field(ge=0, strict=True)], ...] | None = None
    val: tuple[Annotated[int, Field(ge=0, strict=True)], ...] | None = None


class Data(Part):
    """A data set: embedded (digits, diabetes), or your own files, for which `path` is enough.

    path: a NumPy .npz file; a table (.csv, .tsv, .parquet); a folder with a folder of pictures for each class, or with
    train/ and test/ above them; a folder of IDX files. limit: at most this many training and this many test examples,
    for a quick try.
    target: the column of a table that is predicted. ignore: columns that are left out. Text columns become one column
    for each of their texts. missing: `refuse`, or `impute`, which fills numbers with the median of the training
    examples and makes missing text one more text. size: height and width to which pictures are resized.
    split: a column (or array of an .npz file) with train, val or test; {test: positions, val: positions}; or the
    seed of a different split. group: a column (or array) whose equal values stay together in one
    split or fold, such as the patient or the writer.
    """

    by_name = {
        "digits": {}, "diabetes": {}, "idx": {"folder": None}, "npz": {"path": None, "group": None},
        "table": {"path": None, "group": None, "target": None, "ignore": (), "missing": "refuse"},
        "images": {"path": None, "size": None},
    }  # fmt: skip
    name: Literal["digits", "diabetes", "idx", "npz", "table", "images"] = "digits"
    folder: str | None = None
    path: str | None = None
    limit: Annotated[int, Field(ge=20, strict=True)] | None = None
    target: str | None = None
    ignore: tuple[str, ...] = ()
    missing: Literal["refuse", "impute"] = "refuse"
    size: tuple[Count, Count] | None = None
    split: str | Annotated[int, Field(ge=0, lt=1 << 32, strict=True)] | Positions | None = None
    group: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("name") is not None or not isinstance(given.get("path"), str):
            return given
        path = Path(given["path"]).expanduser()
        if path.is_dir():
            if any("idx" in each.name and "ubyte" in each.name for each in path.iterdir()):
                return {**given, "name": "idx", "folder": given["path"], "path": None}
            return {**given, "name": "images"}
        endings = [ending.lower() for ending in path.suffixes if ending.lower() not in (".gz", ".bz2", ".xz", ".zst")]
        return {**given, "name": "table" if endings[-1:] and endings[-1] in TABLES else "npz"}

    @model_serializer(mode="wrap")
    def _as_before(self, dump: Any) -> dict[str, Any]:
        """Leave out unused fields: runs of earlier versions do not have them and must keep their identity."""
        since = ("target", "ignore", "missing", "size", "split", "group")
        unused = [key for key in since if getattr(self, key) == type(self).model_fields[key].default]
        return {key: value for key, value in dump(self).items() if key not in unused}

    @model_validator(mode="after")
    def _place(self) -> Data:
        for key in ("folder", "path"):
            if key in self.by_name[self.name] and not getattr(self, key):
                raise ValueError(f"{self.name} needs {key}: where the files are")
        if self.name == "table" and self.target is None:
            raise ValueError("a table needs target: the name of the column to predict")
        if isinstance(self.split, str) and self.name not in ("table", "npz"):
            raise ValueError(f"{self.name} has no columns to split by; give a seed, or {{test: positions}}")
        return self

    @property
    def where(self) -> str:
        """Return the name of the data in errors: their place, or else their name."""
        return self.path or self.folder or self.name


class Optimizer(Part):
    """SGD (momentum, Nesterov) or AdamW. Weight decay is decoupled in AdamW and added to the gradient in SGD."""

    by_name = {
        "sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
        "adamw": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
    }
    name: Literal["sgd", "adamw"] = "adamw"
    lr: Positive | None = None
    weight_decay: NonNegative | None = None
    momentum: Fraction | None = None
    nesterov: Flag | None = None
    betas: tuple[Fraction, Fraction] | None = None
    eps: Positive | None = None

    @model_validator(mode="after")
    def _nesterov(self) -> Optimizer:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Schedule(Part):
    """The learning rate over the run, as a factor of `optimizer.lr`, computed for every step.

    warmup: this share of all steps rises linearly from 0. cosine: falls to `floor` at the last step.
    step: multiplied by `gamma` after each of `milestones` (shares of all steps).
    """

    by_name = {
        "constant": {},
        "cosine": {"floor": 0.0},
        "step": {"milestones": (0.5, 0.75), "gamma": 0.1},
    }
    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup: Fraction = 0.0
    floor: Fraction | None = None
    milestones: tuple[Fraction, ...] | None = None
    gamma: Positive | None = None


class Augment(Part):
    """Changes of training images, drawn for each example from (seed, epoch, example).

    shift: up to this many pixels in each direction, with edges filled by the value of a black pixel.
    flip: mirrored left to right, half of the time.
    """

    shift: Annotated[int, Field(ge=0, strict=True)] = 0
    flip: Flag = False


class StopEarly(Part):
    """Stop when `metric` has not improved by more than `min_delta` for `patience` epochs.

    Only validation metrics can be named: choosing the epoch on test data makes the test score wrong.
    """

    metric: str = "val/loss"
    patience: Count = 10
    min_delta: NonNegative = 0.0

    @model_validator(mode="after")
    def _on_val(self) -> StopEarly:
        check_val_metric(self.metric)
        return self


def check_val_metric(metric: str) -> str:
    """Return the metric if a stop or a checkpoint may be chosen by it. Raises: ValueError."""
    if "test" in metric.split("/"):
        raise ValueError(f"an epoch is chosen on val, never on test; name val/loss instead of {metric}")
    if not metric.startswith("val/"):
        raise ValueError(f"{metric} is not a validation metric; name val/loss, val/accuracy or val/rmse")
    if direction(metric) is None:
        raise ValueError(f"the direction of {metric} is not known")
    return metric


def parse_checkpoint(rule: str) -> str | None:
    """Return the metric of `best(val/loss)`, or None for `final`. Raises: ValueError for any other rule."""
    if rule == "final":
        return None
    if found := BEST.fullmatch(rule):
        return check_val_metric(found[1])
    raise ValueError(f"{rule!r} is neither final nor best(val/loss)")
