"""The layouts in which other programs read poses: COCO, OpenPose, a table; all of them name the parts.

Each writer takes image after image, so that a long video needs no memory; a file appears under its name
when it is complete.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cpm_repro.files import atomic_write, write_json
from cpm_repro.inference.result import People, Person
from cpm_repro.skeleton import CPM14, SKELETONS, Skeleton

Take = Callable[[People], None]


@contextmanager
def frames_json(path: Path, head: dict[str, Any]) -> Iterator[Take]:
    """Our JSON of a video: ``head``, then ``frames``, a list of what images have (see `People.to_dict`).

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    with atomic_write(path, "w") as file:
        opening = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False).rstrip("\n}")
        file.write(f'{opening},\n  "frames": [')
        first = True

        def take(people: People) -> None:
            nonlocal first
            values = {
                "frame": people.frame,
                "time": round(people.time or 0.0, 4),
                "people": [person.to_dict() for person in people],
            }
            file.write("\n    " if first else ",\n    ")
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False))
            first = False

        yield take
        file.write("\n  ]\n}\n")


@contextmanager
def coco_json(path: Path) -> Iterator[Take]:
    """COCO's key-point JSON: images, annotations (with ``score``) and one category that names the parts.

    The category is called person, or as the skeleton of the user's own that the network was trained on.
    Visibility is 2, or 1 where the part is probably out of the image. An image's id is its number in the
    file; ``file_name`` is the path as given, for a frame with its ``frame``. The list ``annotations`` alone
    is what COCO calls results.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    category: dict[str, Any] | None = None
    images = people_written = 0
    with atomic_write(path, "w") as file, tempfile.TemporaryFile("w+", encoding="utf-8") as annotations:

        def take(people: People) -> None:
            nonlocal category, images, people_written
            if category is None:
                category = _coco_category(people.skeleton)
                head = json.dumps({"info": {"coordinates": "pixels, 0-based"}, "categories": [category]})
                file.write(head.rstrip("}") + ', "images": [')
            height, width = people.image.shape[:2]
            image: dict[str, Any] = {
                "id": images + 1,
                "file_name": people.source,
                "width": width,
                "height": height,
            }
            if people.frame is not None:
                image["frame"] = people.frame
            file.write(("\n" if not images else ",\n") + json.dumps(image, ensure_ascii=False))
            images += 1
            for person in people:
                annotations.write("\n" if not people_written else ",\n")
                people_written += 1
                annotations.write(json.dumps(_coco_person(person, people_written, images)))

        yield take
        if category is None:
            file.write('{"images": [')
            file.write('], "categories": []')
        else:
            file.write("\n]")
        file.write(', "annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write("\n]}\n")


def _coco_category(skeleton: Skeleton) -> dict[str, Any]:
    name = "person" if skeleton.name in SKELETONS else skeleton.name
    return {
        "id": 1,
        "name": name,
        "supercategory": name,
        "keypoints": list(skeleton.parts),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }


def _coco_person(person: Person, number: int, image: int) -> dict[str, Any]:
    keypoints: list[float] = []
    for (x, y), truncated in zip(person.keypoints, person.truncated, strict=True):
        keypoints += [round(float(x), 2), round(float(y), 2), 1 if truncated else 2]
    x0, y0, x1, y1 = person.box
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": len(person.names),
        "bbox": [round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)],
        "area": round(float((x1 - x0) * (y1 - y0)), 2),
        "score": round(float(person.scores.mean()), 4),
        "keypoint_scores": [round(float(score), 4) for score in person.scores],
    }


def save_openpose(people: People, path: Path) -> None:
    """One image as OpenPose writes it (``version`` 1.3): ``pose_keypoints_2d`` of x, y, score per part.

    The networks' 14 parts are the first of OpenPose's MPI model, in its order; its 15th, the chest, is
    written as not found (zeros). Other skeletons keep their own parts; ``part_names`` has the order.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    chest = people.skeleton.parts == CPM14.parts
    write_json(
        path,
        {
            "version": 1.3,
            "part_names": [*people.skeleton.parts, *(["chest"] if chest else [])],
            "people": [_openpose_person(person, chest=chest) for person in people],
        },
    )


def _openpose_person(person: Person, *, chest: bool) -> dict[str, Any]:
    points: list[float] = []
    for (x, y), score in zip(person.keypoints, person.scores, strict=True):
        points += [round(float(x), 2), round(float(y), 2), round(float(score), 4)]
    empty: dict[str, Any] = {
        f"{name}_keypoints_{axes}d": []
        for axes in (2, 3)
        for name in ("face", "hand_left", "hand_right", "pose")
    }
    return {"person_id": [-1], **empty, "pose_keypoints_2d": points + [0.0, 0.0, 0.0] * chest}


@contextmanager
def table(path: Path) -> Iterator[Take]:
    """A CSV table, one line per part: image, frame, time, person, part, x, y, score, truncated.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    with atomic_write(path, "w") as file:
        rows = _rows(file)
        rows.writerow(["image", "frame", "time", "person", "part", "x", "y", "score", "truncated"])

        def take(people: People) -> None:
            moment = ["", ""] if people.frame is None else [people.frame, f"{people.time or 0:.4f}"]
            for number, person in enumerate(people):
                for name, (x, y), score, truncated in zip(
                    person.names, person.keypoints, person.scores, person.truncated, strict=True
                ):
                    place = [f"{x:.2f}", f"{y:.2f}", f"{score:.4f}", int(truncated)]
                    rows.writerow([people.source, *moment, number, name, *place])

        yield take


def _rows(file: IO[Any]) -> Any:
    return csv.writer(file, lineterminator="\n")
