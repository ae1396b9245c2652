"""What stands in the files that other programs read, number by number."""

import json

import numpy as np
import pytest

from cpm_repro.inference.formats import coco_json
from cpm_repro.inference.result import People, Person
from cpm_repro.skeleton import SKELETONS, Skeleton

ARM = Skeleton("arm", ("shoulder", "elbow", "hand"), flip_pairs=(), limbs=((0, 1), (1, 2)))


def arm(*scores):
    points = np.array([[1.0, 2.0], [3.004, 4.0], [-5.0, 6.0]])
    return Person(points, np.array(scores, np.float32), ARM.parts, (10.0, 20.0), 8.0)


def test_a_part_at_the_release_s_bound_is_most_likely_outside():
    assert arm(0.15, 0.1501, 0.0).truncated.tolist() == [True, False, True]


def test_every_number_of_a_coco_file(tmp_path):
    picture = np.zeros((30, 40, 3), np.uint8)
    with coco_json(tmp_path / "coco.json") as take:
        take(People([], picture, ARM, "nobody.png"))
        take(People([arm(0.9, 0.1, 0.5), arm(0.2, 0.3, 0.4)], picture, ARM, "clip.mp4", frame=7, time=0.28))
    content = json.loads((tmp_path / "coco.json").read_text())
    (category,) = content["categories"]
    assert (category["id"], category["keypoints"]) == (1, list(ARM.parts))
    assert (category["name"], category["supercategory"]) == ("arm", "arm")  # it was a person's
    assert category["skeleton"] == [[1, 2], [2, 3]]  # COCO counts parts from 1
    size = {"width": 40, "height": 30}
    assert content["images"] == [
        {"id": 1, "file_name": "nobody.png", **size},
        {"id": 2, "file_name": "clip.mp4", "frame": 7, **size},
    ]
    first, second = content["annotations"]
    assert first == {
        "id": 1,
        "image_id": 2,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [1.0, 2.0, 2, 3.0, 4.0, 1, -5.0, 6.0, 2],  # 2 seen, 1 labelled and not seen
        "num_keypoints": 3,
        "bbox": [6.0, 16.0, 8.0, 8.0],  # x, y, width, height
        "area": 64.0,
        "score": 0.5,
        "keypoint_scores": [0.9, 0.1, 0.5],
    }
    assert (second["id"], second["image_id"], second["keypoints"][2::3]) == (2, 2, [2, 2, 2])


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_the_bodies_of_the_networks_are_people(skeleton, tmp_path):
    with coco_json(tmp_path / "coco.json") as take:
        take(People([], np.zeros((30, 40, 3), np.uint8), skeleton, "nobody.png"))
    (category,) = json.loads((tmp_path / "coco.json").read_text())["categories"]
    assert (category["name"], category["supercategory"]) == ("person", "person")
