"""Many trained members served as one module: mean prediction, calibrated prediction, uncertainties."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from sweep.ensemble.graph import Graphs
from sweep.errors import EnsembleError

# Up to this many input values in a batch, a CPU gains from one call for all members (up to 4x: the calls cost
# more than the arithmetic); beyond it the members' intermediate values leave the cache, and a loop is faster,
# the more so over images that are laid out as a CPU convolves them.
SMALL = 4096
TINY = 1e-300


class Prediction(NamedTuple):
    """float32, a row an example.

    Classification: mean (batch, classes) is the average of the members' probabilities, calibrated the same
    after the temperature; total, aleatoric, epistemic (batch,) are entropies of the uncalibrated members in
    nats. Regression: mean (batch,); calibrated (batch,) is the variance with its aleatoric part scaled as
    fitted; total, aleatoric, epistemic (batch,) are variances (aleatoric 0 when members predict none).
    """

    mean: Tensor
    calibrated: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


@dataclass(frozen=True)
class About:
    """What a served ensemble has to know beside weights.

    labels: members; classes: names, may be empty; input_shape: of one example, None when unknown; mean, std:
    what inputs are normalised by, one a feature or channel, empty for none; temperature: of the pooled
    probabilities, or the scale of variances. Regression: target_mean and target_std undo the scaling of
    targets; variance: "residual" with one residual a member, "predicted" as log-variance, or None. notes:
    sentences to print.
    """

    kind: Literal["classification", "regression"] = "classification"
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    temperature: float = 1.0
    target_mean: float = 0.0
    target_std: float = 1.0
    variance: Literal["residual", "predicted"] | None = None
    residual: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Head(nn.Module):
    """From raw inputs to normalised ones, and from members' outputs (members, batch, outputs) to a Prediction."""

    shift: Tensor
    scale: Tensor
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
            kind = torch.float64 if name in ("temperature", "residual") else torch.float32
            self.register_buffer(name, torch.tensor(values, dtype=kind))

    def normalised(self, inputs: Tensor) -> Tensor:
        wanted = self.about.input_shape
        if wanted is not None and wanted[0] == 1 and tuple(inputs.shape[1:]) == wanted[1:]:
            inputs = inputs.unsqueeze(1)  # images as they are stored, without their only channel
        if wanted is not None and tuple(inputs.shape[1:]) != wanted:
            raise EnsembleError(
                f"inputs of shape {tuple(inputs.shape)}",
                hint=f"the models take (batch, {', '.join(map(str, wanted))}): reshape the array before it is saved",
            )
        x = inputs.to(self.shift.dtype)
        if not self.about.mean:
            return x
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - self.shift.reshape(shape)) / self.scale.reshape(shape)

    def probs(self, outputs: Tensor) -> Tensor:
        """(members, batch, classes): each member's probabilities in float64."""
        return outputs.double().softmax(-1)

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(members, batch) twice: each member's mean and variance in the target's unit, float64."""
        raw = outputs.double()
        raw = raw.unsqueeze(-1) if raw.ndim == 2 else raw
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
        return Prediction(mean.float(), calibrated.float(), total.float(), aleatoric.float(), epistemic.float())


class Ensemble(nn.Module):
    """All members as one module in evaluation mode: stacked weights, one call for all of them.

    Call it with raw inputs (batch, *input_shape), as they were stored before normalisation, for a Prediction.
    It moves with `.to(device)`; on a GPU, a batch whose shape came before is replayed as a CUDA graph. form:
    "stacked" (torch.func.vmap) or "loop" (a module that vmap refuses); on a CPU large batches are looped too.
    Raises EnsembleError when the modules are not alike, or inputs do not have the members' shape.
    """

    def __init__(self, modules: Sequence[nn.Module], about: About | None = None) -> None:
        super().__init__()
        if not modules:
            raise EnsembleError("there is no member to serve", hint="give at least one module")
        alike = [{k: v.shape for k, v in one.state_dict().items()} for one in modules]
        for index, shapes in enumerate(alike):
            if shapes != alike[0]:
                raise EnsembleError(
                    f"member {index} has other weights than member 0", hint="serve members of one architecture"
                )
        modules = [one.eval() for one in modules]
        with torch.no_grad():
            parameters, buffers = stack_module_state(list(modules))
        self.head = Head(about if about is not None else About(labels=tuple(map(str, range(len(modules))))))
        self.count = len(modules)
        self.form: Literal["stacked", "loop"] = "stacked"
        self.refusal = ""
        self._parameter_names = tuple(parameters)
        self._buffer_names = tuple(buffers)
        for name, value in parameters.items():
            self.register_parameter(_flat(name), nn.Parameter(value.detach(), requires_grad=False))
        for name, value in buffers.items():
            self.register_buffer(_flat(name), value.detach())
        self._views: list[nn.Module] | None = None
        self._pixels = True
        self._graphs: Graphs | None = None
        # In a list, so that it is no submodule: it lends its code, the weights are the stacked ones.
        self._skeleton = [copy.deepcopy(modules[0]).to("meta")]

    @property
    def about(self) -> About:
        return self.head.about

    def train(self, mode: bool = True) -> Ensemble:
        """Members stay in evaluation mode: what is served was scored that way."""
        return super().train(False)

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
        """(members, batch, outputs): what each member's network says of raw inputs."""
        x = self.head.normalised(inputs)
        if self.form == "loop" or (x.device.type == "cpu" and x.numel() > SMALL):
            return self._looped(x)
        try:
            return self._at_once(x)
        except Exception as refused:
            out = self._looped(x)  # when this fails as well, the inputs are wrong, not the form
            self.form, self.refusal = "loop", f"{type(refused).__name__}: {refused}".splitlines()[0]
            return out

    def _at_once(self, x: Tensor) -> Tensor:
        def call(state: dict[str, Tensor], x: Tensor) -> Tensor:
            out: Tensor = functional_call(self._skeleton[0], state, (x,))
            return out

        out: Tensor = torch.func.vmap(call, in_dims=(0, None))(self._state(), x)
        return out

    def _looped(self, x: Tensor) -> Tensor:
        if self._views is None:
            self._views = [self._filled(i) for i in range(self.count)]
        if not (self._pixels and x.device.type == "cpu" and x.ndim == 4):
            return torch.stack([one(x) for one in self._views])
        try:
            pixels = by_pixel(x)
            return torch.stack([one(pixels) for one in self._views])
        except RuntimeError:  # a module that views its features as rows in the order of channels
            out = torch.stack([one(x) for one in self._views])
            self._pixels = False
            return out

    def _filled(self, member: int) -> nn.Module:
        """One member as a module whose weights are its part of the stacked ones, without a copy."""
        one = copy.deepcopy(self._skeleton[0])
        for name, value in self._state().items():
            path, _, leaf = name.rpartition(".")
            owner = one.get_submodule(path)
            if name in self._buffer_names:
                owner._buffers[leaf] = value[member]
            else:
                owner._parameters[leaf] = nn.Parameter(value[member], requires_grad=False)
        return one

    def _apply(self, *args: Any, **kwargs: Any) -> Ensemble:
        self._views = self._graphs = None  # the weights they look into are about to move
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def _state(self) -> dict[str, Tensor]:
        return {name: getattr(self, _flat(name)) for name in (*self._parameter_names, *self._buffer_names)}

    def members(self) -> list[nn.Module]:
        """The members again as modules of their own, on the CPU."""
        return [copy.deepcopy(self._filled(i)).cpu() for i in range(self.count)]

    def extra_repr(self) -> str:
        return f"{self.count} members, {self.about.kind}, form={self.form}, temperature={self.about.temperature:.4g}"


class Loop(nn.Module):
    """The same ensemble as a plain loop over modules: what is exported, since vmap would fix the batch size."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.members = nn.ModuleList(ensemble.members())
        self.head = copy.deepcopy(ensemble.head).cpu()
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        x = self.head.normalised(inputs)
        return tuple(self.head(torch.stack([one(x) for one in self.members])))


def by_pixel(images: Tensor) -> Tensor:
    """The same (batch, channels, height, width) with a pixel's channels side by side in memory.

    A CPU convolves and pools that up to twice as fast. Of one channel both layouts have the same bytes, and only
    strides that are set by hand say which of the two is meant.
    """
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).contiguous()
    return rows.as_strided((batch, channels, height, width), (height * width * channels, 1, width * channels, channels))


def _flat(name: str) -> str:
    # A registered name may not hold a dot; the prefix keeps clear of attributes such as `head` and `form`.
    return "stacked_" + name.replace(".", "/")
