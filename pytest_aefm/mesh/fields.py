"""What the values of a topology file are made of: mappings whose keys are known, numbers, sizes, paths."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from pytest_aefm.errors import did_you_mean

__all__ = [
    "Count",
    "Method",
    "NotNegative",
    "Number",
    "Positive",
    "PositiveSize",
    "Probability",
    "Size",
    "Strict",
    "path_parameters",
    "refused",
    "size_bytes",
]

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Probability = Annotated[Number, Field(gt=0, le=1)]
Count = Annotated[StrictInt, Field(ge=1)]

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(|[kKMG]i?)B?")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_LARGEST_BYTES = 2**40


def refused(what: str) -> PydanticCustomError:
    """Return the error of a value that is not what the file needs there."""
    return PydanticCustomError("refused", "{what}", {"what": what})


def size_bytes(value: object) -> int | None:
    """Return a size such as ``256Mi``, ``1G`` or 4096 in bytes; None if it is none, or over 1 TiB."""
    match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if match is None:
        return None
    number, unit = match.groups()
    factor = 1024 ** " KMG".index(unit[0].upper()) if unit.endswith("i") else _UNITS[unit]
    size = round(float(number) * factor)
    return size if size <= _LARGEST_BYTES else None


def _size(value: object) -> int:
    size = size_bytes(value)
    if size is None:
        raise refused(f"expected a size such as '256Mi', '1G' or bytes, got {value!r}")
    return size


def _positive_size(value: object) -> int:
    if not (size := _size(value)):
        raise refused(f"expected a size above 0, got {value!r}")
    return size


_SPELLED = WithJsonSchema({"type": "size"})
Size = Annotated[int, BeforeValidator(_size), _SPELLED]
PositiveSize = Annotated[int, BeforeValidator(_positive_size), _SPELLED]


def path_parameters(path: str) -> tuple[str, ...]:
    """Return the names of the segments that stand for any: ``id`` of ``/hotels/{id}``."""
    return tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))


class Strict(BaseModel):
    """A part of the file: frozen, and a key that it does not know is refused with the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    one_of: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise refused(f"expected {'one of ' if cls.one_of else ''}{cls._known()}, got {data!r}")
        for key in data:
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields) or f"known here: {cls._known()}"
                raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "hint": hint})
        given = [name for name in cls.one_of if data.get(name) is not None]
        if cls.one_of and len(given) != 1:
            raise refused(f"expected one of {cls._known(cls.one_of)}, got {', '.join(given) or 'none of them'}")
        return data

    @classmethod
    def _known(cls, names: tuple[str, ...] = ()) -> str:
        return ", ".join(names or cls.model_fields)
