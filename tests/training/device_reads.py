"""Calls that make a host wait for its device, noticed on any machine."""

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

READS = {
    *(f"torch.Tensor.{name}" for name in ("item", "tolist", "cpu", "numpy", "nonzero", "new_tensor")),
    *(f"torch.Tensor.__{name}__" for name in ("float", "int", "bool", "index", "array", "contains")),
    *("torch.tensor", "torch.as_tensor", "torch.nonzero", "torch.masked_select", "torch.equal"),
    *("torch.linalg.inv", "torch.linalg.solve", "torch.linalg.det"),
}
"""What waits on a GPU: values that come to the host, lists of the host's that are sent, and LAPACK."""


class Reads(TorchFunctionMode):
    """Names of the calls that would wait."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = resolve_name(func)
        nothing_to_send = name == "torch.as_tensor" and isinstance(args[0], Tensor)
        if name in READS and not nothing_to_send:
            self.seen.append(name.removeprefix("torch."))
        return func(*args, **(kwargs or {}))
