"""Imports run one way, as the house's plan says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cpm_repro"

BASE = {
    "errors", "files", "image_file", "matlab_file", "npz_file", "paths", "environment", "device", "skeleton",
    "config", "markdown", "memory", "packages", "shared_setting", "weight_paths",
}  # fmt: skip
LEVELS = [BASE, {"model", "caffe", "ops"}, {"data", "inference", "evaluation"}]
TOP = {"training", "checklist", "studies", "viz", "bench"}
ENTRANCES = {"cli", "demo", "doctor", "__main__"}

ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "markdown": set(),
    "memory": {"errors"},
    "paths": {"errors"},
    "image_file": {"errors", "memory", "paths"},
    "matlab_file": {"errors", "paths"},
    "npz_file": {"errors", "paths"},
    "packages": {"errors"},
    "shared_setting": set(),
    "environment": set(),
    "device": {"errors"},
    "skeleton": {"errors"},
    "config": {"errors", "files"},
    "weight_paths": {"errors", "paths"},
    "model": BASE | {"model", "ops"},
    "caffe": BASE | {"model", "ops"},
    "ops": BASE,
    "evaluation": BASE,
    "viz": BASE | {"evaluation"},
}
"""Rooms with a rule of their own: the model never imports data, the scores know no network."""


def imports(path: Path, *, top_level_only: bool) -> set[str]:
    """Rooms of ours that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cpm_repro":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("cpm_repro.")}
    return found


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def allowed(room: str) -> set[str]:
    if room in ALLOWED:
        return ALLOWED[room] | {room}
    if room in TOP:
        return set().union(*LEVELS) | TOP
    if room in ENTRANCES:
        return set().union(*LEVELS) | TOP | ENTRANCES
    return set().union(*LEVELS)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    room = room_of(path)
    if room == "__init__":
        return
    # A picture is drawn where a result is asked to draw itself; that import stays inside the function.
    wanted = imports(path, top_level_only=room == "inference")
    assert wanted <= allowed(room), f"{path.name} imports {sorted(wanted - allowed(room))}"


def test_nothing_imports_the_command_line():
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) not in ("cli", "__main__"):
            assert "cli" not in imports(path, top_level_only=False), path


def test_csrc_includes_run_one_way():
    """math <- cpu, cuda <- ops; torch headers only in ops."""
    for path in (ROOT / "csrc").rglob("*.[hc]*"):
        folder = path.parent.name
        text = path.read_text(encoding="utf-8")
        if folder in ("math", "cpu", "cuda"):
            assert "torch/" not in text, path
        if folder == "math":
            assert '"cpu/' not in text, path
            assert '"cuda/' not in text, path
        if folder in ("cpu", "cuda"):
            assert '"ops/' not in text, path
