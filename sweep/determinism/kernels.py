"""Operations without a deterministic kernel: the layer of the operation, and the remedy."""

from __future__ import annotations

from types import TracebackType

from torch import nn

_MARK = " does not have a deterministic implementation"


def missing(error: BaseException) -> bool:
    """Return whether torch raised an exception because an operation has no deterministic kernel."""
    return isinstance(error, RuntimeError) and _MARK in str(error)


def explained(error: BaseException, device: str) -> str:
    """Return the operation, its layer if the traceback has it, and the remedy."""
    operation = str(error).partition(_MARK)[0].strip()
    layer = _layer(error.__traceback__)
    where = f"layer {layer}, forward pass" if layer else "backward pass"
    find = "" if layer else "; torch.autograd.set_detect_anomaly(True) shows the line that needs this gradient"
    return (
        f"{operation} has no deterministic kernel on {device} ({where}); use another operation there, or train in fast "
        f"mode (--fast), where equal bits are not promised{find}"
    )


def _layer(trace: TracebackType | None) -> str:
    """Return the path of the innermost module whose forward was running, or ""."""
    modules: list[nn.Module] = []
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and trace.tb_frame.f_code.co_name == "_call_impl":
            modules.append(owner)
        trace = trace.tb_next
    if not modules:
        return ""
    name = {id(each): name for name, each in modules[0].named_modules()}.get(id(modules[-1]), "")
    kind = type(modules[-1]).__name__
    return f"{name} ({kind})" if name else kind
