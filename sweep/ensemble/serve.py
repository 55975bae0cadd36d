"""Many trained members served as one module: mean prediction, calibrated prediction, uncertainties."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from sweep.ensemble.graph import Graphs
from sweep.errors import EnsembleError
from sweep.train import precision

# Up to this many input values in a batch, one call for all members is faster on a CPU (up to 4x, because the calls cost
# more than the arithmetic). Beyond it, intermediate values do not fit into the cache, and a loop is faster, even more
# so for images in the layout in which a CPU convolves them.
SMALL = 4096
TINY = 1e-300


class Prediction(NamedTuple):
    """The predictions in float32, one row per example.

    Classification: mean (batch, classes) is the average of the members' probabilities, calibrated the same
    after the temperature; total, aleatoric, epistemic (batch,) are entropies of the uncalibrated members in
    nats. Regression: mean (batch,); calibrated (batch,) is the variance with its aleatoric part scaled as
    fitted; total, aleatoric, epistemic (batch,) are variances (aleatoric is 0 if members predict none).
    Tokens and pixels have (batch, *places, classes) and (batch, *places); several labels or values of an example
    have (batch, labels) in every field, and the mean of a label is its probability.
    """

    mean: Tensor
    calibrated: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


@dataclass(frozen=True)
class About:
    """Facts that a served ensemble needs besides its weights.

    labels: members; classes: names, may be empty; input_shape: of one example, None if unknown; mean, std: for
    normalising inputs, one per feature or channel, empty for none; wide: which of them in float64, empty for none;
    temperature: of the pooled probabilities, or the scale of variances. Regression: target_mean and target_std undo
    the scaling of targets; variance: "residual" with one residual per member, "predicted" as log-variance, or None.
    form: the kind of several outputs of an example: "tokens", "pixels" (their classes come second), "labels" or
    "values"; "" if there is one. notes: sentences to print.
    """

    kind: Literal["classification", "regression"] = "classification"
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    wide: tuple[bool, ...] = ()
    temperature: float = 1.0
    target_mean: float = 0.0
    target_std: float = 1.0
    variance: Literal["residual", "predicted"] | None = None
    residual: tuple[float, ...] = ()
    form: str = ""
    notes: tuple[str, ...] = field(default=())


class Head(nn.Module):
    """The conversion of raw inputs to normalised ones, and of outputs (members, batch, outputs) to a Prediction."""

    shift: Tensor
    scale: Tensor
    wide: Tensor  # only if `about` has it
    temperature: Tensor
    residual: Tensor

    def __init__(self, about: About) -> None:
        super().__init__()
        self.about = about
        for name, values in (
            ("shift", about.mean),
            ("scale", about.std),
            ("temperature", (about.temperature,)),
            ("residual", about.residual),
        ):
            kind = torch.float64 if name in ("temperature", "residual") or about.wide else torch.float32
            self.register_buffer(name, torch.tensor(values, dtype=kind))
        if about.wide:
            self.register_buffer("wide", torch.tensor(about.wide))

    def normalised(self, inputs: Tensor) -> Tensor:
        wanted = self.about.input_shape
        if wanted is not None and wanted[0] == 1 and tuple(inputs.shape[1:]) == wanted[1:]:
            inputs = inputs.unsqueeze(1)  # images as they are stored, without their only channel
        if wanted is not None and tuple(inputs.shape[1:]) != wanted:
            raise EnsembleError(
                f"the models take inputs of shape (batch, {', '.join(map(str, wanted))}), not {tuple(inputs.shape)}",
                hint="reshape the array before you save it",
            )
        if not self.about.mean:
            return inputs
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        shift, scale = self.shift.reshape(shape), self.scale.reshape(shape)
        x = (inputs.to(shift.dtype) - shift) / scale
        if not self.about.wide:
            return x
        # The others are float32 throughout, as in training.
        return torch.where(self.wide.reshape(shape), x.float(), (inputs.float() - shift.float()) / scale.float())

    def probs(self, outputs: Tensor) -> Tensor:
        """Return each member's probabilities (members, batch, classes) in float64; for a label, of no and yes."""
        logits = outputs.double()
        if self.about.form == "labels":
            return torch.stack([(-logits).sigmoid(), logits.sigmoid()], -1)
        return (logits.movedim(2, -1) if self.about.form == "pixels" else logits).softmax(-1)

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance in the target's unit, float64, (members, batch) or (members, batch, values) each."""
        raw = outputs.double()
        raw = raw.unsqueeze(-1) if raw.ndim == 2 or self.about.form == "values" else raw
        mean = raw[..., 0] * self.about.target_std + self.about.target_mean
        if self.about.variance == "predicted":
            return mean, raw[..., 1].exp() * self.about.target_std**2
        if self.about.variance == "residual":
            return mean, self.residual[:, None] + torch.zeros_like(mean)
        return mean, torch.zeros_like(mean)

    def forward(self, outputs: Tensor) -> Prediction:
        if self.about.kind == "regression":
            means, variances = self.moments(outputs)
            mean, aleatoric = means.mean(0), variances.mean(0)
            epistemic = (means - mean).square().mean(0)
            total, calibrated = aleatoric + epistemic, self.temperature * aleatoric + epistemic
        else:
            probs = self.probs(outputs)
            mean = probs.mean(0)
            logs = mean.clamp_min(TINY).log()
            total = -(mean * logs).sum(-1)
            aleatoric = -(probs * probs.clamp_min(TINY).log()).sum(-1).mean(0)
            epistemic = (total - aleatoric).clamp_min(0.0)
            calibrated = (logs / self.temperature).softmax(-1)
            if self.about.form == "labels":
                mean, calibrated = mean[..., 1], calibrated[..., 1]
        return Prediction(mean.float(), calibrated.float(), total.float(), aleatoric.float(), epistemic.float())


