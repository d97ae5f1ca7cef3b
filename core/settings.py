"""Settings: every number the documents leave to configuration, each key with its source.

A leaf in ``core/defaults/*.yaml`` is ``{value, source: documented|assumed, ref, unit?}``; keys are dotted paths.
A run lays an overlay of dotted keys over the defaults. Reading an unknown key, or overlaying one, is an error
that names the nearest keys. A key reads once into an attribute where it is hot; `Settings` is not for hot paths.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from core.errors import Misconfigured

SOURCES = ("documented", "assumed")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: its value, where it comes from and why."""

    value: Any
    source: str
    ref: str
    unit: str = ""


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Leaf]:
    """All default leaves by dotted key, read once from the package's own files."""
    leaves: dict[str, Leaf] = {}
    folder = resources.files("core") / "defaults"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            tree = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            for key, leaf in _flatten(tree or {}, "", file.name):
                if key in leaves:
                    raise Misconfigured(f"{key} is set twice", where=file.name, remedy="keep one of the two")
                leaves[key] = leaf
    return leaves


def _flatten(tree: Mapping[str, Any], prefix: str, where: str) -> Iterator[tuple[str, Leaf]]:
    for name, branch in tree.items():
        key = f"{prefix}{name}"
        if not isinstance(branch, Mapping):
            raise Misconfigured(f"{key} has no source", where=where,
                                remedy="write {value: …, source: documented|assumed, ref: …}")
        if "value" in branch and "source" in branch:
            yield key, _leaf(key, branch, where)
        else:
            yield from _flatten(branch, key + ".", where)


def _leaf(key: str, branch: Mapping[str, Any], where: str) -> Leaf:
    unknown = sorted(set(branch) - {"value", "source", "ref", "unit", "note"})
    if unknown or branch["source"] not in SOURCES:
        raise Misconfigured(f"{key}: a leaf has value, source ({' or '.join(SOURCES)}), ref, unit and note",
                            where=where, remedy=f"see {unknown or branch['source']!r}")
    return Leaf(branch["value"], branch["source"], str(branch.get("ref", "")), str(branch.get("unit", "")))


class Settings(Mapping[str, Any]):
    """Defaults with an overlay. ``settings["airstar.poll.deposit.max"]`` -> the value."""

    def __init__(self, overlay: Mapping[str, Any] | None = None) -> None:
        self._leaves = _defaults()
        self.overlay: dict[str, Any] = {}
        for key, value in (overlay or {}).items():
            self.overlay[key] = _fitting(key, value, self.leaf(key).value)

    def leaf(self, key: str) -> Leaf:
        """The default of a key with its source; an unknown key is an error with the nearest names."""
        try:
            return self._leaves[key]
        except KeyError:
            near = difflib.get_close_matches(key, self._leaves, n=3, cutoff=0.5)
            raise Misconfigured(f"no setting {key!r}", where="settings",
                                remedy=f"did you mean {' or '.join(near)}?" if near else "see `nostro config show`"
                                ) from None

    def __getitem__(self, key: str) -> Any:
        if key in self.overlay:
            return self.overlay[key]
        return self.leaf(key).value

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def effective(self) -> dict[str, dict[str, Any]]:
        """Every key with its effective value, source and reference, for ``config.yaml``."""
        return {key: {"value": self[key], "source": "overlay" if key in self.overlay else leaf.source, "ref": leaf.ref}
                for key, leaf in sorted(self._leaves.items())}


def _fitting(key: str, value: Any, default: Any) -> Any:
    """The overlay value if its type fits the default's (an int serves as float); else an error."""
    if default is None or value is None or type(value) is type(default):
        return _in_range(key, value, default)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return _in_range(key, float(value), default)
    raise Misconfigured(f"{key}: {value!r} is a {type(value).__name__}, the default {default!r} "
                        f"is a {type(default).__name__}", where="settings", remedy="give a value of that type")


def _in_range(key: str, value: Any, default: Any) -> Any:
    """Periods, limits and shares are not negative, and a whole number that counts something is at least 1."""
    least = 1 if type(default) is int and default >= 1 else 0
    if type(value) in (int, float) and default >= 0 and not value >= least:
        raise Misconfigured(f"{key}: {value!r} is too small", where="settings",
                            remedy=f"give {least} or more; the default is {default!r}")
    return value
