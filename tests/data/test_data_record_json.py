"""The release's record file in JSON."""

import numpy as np
import pytest
from record_fakes import assert_same, make_record

from cpm_repro.data.record_json import (
    format_record,
    read_records,
    write_records,
)
from cpm_repro.errors import UserError


def test_json_round_trip(tmp_path):
    records = [make_record(index, index % 4) for index in range(12)]
    assert write_records(tmp_path / "MPI_annotations.json", records) == 12
    assert_same(read_records(tmp_path / "MPI_annotations.json"), records, 1e-9)


def test_json_has_three_decimals_and_does_not_nest_one_other_person():
    text = format_record(make_record(3, others=1))
    assert '"isValidation": 0.000' in text
    assert '"numOtherPeople": 1.000' in text
    assert '"img_paths": "im3.png"' in text
    assert '"joint_others": [[' in text
    assert '"joint_others": [[[' not in text
    assert '"joint_others": [[[' in format_record(make_record(3, others=2))
    assert '"joint_others": []' in format_record(make_record(3))


def test_json_of_a_cut_other_person(tmp_path):
    record = make_record(3, others=1)
    text = format_record(record)
    import json

    item = json.loads(text)
    item["joint_others"] = item["joint_others"][:11]
    (tmp_path / "cut.json").write_text(json.dumps({"root": [item]}))
    back = read_records(tmp_path / "cut.json")[0]
    assert np.allclose(back.joint_others[0, :11], record.joint_others[0, :11])
    assert (back.joint_others[0, 11:] == 0).all()


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"root": [{"dataset": "MPI"}]}', '{"root": [3]}'])
def test_bad_json(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_records(tmp_path / "bad.json")