class Ensemble(nn.Module):
    """All members as one module in evaluation mode, with one call for all of them if that gives the same results.

    Call it with raw inputs (batch, *input_shape), as they were stored before normalisation, for a Prediction.
    Integers (token ids) are passed to a model unchanged if nothing normalises them and the model accepts them.
    It moves with `.to(device)`; on a GPU, a batch of a shape seen before is replayed as a CUDA graph. form:
    "stacked" (torch.func.vmap) or "loop" (one module per member, if vmap refuses or stacking is not exact; refusal
    is the reason); on a CPU large batches are looped too.
    Raises EnsembleError if the modules are not alike, inputs do not have the members' shape, or a member returns
    neither one tensor nor logits.
    """

    def __init__(self, modules: Sequence[nn.Module], about: About | None = None) -> None:
        super().__init__()
        if not modules:
            raise EnsembleError("there is no member to serve", hint="give at least one module")
        shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in modules]
        if other := next((i for i, its in enumerate(shapes) if its != shapes[0]), 0):
            raise EnsembleError(
                f"the weights of member {other} differ in name or shape from those of member 0",
                hint="serve members of one architecture",
            )
        self.head = Head(about if about is not None else About(labels=tuple(map(str, range(len(modules))))))
        self.count = len(modules)
        self.refusal = unstackable(modules)
        self.form: Literal["stacked", "loop"] = "loop" if self.refusal else "stacked"
        self.own = nn.ModuleList(copy.deepcopy(one).eval().requires_grad_(False) for one in modules)
        self.taken: dict[torch.dtype, torch.dtype] = {}  # the dtype in which the members take integers of a dtype
        self._stacked: dict[str, Tensor] | None = None
        self._pixels = True
        self._graphs: Graphs | None = None
        self.eval()

    @property
    def about(self) -> About:
        return self.head.about

    @property
    def kind(self) -> torch.dtype:
        """Return the dtype of the members' weights, in which they take numbers."""
        return next((one.dtype for one in self.parameters() if one.is_floating_point()), torch.float32)

    def train(self, mode: bool = True) -> Ensemble:
        """Keep the members in evaluation mode, in which they were scored."""
        return super().train(False)

    def tensor(self, rows: npt.ArrayLike | Tensor) -> Tensor:
        """Return raw inputs as a tensor on the CPU: integers as int64, others in the float32 or float64 of training."""
        if isinstance(rows, Tensor):
            numbers = torch.float64 if self.about.wide else torch.float32
            return rows.detach().cpu().to(numbers if rows.is_floating_point() else torch.int64)
        array = np.asarray(rows)
        kind = np.float64 if self.about.wide else np.float32
        try:
            with np.errstate(over="raise"):
                return torch.from_numpy(np.array(array, dtype=np.int64 if array.dtype.kind in "iub" else kind))
        except FloatingPointError:
            raise EnsembleError(
                "an input is larger than float32 can hold", hint="give the inputs as in training"
            ) from None

    def forward(self, inputs: Tensor) -> Prediction:
        if not inputs.is_cuda or (inputs.requires_grad and torch.is_grad_enabled()):
            return self._eager(inputs)
        if self._graphs is None:
            self._graphs = Graphs(self._eager)
        return Prediction(*self._graphs(inputs))

    def _eager(self, inputs: Tensor) -> Prediction:
        out: Prediction = self.head(self.outputs(inputs))
        return out

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return each member's outputs for raw inputs, (members, batch, outputs)."""
        x = self.head.normalised(inputs)
        if not x.is_floating_point() and x.dtype not in self.taken:
            try:
                out = self._of(x)  # token ids, for example
                self.taken[x.dtype] = x.dtype
                return out
            except (RuntimeError, TypeError):
                self.taken[x.dtype] = self.kind
        return self._of(x.to(self.taken.get(x.dtype, self.kind)))

    def _of(self, x: Tensor) -> Tensor:
        if self.form == "loop" or (x.device.type == "cpu" and x.numel() > SMALL):
            return self._looped(x)
        try:
            return self._at_once(x)
        except Exception as refused:
            out = self._looped(x)  # if this fails too, the inputs are wrong, not the form
            self.form, self.refusal = "loop", f"{type(refused).__name__}: {refused}".splitlines()[0]
            return out

    def _at_once(self, x: Tensor) -> Tensor:
        def call(state: dict[str, Tensor], x: Tensor) -> Tensor:
            return logits(functional_call(self.own[0], state, (x,)))

        out: Tensor = torch.func.vmap(call, in_dims=(0, None))(self._state(), x)
        return out

    def _looped(self, x: Tensor) -> Tensor:
        if self._pixels and x.device.type == "cpu" and x.ndim == 4:
            try:
                return self._each(by_pixel(x))
            except RuntimeError:  # a module with views that depend on the order of channels
                out = self._each(x)
                self._pixels = False
                return out
        return self._each(x)

    def _each(self, x: Tensor) -> Tensor:
        return torch.stack([logits(one(x)) for one in self.own])

    def _state(self) -> dict[str, Tensor]:
        """Return the weights of all members by name, stacked; each member's own become views of them."""
        if self._stacked is None:
            with torch.inference_mode(False), torch.no_grad():
                parameters, buffers = stack_module_state(list(self.own))
                self._stacked = {name: value.detach() for name, value in {**parameters, **buffers}.items()}
                for name, values in self._stacked.items():
                    path, _, leaf = name.rpartition(".")
                    for one, value in zip(self.own, values, strict=True):
                        if name in parameters:
                            one.get_parameter(name).data = value
                        else:
                            setattr(one.get_submodule(path), leaf, value)
        return self._stacked

    def _apply(self, *args: Any, **kwargs: Any) -> Ensemble:
        # Private in torch, but the only method that all moves call: .to(), .double(), and those of a parent module.
        self._stacked = self._graphs = None
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stacked": None, "_graphs": None}  # a copy stacks its own weights

    def members(self) -> list[nn.Module]:
        """Return copies of the members as separate modules, on the CPU."""
        return [copy.deepcopy(one).cpu() for one in self.own]

    def extra_repr(self) -> str:
        return f"{self.count} members, {self.about.kind}, form={self.form}, temperature={self.about.temperature:.4g}"


