"""Read single values of an experiment: numbers, durations, sizes, lists of factor values.

Each function returns the value in base units or raises Wrong with what was expected. No pydantic, no I/O.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pytest_aefm.errors import did_you_mean
from pytest_aefm.experiment.source import Steps, shorten
from pytest_aefm.model import Scalar

__all__ = [
    "Wrong",
    "abort",
    "cores",
    "count",
    "document",
    "duration_s",
    "expand",
    "flag",
    "level",
    "milliseconds",
    "number",
    "port",
    "positive_count",
    "positive_duration_s",
    "precision",
    "rate",
    "scalar",
    "schedule",
    "share",
    "size_bytes",
    "text",
    "throughput",
]

MAX_RATE = 1e9
MAX_LEVEL = 10_000
MAX_SECONDS = 1e7
MAX_FACTOR_VALUES = 100_000

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*$", re.ASCII)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PHASE = re.compile(r"^\s*(\d+(?:\.\d+)?)x(?:\.\.(\d+(?:\.\d+)?)x)?:([\w.]+)\s*$", re.ASCII)
_PRECISION = re.compile(r"^\s*p(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*%\s*$", re.ASCII)
_ABORT = re.compile(r"^\s*error_rate\s*>\s*(\d+(?:\.\d+)?)\s*%\s*:\s*([\w.]+)\s*$", re.ASCII)
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|k|K|M|G|T|)B?\s*$", re.ASCII)
_BYTES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_CORES = re.compile(r"^\s*(\d+(?:\.\d+)?)m\s*$", re.ASCII)
_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)\s*%$")
_THROUGHPUT = re.compile(r"^\d+(?:\.\d+)?[KMGTkmgt]?$", re.ASCII)


class Wrong(Exception):
    """A value is not what it should be; ``at`` leads from the value to its wrong part."""

    def __init__(self, what: str, at: Steps = (), hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.at, self.hint = what, at, hint

    @classmethod
    def expected(cls, expected: str, got: Any, at: Steps = (), hint: str | None = None) -> Wrong:
        """Return the error that says what was expected instead of ``got``."""
        return cls(f"expected {expected}, got {shorten(got)}", at, hint)


def number(value: Any, expected: str = "a number") -> int | float:
    """Return a finite number, an integral one as int (``200.0`` and ``200`` are one value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong.expected(expected, value)
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, int) or not math.isfinite(value):
        raise Wrong.expected(expected, value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(value)


def rate(value: Any) -> int | float:
    """Return a rate in requests per second."""
    found = number(value, "a positive number")
    if not 0 < found <= MAX_RATE:
        raise Wrong.expected("a positive number" if found <= 0 else f"at most {MAX_RATE:g} req/s", value)
    return found


def _whole(value: Any, expected: str, least: int, most: float = math.inf) -> int:
    found = number(value, expected)
    if not isinstance(found, int) or not least <= found <= most:
        raise Wrong.expected(expected, value)
    return found


def level(value: Any) -> int:
    """Return a level of interference: how many stressors per node, 0 for none."""
    return _whole(value, f"a whole number from 0 to {MAX_LEVEL}", 0, MAX_LEVEL)


def milliseconds(value: Any) -> float:
    """Return a positive number of milliseconds."""
    found = number(value, "a positive number of milliseconds")
    if not 0 < found <= 1e3 * MAX_SECONDS:
        raise Wrong.expected("a positive number of milliseconds", value)
    return float(found)


def count(value: Any) -> int:
    """Return a whole number of at least 0."""
    return _whole(value, "a whole number of at least 0", 0, 2**63)


def positive_count(value: Any) -> int:
    """Return a whole number of at least 1."""
    return _whole(value, "a whole number of at least 1", 1, 2**31)


def share(value: Any) -> float:
    """Return a share of 1: a number from 0 to 1, or percent such as ``90%``."""
    expected = "a share from 0 to 1, or such as 90%"
    found = _PERCENT.match(value) if isinstance(value, str) else None
    size = float(Decimal(found[1]) / 100) if found else float(number(value, expected))
    if not 0 <= size <= 1:
        raise Wrong.expected(expected, value)
    return size


def port(value: Any) -> int:
    """Return a TCP port."""
    return _whole(value, "a port from 1 to 65535", 1, 65535)


def duration_s(value: Any, zero: bool = True) -> float:
    """Return seconds: a number of them, or a number with ms, s, m or h."""
    expected = f"a {'duration' if zero else 'positive duration'} such as 40, 500ms, 5s or 1m"
    found = _DURATION.match(value) if isinstance(value, str) else None
    seconds = float(found[1]) * _SECONDS[found[2]] if found else number(value, expected)
    if seconds < 0 or (seconds == 0 and not zero) or seconds > MAX_SECONDS:
        raise Wrong.expected(expected if seconds <= 0 else f"at most {MAX_SECONDS:g} s", value)
    return float(seconds)


def positive_duration_s(value: Any) -> float:
    """Return seconds, more than none."""
    return duration_s(value, zero=False)


def schedule(value: Any) -> tuple[tuple[float, float, float], ...]:
    """Return the phases of a schedule as ``(from, to, seconds)``, both in multiples of the rate."""
    expected = "steps and ramps in multiples of the rate, such as '0.5x:10s, 1x..2x:60s'"
    phases = []
    for part in value.split(",") if isinstance(value, str) else ():
        found = _PHASE.match(part)
        if found is None:
            raise Wrong.expected(expected, value)
        phases.append((float(found[1]), float(found[2] or found[1]), duration_s(found[3], zero=False)))
    if not phases or not all(0 < times <= 1000 for phase in phases for times in phase[:2]):
        raise Wrong.expected(expected, value)
    return tuple(phases)


def precision(value: Any) -> tuple[float, float]:
    """Return a percentile, and how wide its interval may be, as a share of its value: ``p99:5%``."""
    found = _PRECISION.match(value) if isinstance(value, str) else None
    percent, share = (float(found[1]), float(found[2]) / 100) if found else (0.0, 0.0)
    if not (0 < percent < 100 and 0 < share < 1):
        raise Wrong.expected("a percentile and the width of its interval, such as p99:5%", value)
    return percent, share


def abort(value: Any) -> tuple[float, float]:
    """Return the share of failures that makes a run hopeless, and for how many seconds: ``error_rate>50%:5s``."""
    expected = "a condition and for how long it must hold, such as 'error_rate>50%:5s'"
    found = _ABORT.match(value) if isinstance(value, str) else None
    if found is None or float(found[1]) >= 100:
        raise Wrong.expected(expected, value)
    return float(found[1]) / 100, duration_s(found[2], zero=False)


def size_bytes(value: Any) -> int:
    """Return bytes: a number of them, or a quantity such as ``200Mi``."""
    expected = "a positive size such as 200Mi, 4Gi or a number of bytes"
    found = _SIZE.match(value) if isinstance(value, str) else None
    size = Decimal(found[1]) * _BYTES[found[2]] if found else number(value, expected)
    if not 1 <= size <= 2**60:
        raise Wrong.expected(expected, value)
    return int(size)


def cores(value: Any) -> float:
    """Return cores: a number of them, or thousandths such as ``100m``."""
    expected = "a positive number of cores such as 1, 0.5 or 500m"
    found = _CORES.match(value) if isinstance(value, str) else None
    size = float(Decimal(found[1]) / 1000) if found else float(number(value, expected))
    if not 0 < size <= 100_000:
        raise Wrong.expected(expected, value)
    return size


def throughput(value: Any) -> str:
    """Return what ``iperf3 -b`` takes: bits per second, with K, M or G."""
    shown = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(shown, str) or not _THROUGHPUT.match(shown) or not float(shown.rstrip("KMGTkmgt")):
        raise Wrong.expected("bits per second such as 100M or 1G", value)
    return shown


def text(value: Any) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Wrong.expected("a text", value)
    return value.strip()


def document(value: Any) -> str:
    """Return a text of several lines."""
    if not isinstance(value, str) or not value.strip():
        raise Wrong.expected("a text", value)
    return value


def flag(value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise Wrong.expected("true or false", value)
    return value


def scalar(value: Any) -> Scalar:
    """Return a value of the user's own factor."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if not value.isprintable():
            raise Wrong.expected("a text that can be printed", value)
        return str(value)
    return number(value, "a text, a number, true or false")


def expand(value: Any, item: Callable[[Any], Any], alone: bool = True) -> tuple[Any, ...]:
    """Return the values of a factor: a list, a range ``{min, max, step}`` with both ends, or one value.

    A step is 1 unless given. Where ``alone`` is False one value does not stand for itself.
    """
    if isinstance(value, Mapping):
        found: Sequence[Any] = _range(value, item)
    elif isinstance(value, list | tuple | range):
        if len(value[: MAX_FACTOR_VALUES + 1]) > MAX_FACTOR_VALUES:
            raise Wrong(f"expected at most {MAX_FACTOR_VALUES} values")
        found = [_at(item, element, position) for position, element in enumerate(value)]
    elif alone:
        return (item(value),)
    else:
        raise Wrong.expected("a list or {min, max, step}", value)
    if not found:
        raise Wrong("expected at least one value, got none")
    return _distinct(found)


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    seen = set()
    for position, value in enumerate(values):
        if (type(value) is bool, value) in seen:
            raise Wrong(f"{value!r} is listed twice", (position,))
        seen.add((type(value) is bool, value))
    return tuple(values)


def _at(item: Callable[[Any], Any], value: Any, step: str | int) -> Any:
    try:
        return item(value)
    except Wrong as wrong:
        raise Wrong(wrong.what, (step, *wrong.at), wrong.hint) from None


def _range(value: Mapping[Any, Any], item: Callable[[Any], Any]) -> list[Any]:
    """Expand an inclusive range in decimal arithmetic, so that 0.1 to 0.3 by 0.1 has three values."""
    for key in value:
        if key not in ("min", "max", "step"):
            hint = did_you_mean(str(key), ("min", "max", "step"))
            raise Wrong("unknown key; expected min, max and step", (key,), hint)
    if missing := [key for key in ("min", "max") if key not in value]:
        raise Wrong(f"{missing[0]!r} is missing; expected {{min, max, step}}")
    low, high, step = (Decimal(str(_at(number, value.get(key, 1), key))) for key in ("min", "max", "step"))
    if step <= 0:
        raise Wrong.expected("a positive number", value["step"], ("step",))
    if high < low:
        raise Wrong(f"expected at least min, which is {shorten(value['min'])}, got {shorten(value['max'])}", ("max",))
    if (high - low) / step >= MAX_FACTOR_VALUES:
        raise Wrong(f"expected at most {MAX_FACTOR_VALUES} values, got about {float((high - low) / step):.3g}")
    found = [low + step * position for position in range(int((high - low) / step) + 1)]
    whole = [int(one) if one == one.to_integral_value() else float(one) for one in found]
    return [
        _at(item, one, "min" if not position else "max" if isinstance(one, int) else "step")
        for position, one in enumerate(whole)
    ]
