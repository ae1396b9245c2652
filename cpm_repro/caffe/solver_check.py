"""What of a solver prototxt the optimiser here can do; said before torch is there and any data is opened."""

from __future__ import annotations

import math
from typing import Any

from cpm_repro.errors import UserError


def check_optimizer(solver: Any) -> None:
    """Refuse a SolverParameter that asks for what our SGD does not do.

    Raises:
        UserError: a solver other than SGD, a regularisation other than L2, an iter_size below 1, or a
            clip_gradients of nan, which no norm would ever be above.
    """
    old_type = (
        solver.DESCRIPTOR.fields_by_name["solver_type"].enum_type.values_by_number[solver.solver_type].name
    )
    if solver.type != "SGD" or old_type != "SGD":
        raise UserError(f"solver: wanted type SGD, got {solver.type if solver.type != 'SGD' else old_type}")
    if solver.regularization_type != "L2":
        raise UserError(f"solver: wanted regularization_type L2, got {solver.regularization_type}")
    if solver.iter_size < 1:
        raise UserError(f"solver: wanted an iter_size of at least 1, got {solver.iter_size}")
    if math.isnan(solver.clip_gradients):
        raise UserError("solver: wanted clip_gradients to be a number, got nan")