class Loop(nn.Module):
    """The same ensemble as a plain loop over modules, for export: vmap would fix the size of a batch."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.members = nn.ModuleList(ensemble.members())
        self.head = copy.deepcopy(ensemble.head).cpu()
        self.kind, self.taken = ensemble.kind, dict(ensemble.taken)
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        x = self.head.normalised(inputs)
        x = x.to(self.taken.get(x.dtype, self.kind))
        return tuple(self.head(torch.stack([logits(one(x)) for one in self.members])))


def unstackable(modules: Sequence[nn.Module]) -> str:
    """Return why one call for all members would not give exactly the results of each, or "" if it would.

    Stacking covers parameters and buffers, each by one name, and runs the code of the first member.
    """
    for one in modules:
        named = [*one.named_parameters(remove_duplicate=False), *one.named_buffers(remove_duplicate=False)]
        places: dict[int, str] = {}
        for name, value in named:
            if not value.numel():
                continue
            holder = places.setdefault(value.untyped_storage().data_ptr(), name)
            if holder != name:
                return f"{name} shares memory with {holder}"
            if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
                return f"{name} is {value.dtype}, which rounds by the shape of a product"
    first, *rest = modules
    for path, module in first.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            return f"{path or 'the module'} keeps extra state"
        for other in rest:
            twin = other.get_submodule(path)
            if type(twin) is not type(module):
                return f"{path or 'the module'} has another class in another member"
            theirs = _attributes(twin)
            for name, value in _attributes(module).items():
                if name not in theirs or not _same(value, theirs[name]):
                    return f"{'.'.join(filter(None, (path, name)))} may differ between members"
    return ""


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds besides its parameters, buffers, submodules and hooks."""
    return {name: value for name, value in vars(module).items() if name not in _MACHINERY and "_hooks" not in name}


_MACHINERY = frozenset(vars(nn.Module()))


def _same(a: Any, b: Any) -> bool:
    """Return whether two attributes are surely the same; separate tensors or objects are not."""
    if a is b and not isinstance(a, Tensor):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return isinstance(a, (bool, int, float, complex, str, bytes, set, frozenset, torch.dtype, torch.Size)) and a == b


def logits(output: Any) -> Tensor:
    """Return the one tensor in the output of a member. Raises: EnsembleError for any other output."""
    try:
        return precision.logits(output)
    except TypeError as error:
        raise EnsembleError(
            f"the forward of a member returns {error}",
            hint='let build= return a module whose forward returns logits, or a mapping with the key "logits"',
        ) from None


def by_pixel(images: Tensor) -> Tensor:
    """Return the same (batch, channels, height, width) with a pixel's channels side by side in memory.

    A CPU convolves and pools that up to twice as fast. With one channel both layouts have the same bytes, and only
    strides that are set by hand distinguish them.
    """
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).contiguous()
    return rows.as_strided((batch, channels, height, width), (height * width * channels, 1, width * channels, channels))
