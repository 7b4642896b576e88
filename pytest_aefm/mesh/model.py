"""The pydantic models of a topology file: each value by itself; what they say of each other is in topology.py."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pytest_aefm.errors import did_you_mean

__all__ = ["Call", "Endpoint", "Lognormal", "Method", "Service", "SmokeRequest", "Step", "Strict", "Wait"]

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]

_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(|[kKMG]i?)B?")
_MEMORY_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


def _refused(what: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{what}", {"what": what})


class Strict(BaseModel):
    """A part of the file: frozen, and a key that it does not know is refused with the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    one_of: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise _refused(f"expected {'one of ' if cls.one_of else ''}{cls._known()}, got {data!r}")
        for key in data:
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields) or f"known here: {cls._known()}"
                raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "hint": hint})
        given = [name for name in cls.one_of if data.get(name) is not None]
        if cls.one_of and len(given) != 1:
            raise _refused(f"expected one of {cls._known(cls.one_of)}, got {', '.join(given) or 'none of them'}")
        return data

    @classmethod
    def _known(cls, names: tuple[str, ...] = ()) -> str:
        return ", ".join(names or cls.model_fields)


class Lognormal(Strict):
    """A log-normal distribution: its median (ms), the standard deviation of the logarithm."""

    median: Positive
    sigma: NotNegative


class Wait(Strict):
    """Time spent without CPU, by exactly one distribution; milliseconds."""

    one_of: ClassVar[tuple[str, ...]] = ("constant_ms", "uniform_ms", "exponential_ms", "lognormal_ms")

    constant_ms: NotNegative | None = None
    uniform_ms: tuple[NotNegative, NotNegative] | None = None
    exponential_ms: Positive | None = None
    lognormal_ms: Lognormal | None = None

    @field_validator("uniform_ms")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise _refused(f"expected [shortest, longest], got {list(value)}")
        return value


class Call(Strict):
    """A call of an endpoint of a service; a required parameter comes from the request being served."""

    service: str
    endpoint: str
    method: Method = "GET"


def _as_group(item: Any) -> Any:
    """Read ``{service: ..., endpoint: ...}`` and a step that stands alone as a group of one step."""
    if isinstance(item, dict):
        return [{"call": item} if "service" in item else item]
    return item


class Step(Strict):
    """One thing that an endpoint does: CPU work, a wait, a call, or groups of steps side by side."""

    one_of: ClassVar[tuple[str, ...]] = ("cpu_us", "wait", "call", "parallel")

    cpu_us: NotNegative | None = None
    wait: Wait | None = None
    call: Call | None = None
    parallel: (
        Annotated[
            tuple[Annotated[tuple[Step, ...], BeforeValidator(_as_group), Field(min_length=1)], ...],
            Field(min_length=1),
        ]
        | None
    ) = None
    probability: Annotated[Number, Field(gt=0, le=1)] = 1.0


class Endpoint(Strict):
    """A method and a path of a service: what it requires, what it does, how much it answers."""

    method: Method = "GET"
    path: str
    parameters: tuple[str, ...] = ()
    response_bytes: Annotated[StrictInt, Field(ge=0, le=16 * 2**20)] = 100
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """The endpoint as spans and metrics name it: ``GET /hotels``."""
        return f"{self.method} {self.path}"

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        if not re.fullmatch(r"/[!-~]*", path) or set(path) & set("?#{}"):
            raise _refused(f"expected a path such as '/hotels', without query, got {path!r}")
        if path == "/metrics" or path.startswith("/-/"):
            raise _refused(f"{path!r} is kept for the mesh itself (/metrics, /-/...)")
        return path


class Service(Strict):
    """A service: the CPU (cores) and memory it may use, its endpoints."""

    cpu_limit: Positive = 1.0
    memory_limit: str | None = None
    replicas: Annotated[StrictInt, Field(ge=1)] = 1
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)]

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit in bytes, None where the file names none."""
        return None if self.memory_limit is None else _bytes(self.memory_limit)

    @field_validator("memory_limit")
    @classmethod
    def _quantity(cls, value: str | None) -> str | None:
        if value is not None and not _bytes(value):
            raise _refused(f"expected a size such as '256Mi' or '1G', got {value!r}")
        return value

    def find(self, method: str, path: str) -> Endpoint | None:
        """Return the endpoint of this method and path."""
        return next((e for e in self.endpoints if (e.method, e.path) == (method, path)), None)


class SmokeRequest(Strict):
    """A functional request of the entry service: it must answer ``expect``."""

    method: Method = "GET"
    path: str
    expect: Annotated[StrictInt, Field(ge=100, le=599)] = 200


def _bytes(text: str) -> int | None:
    match = _MEMORY.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    factor = 1024 ** " KMG".index(unit[0].upper()) if unit.endswith("i") else _MEMORY_UNITS[unit]
    return round(float(number) * factor)
