"""Named ``param`` entries: arrays of one name are one array, which belongs to the first layer that has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpm_repro.caffe.layers import CaffeLayer

Steps = Sequence[tuple[Any, CaffeLayer]]
"""(LayerParameter, module) of every layer that computes, in order."""

_PERMISSIVE = 1


def share(steps: Steps) -> None:
    """Let later layers use the first one's array; with share_mode PERMISSIVE only the counts must agree.

    Raises:
        UserError: shapes (or counts) differ, or two entries of one name give different multipliers.
    """
    owners: dict[str, tuple[CaffeLayer, str, Any]] = {}
    for layer, module in steps:
        for spec, name in zip(layer.param, module.blob_names, strict=False):
            if not spec.name:
                continue
            if spec.name not in owners:
                owners[spec.name] = (module, name, spec)
                continue
            owner, blob, first = owners[spec.name]
            wanted, given = getattr(module, name).shape, getattr(owner, blob).shape
            fits = wanted.numel() == given.numel() if spec.share_mode == _PERMISSIVE else wanted == given
            if not fits:
                module.fail(f"shares {spec.name!r} of shape {list(given)}, but wants {list(wanted)}")
            module.borrow(name, owner, blob)
            _check_multipliers(first, spec, module)


def _check_multipliers(first: Any, spec: Any, module: CaffeLayer) -> None:
    """Where both entries give a multiplier they must agree, as in Caffe."""
    for field in ("lr_mult", "decay_mult"):
        given, wanted = getattr(spec, field), getattr(first, field)
        if spec.HasField(field) and first.HasField(field) and given != wanted:
            module.fail(f"shares {spec.name!r} with {field} {wanted:g}, but has {given:g}")


def param_groups(steps: Steps) -> list[dict[str, Any]]:
    """One optimiser group per learned array, in Caffe's order, with ``lr_mult`` and ``decay_mult``.

    Arrays that no gradient reaches (BatchNorm's) are there too, with rate 0: Caffe keeps momentum for them.
    """
    groups: dict[int, dict[str, Any]] = {}
    for layer, module in steps:
        for index, name in enumerate(module.blob_names):
            blob = module.own(name)
            group = groups.setdefault(
                id(blob),
                {
                    "params": [blob],
                    "name": f"{layer.name}.{name}",
                    "lr_mult": 1.0 if blob.requires_grad else 0.0,
                    "decay_mult": 1.0,
                },
            )
            spec = layer.param[index] if index < len(layer.param) else None
            for field in ("lr_mult", "decay_mult"):
                if spec is not None and spec.HasField(field):
                    group[field] = getattr(spec, field)
    return list(groups.values())
