"""Distributions of waits: their parameters in a topology file, their means."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from pytest_aefm.mesh.fields import NotNegative, Number, Positive, Strict, refused

__all__ = ["Lognormal", "Pareto", "Wait"]


class Lognormal(Strict):
    """A log-normal distribution."""

    median: Positive
    """Half of the waits are shorter (ms)."""
    sigma: NotNegative
    """Standard deviation of the logarithm."""


class Pareto(Strict):
    """A Pareto distribution: a heavy tail."""

    minimum: Positive
    """The shortest wait (ms)."""
    shape: Annotated[Number, Field(gt=1)]
    """Tail index: the smaller, the heavier the tail; without a mean up to 1."""


class Wait(Strict):
    """Time spent without CPU, by exactly one distribution; milliseconds."""

    one_of: ClassVar[tuple[str, ...]] = (
        "constant_ms", "uniform_ms", "exponential_ms", "lognormal_ms", "pareto_ms", "empirical_ms",
    )  # fmt: skip

    constant_ms: NotNegative | None = None
    """Always this."""
    uniform_ms: tuple[NotNegative, NotNegative] | None = None
    """Anything between [shortest, longest]."""
    exponential_ms: Positive | None = None
    """Exponentially distributed with this mean."""
    lognormal_ms: Lognormal | None = None
    """Log-normally distributed: many short waits, some long ones."""
    pareto_ms: Pareto | None = None
    """Pareto distributed: now and then a very long wait."""
    empirical_ms: Annotated[tuple[NotNegative, ...], Field(min_length=2)] | None = None
    """As measured: quantiles, evenly spaced from the shortest to the longest wait; linear in between."""

    @field_validator("uniform_ms", "empirical_ms")
    @classmethod
    def _ordered(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and list(value) != sorted(value):
            what = "[shortest, longest]" if len(value) == 2 else "ascending quantiles"
            raise refused(f"expected {what}, got {list(value)}")
        return value

    @property
    def mean_ms(self) -> float:
        """The mean wait."""
        if self.uniform_ms is not None:
            return sum(self.uniform_ms) / 2
        if self.lognormal_ms is not None:
            return self.lognormal_ms.median * math.exp(self.lognormal_ms.sigma**2 / 2)
        if self.pareto_ms is not None:
            return self.pareto_ms.minimum * self.pareto_ms.shape / (self.pareto_ms.shape - 1)
        if self.empirical_ms is not None:
            return sum(low + high for low, high in pairwise(self.empirical_ms)) / 2 / (len(self.empirical_ms) - 1)
        return self.constant_ms or self.exponential_ms or 0.0
