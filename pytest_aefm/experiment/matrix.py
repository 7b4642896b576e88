"""The matrix of factors: its points in running order, and their ids. Pure functions of plain values.

A shuffle sorts by a keyed hash of what is sorted, so that it is the same in every process and Python version.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pytest_aefm.model import InterferenceSpec, Scalar

__all__ = [
    "KINDS",
    "Factor",
    "Matrix",
    "Point",
    "derived_seed",
    "interference_specs",
    "spell_app",
    "spell_factor",
    "spell_point",
    "stem",
]

KINDS = ("cpu", "mem_capacity", "mem_bandwidth", "network", "fault", "chaos")
"""Kinds of interference, in the order of ids."""

Point = dict[str, Scalar]
"""One point of the matrix: a value for every factor."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One dimension of the matrix."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The factors in the order of ids, and how their points follow one another.

    ``orders`` are names, the innermost first; only ``order`` = listed reads them. ``exclude`` drops the points
    that match all keys of one of its entries.
    """

    factors: tuple[Factor, ...]
    order: str = "blocks"
    orders: tuple[str, ...] = ()
    exclude: tuple[Mapping[str, tuple[Scalar, ...]], ...] = ()

    def points(self, seed: int, name: str) -> list[Point]:
        """Return the points in running order; ``seed`` and the experiment's ``name`` decide the shuffles."""
        names = [factor.name for factor in self.factors]
        return [
            {name: point[name] for name in names} for point in self._ordered(seed, name) if not self._excluded(point)
        ]

    def size(self) -> int:
        """Return how many points there are before any is dropped."""
        size = 1
        for factor in self.factors:
            size *= len(factor.values)
        return size

    def _ordered(self, seed: int, name: str) -> Iterable[Point]:
        values = {factor.name: factor.values for factor in self.factors}
        if self.order == "listed":
            return _product([(factor, values[factor]) for factor in reversed(self.orders)])
        nested = sorted(values.items(), key=lambda item: _depth(item[0]))
        if self.order == "cost":
            return _product(nested)
        shuffle = _shuffled_points if self.order == "randomised" else _blocks
        inner = [item for item in nested if item[0] != "round"]
        rounds: list[Point] = [{"round": value} for value in values["round"]] if "round" in values else [{}]
        return (
            {**number, **point}
            for number in rounds
            for point in shuffle(inner, (seed, name, number.get("round", 1)))
        )  # fmt: skip

    def _excluded(self, point: Point) -> bool:
        return any(all(_among(point[name], values) for name, values in entry.items()) for entry in self.exclude)

    def repeats(self) -> str | None:
        """Return how rounds follow one another: ``adjacent`` where all repeats of every point do so without
        another point between them, else ``interleaved``; None where nothing is repeated."""
        order = self.points(0, "")
        others = [tuple(sorted((key, repr(item)) for key, item in point.items() if key != "round")) for point in order]
        if len(set(others)) == len(others):
            return None
        runs = sum(1 for _ in itertools.groupby(others))
        return "adjacent" if runs == len(set(others)) else "interleaved"


def _depth(name: str) -> int:
    """Return how deep a factor is nested in blocks: rounds outermost, then interference, the user's, rates."""
    return 0 if name == "round" else 1 if name in KINDS else 3 if name == "rate" else 2


def _product(nested: Sequence[tuple[str, Sequence[Scalar]]]) -> Iterator[Point]:
    names = [name for name, _ in nested]
    return (dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in nested)))


def _blocks(nested: Sequence[tuple[str, Sequence[Scalar]]], key: tuple[object, ...]) -> Iterator[Point]:
    """Nest the factors, with the levels of each interference and the rates shuffled."""

    def turned(name: str, values: Sequence[Scalar]) -> Sequence[Scalar]:
        return values if _depth(name) == 2 else sorted(values, key=lambda value: _hash(*key, name, value))

    return _product([(name, turned(name, values)) for name, values in nested])


def _shuffled_points(nested: Sequence[tuple[str, Sequence[Scalar]]], key: tuple[object, ...]) -> Iterator[Point]:
    return iter(sorted(_product(nested), key=lambda point: _hash(*key, *sorted(point.items()))))


def _hash(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()


def derived_seed(*parts: object) -> int:
    """Return a seed of 31 bits that depends on all of ``parts`` and on nothing else."""
    return int.from_bytes(_hash(*parts), "big") & 0x7FFF_FFFF


def _among(value: Scalar, values: Iterable[Scalar]) -> bool:
    """Tell whether a value is one of some; 1 and 1.0 are one value, 1 and true are not."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def spell_value(value: Scalar) -> str:
    """Spell a value for an id: numbers as Python does, in texts ``_`` for what is not legal."""
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", value) if isinstance(value, str) else repr(value)


def spell_point(app: str, point: Point, factors: Iterable[Factor]) -> str:
    """Spell a point's id, such as ``hotel-cpu1-200rps-r2``."""
    return "-".join([spell_app(app), *(spell_factor(factor.name, point[factor.name]) for factor in factors)])


def spell_factor(name: str, value: Scalar) -> str:
    """Spell a factor's value for an id: ``200rps``, ``r2``, ``cpu1``."""
    spelled = spell_value(value)
    return f"{spelled}rps" if name == "rate" else f"r{spelled}" if name == "round" else f"{name}{spelled}"


def spell_app(app: str) -> str:
    """Spell an application for an id: its name, or that of its file."""
    return spell_value(stem(PurePosixPath(app).name))


def stem(file_name: str) -> str:
    """Return a file's name without ``.yaml`` or ``.aefm.yaml``."""
    return re.sub(r"(\.aefm)?\.ya?ml$", "", file_name) or file_name


def interference_specs(
    point: Mapping[str, Scalar], configs: Mapping[str, Mapping[str, Scalar]]
) -> tuple[InterferenceSpec, ...]:
    """Return the disturbances of a point; a kind at level 0 is none. ``configs`` holds the stressors' sizes."""
    return tuple(
        InterferenceSpec(kind, int(point[kind]), **configs.get(kind, {}))  # type: ignore[arg-type] # read by name
        for kind in KINDS
        if point.get(kind)
    )
