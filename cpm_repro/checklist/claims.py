"""Claims: what was published, how closely it must be met, and what it takes to find out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Value = float | str | list[float] | list[str]
"""A published or measured value: a number, a word, or a list of either."""

_COMPARISONS = ("within", "at least", "at most")


@dataclass(frozen=True)
class Claim:
    """One published statement.

    ``check`` names the function that measures it (``do``) and its arguments; without one the claim is proved
    by evidence that another command records. ``needs`` lists what must be there: ``predictions/FILE``,
    ``golden/FILE``, ``gpu``, or in words what nobody can look for automatically. ``depends`` are the files
    and folders of the package whose change makes an older proof stale. ``note`` is what a reader should know.
    """

    id: str
    section: str
    statement: str
    published: Value
    source: str
    tolerance: float = 0.0
    compare: str = "within"
    unit: str = ""
    protocol: str = ""
    people: int = 0
    needs: tuple[str, ...] = ()
    command: str = ""
    check: Mapping[str, Any] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.compare not in _COMPARISONS:
            raise ValueError(f"claim {self.id}: compare must be one of {', '.join(_COMPARISONS)}")
        if not self.check and not (self.needs and self.command):
            raise ValueError(f"claim {self.id}: wanted a check, or what it needs and the command to run")


def load_claims() -> tuple[Claim, ...]:
    """All claims of ``claims.toml``, in its order; ids are unique."""
    text = resources.files("cpm_repro.checklist").joinpath("claims.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    defaults = content["section"]
    claims = []
    for entry in content["claim"]:
        for line in entry.pop("each", [{}]):
            values = {**defaults.get(entry["section"], {}), **_filled(entry, line)}
            for name in ("needs", "depends"):
                values[name] = tuple(values.get(name, ()))
            claims.append(Claim(**values))
    names = [claim.id for claim in claims]
    if len(set(names)) != len(names):
        raise ValueError(
            f"claim ids must be unique, got {sorted(n for n in set(names) if names.count(n) > 1)}"
        )
    return tuple(claims)


def _filled(entry: dict[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the words of ``line`` in its braces, and those of them that are a claim's own fields."""
    if not line:
        return entry

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.format_map(line)
        if isinstance(value, list):
            return [fill(item) for item in value]
        return {key: fill(item) for key, item in value.items()} if isinstance(value, dict) else value

    own = {item.name for item in fields(Claim)} & line.keys()
    filled: dict[str, Any] = {**fill(entry), **{name: line[name] for name in own}}
    return {**filled, "id": filled["id"].lower()}


def judge(claim: Claim, value: Value) -> tuple[bool, str]:
    """Whether ``value`` meets the claim, and how far it is off in words (empty for words that agree)."""
    wanted = claim.published
    if isinstance(wanted, str) or isinstance(value, str):
        return value == wanted, "" if value == wanted else f"wanted {wanted}"
    ours, theirs = _numbers(value), _numbers(wanted)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return value == wanted, "" if value == wanted else f"wanted {wanted}"
    off = [a - b for a, b in zip(ours, theirs, strict=True)]
    if any(step != step for step in off):
        return False, "not a number"
    # Decimal figures are not exact in binary: a difference equal to the tolerance must not fail for that.
    allowed = claim.tolerance + 1e-9 * max(1.0, *(abs(number) for number in theirs))
    worst = max(off, key=abs)
    meets = {
        "within": abs(worst) <= allowed,
        "at least": min(off) >= -allowed,
        "at most": max(off) <= allowed,
    }[claim.compare]
    return meets, f"{worst:+.4g}{' ' + claim.unit if claim.unit else ''}" if worst else ""


def _numbers(value: Any) -> list[float] | None:
    values = value if isinstance(value, list) else [value]
    if not values or any(
        isinstance(item, (str, bool)) or not isinstance(item, (int, float)) for item in values
    ):
        return None
    return [float(item) for item in values]
