"""People as the release's records have them, drawn at random."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cpm_repro.data.record import PersonRecord


def make_record(index: int, others: int = 0, width: int = 80, height: int = 90) -> PersonRecord:
    rng = np.random.default_rng(index)
    joints = np.round(rng.uniform(1, 80, (1 + others, 16, 3)), 3)
    joints[..., 2] = rng.integers(0, 2, joints.shape[:2])
    return PersonRecord(
        dataset="MPI",
        img_path=f"im{index % 7}.png",
        img_width=width,
        img_height=height,
        objpos=np.round(rng.uniform(1, 80, 2), 3),
        joint_self=joints[0],
        scale=round(float(rng.uniform(0.3, 3)), 3),
        joint_others=joints[1:],
        scale_other=np.round(rng.uniform(0.3, 3, others), 3),
        objpos_other=np.round(rng.uniform(1, 80, (others, 2)), 3),
        is_validation=index % 5 == 0,
        annolist_index=index + 1,
        people_index=1 + index // 7 % 255,
    )


def assert_same(a: list[PersonRecord], b: list[PersonRecord], tolerance: float) -> None:
    for one, other in zip(a, b, strict=True):
        for field in dataclasses.fields(PersonRecord):
            value, wanted = getattr(one, field.name), getattr(other, field.name)
            if isinstance(wanted, np.ndarray):
                np.testing.assert_allclose(value, wanted, atol=tolerance, rtol=0, err_msg=field.name)
            else:
                assert value == (pytest.approx(wanted, abs=tolerance) if field.name == "scale" else wanted)


def files_of(records: list[PersonRecord], images: Path) -> list[Path]:
    """The records' photographs, which lie in ``images``."""
    return [images / record.img_path for record in records]


def raw_values(folder: Path) -> dict[bytes, bytes]:
    """Everything in an LMDB."""
    import lmdb  # some tests do without

    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(k): bytes(v) for k, v in transaction.cursor()}
