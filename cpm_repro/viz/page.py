"""What ``cpm predict`` made of many images as one page to scroll through."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write, read_json
from cpm_repro.skeleton import Skeleton, part_colours

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em; color: #222 }
section { border-top: 1px solid #ddd; padding: 1em 0 }
img, video { max-width: 100%; vertical-align: top } .overlay { max-height: 30em }
table { border-collapse: collapse; margin: .5em 0 } td, th { padding: .1em .8em; text-align: right }
td:first-child, th:first-child { text-align: left } .truncated { color: #999 }
"""

_DOTS = ("&#9679;", "&#9675;")
"""Full and, of a part that may be outside the picture, hollow, as they are drawn."""


def results_page(folder: Path) -> Path:
    """Write ``report.html`` into a folder of ``cpm predict``: overlays, belief maps, a table per person.

    The pictures are linked, not copied: the page belongs in its folder.

    Raises:
        UserError: no key points in the folder, or a file there that is none of ours.
        EnvironmentFailure: the page cannot be written.
    """
    files = [path for path in sorted((folder / "predictions").glob("*.json")) if path.name != "coco.json"]
    if not files:
        raise UserError(f"{folder}: no key points in {folder.name}/predictions")
    sections = "".join(_section(path, folder / "visualizations") for path in files)
    title = html.escape(folder.resolve().name)
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n{sections}</html>\n"
    )
    target = folder / "report.html"
    with atomic_write(target, "w") as file:
        file.write(page)
    return target


def _section(path: Path, pictures: Path) -> str:
    """One image or video."""
    shown = ""
    if (pictures / f"{path.stem}.mp4").exists():
        shown += f'<video class="overlay" controls src="{_link(pictures, path.stem + ".mp4")}"></video>\n'
    if (pictures / f"{path.stem}.png").exists():
        shown += f'<img class="overlay" src="{_link(pictures, path.stem + ".png")}">\n'
    tables = ""
    for number, person in enumerate([] if _is_video(path) else _people(path)):
        tables += _table(person)
        grid = f"{path.stem}_beliefs{f'_{number}' if number else ''}.png"
        if (pictures / grid).exists():
            tables += f'<img src="{_link(pictures, grid)}">\n'
    return f"<section><h2>{html.escape(path.stem)}</h2>\n{shown}{tables}</section>\n"


def _link(pictures: Path, name: str) -> str:
    return f"{quote(pictures.name)}/{quote(os.fsencode(name))}"  # a name need not be UTF-8


def _is_video(path: Path) -> bool:
    """Told from the file's beginning: a long video's key points need not be read."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return '"video"' in file.read(200)


def _people(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    try:
        people: list[dict[str, Any]] = content["people"]
        for person in people:
            _table(person)  # whatever is wrong with it shows here
        return people
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: expected key points as cpm predict writes them: {error}") from error


def _table(person: dict[str, Any]) -> str:
    """The parts, each beside a dot of the colour that it is drawn in."""
    names = tuple(str(point["name"]) for point in person["keypoints"])
    colours = part_colours(Skeleton("", names, flip_pairs=(), limbs=())) if names else ()
    rows = "".join(
        f"<tr{' class=truncated' if point['truncated'] else ''}><td>"
        f'<span style="color:rgb({red},{green},{blue})">{_DOTS[bool(point["truncated"])]}</span> '
        f"{html.escape(str(point['name']))}<td>{point['x']:.1f}<td>{point['y']:.1f}<td>{point['score']:.2f}"
        f"<td>{'truncated?' if point['truncated'] else ''}"
        for point, (blue, green, red) in zip(person["keypoints"], colours, strict=True)
    )
    assumed = f"<p>assumed: {html.escape(str(person['assumed']))}</p>" if person["assumed"] else ""
    return f"{assumed}<table><tr><th>part<th>x<th>y<th>score<th>{rows}</table>\n"
