"""Where networks run: the device a user names, or the best one that is there."""

from __future__ import annotations

import torch

from cpm_repro.errors import UserError


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name (``cpu``, ``cuda``, ``cuda:1``); None takes a GPU when there is one.

    Raises:
        UserError: no such device, or none that holds numbers here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name}: cannot be used here: {reason}") from error
    if device.type == "meta":
        raise UserError(f"device {name}: wanted cpu or a GPU such as cuda:0, got one that holds no numbers")
    return device
