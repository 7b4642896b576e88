"""The types of an experiment's keys: how pydantic reads each, and what it tells an editor of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from pytest_aefm import slo
from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.experiment import quantities as read
from pytest_aefm.experiment.quantities import Wrong
from pytest_aefm.model import Scalar
from pytest_aefm.queries import NAMES, trouble
from pytest_aefm.slo import SLO

MODULE_DEFAULT = "$MODULE_DEFAULT/"
"""AEFM's name for its own folder of examples; here the folders in which scripts are looked up."""


def refusal(wrong: Wrong) -> PydanticCustomError:
    """Return what pydantic collects and carries: the sentence, the way to the wrong part, the next step."""
    return PydanticCustomError("wrong", "{what}", {"what": wrong.what, "at": wrong.at, "hint": wrong.hint})


@dataclass(frozen=True, eq=False)
class Reads:
    """Annotation: the function that reads a value, and the value's JSON Schema."""

    function: Callable[[Any], Any]
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)

    def read(self, value: Any) -> Any:
        """Read one value; what is Wrong is told in pydantic's way."""
        try:
            return self.function(value)
        except Wrong as wrong:
            raise refusal(wrong) from None


def _values(item: Callable[[Any], Any], schema: Mapping[str, Any], alone: bool = True) -> Reads:
    """Return how a factor's values are read: a list, a range, or one value."""
    span = {
        "type": "object",
        "properties": {key: {"type": "number"} for key in ("min", "max", "step")},
        "required": ["min", "max"],
        "additionalProperties": False,
    }
    forms: list[Mapping[str, Any]] = [{"type": "array", "items": schema, "minItems": 1, "uniqueItems": True}, span]
    return Reads(lambda value: read.expand(value, item, alone), {"anyOf": [*forms, schema] if alone else forms})


def _script(value: Any) -> str:
    return read.text(os.fspath(value) if isinstance(value, os.PathLike) else value).removeprefix(MODULE_DEFAULT)


def _rounds(value: Any) -> tuple[int, ...]:
    """Read how many rounds, or which."""
    if isinstance(value, list | tuple | range | Mapping):
        return read.expand(value, read.count)
    return tuple(range(1, read.expand(value, read.positive_count)[0] + 1))


def _slos(value: Any) -> Any:
    """Read conditions; ``none`` stands for itself."""
    if value == "none":
        return value
    if not isinstance(value, str | list | tuple):
        raise Wrong.expected("a list of conditions such as 'p99 < 250ms', or none", value)
    found = []
    for position, condition in enumerate([value] if isinstance(value, str) else value):
        at = () if isinstance(value, str) else (position,)
        if not isinstance(condition, str):
            raise Wrong.expected("a condition such as 'p99 < 250ms'", condition, at)
        try:
            found.append(slo.parse(condition, own=None))  # which are the user's own is known when all is read
        except ConfigurationError as error:
            what = f"{error.what}; expected {error.expected}" if error.expected else error.what
            raise Wrong(what, at, error.hint) from None
    return tuple(found)


def _metrics(value: Any) -> dict[str, str | None]:
    """Read metrics of the user's own: PromQL by name, nothing where a collector gives it."""
    if not isinstance(value, Mapping):
        raise Wrong.expected("a mapping such as {queue_depth: 'max_over_time(queue_depth[$window])'}", value)
    for name in value:
        if not isinstance(name, str) or not slo.OWN_NAME.fullmatch(name):
            raise Wrong.expected("a name of letters, digits and '_', a letter first", name, (name,))
        if slo.is_known(name):
            raise Wrong(f"{name!r} is a metric that there is already", (name,), "take another name")
    return {name: _promql(query, name, ("window",)) if query is not None else None for name, query in value.items()}


def _queries(value: Any) -> dict[str, str]:
    """Read what replaces the templates of a testbed."""
    if not isinstance(value, Mapping):
        raise Wrong.expected("a mapping such as {cpu: 'used_seconds{namespace=\"$namespace\"}'}", value)
    for name in value:
        if name not in NAMES:
            hint = did_you_mean(str(name)[:60], NAMES)
            raise Wrong(f"unknown query {name!r}; expected one of {', '.join(NAMES)}", (name,), hint)
    return {name: _promql(query, name, ("namespace", "job")) for name, query in value.items()}


def _promql(value: Any, name: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong.expected("PromQL", value, (name,))
    wrong = trouble(value, known)
    if wrong is not None:
        raise Wrong(f"{wrong} in {value!r}", (name,))
    return value.strip()


def _tags(value: Any) -> dict[str, str]:
    """Read which requests a tag means: by path, or by method and path."""
    if not isinstance(value, Mapping):
        raise Wrong.expected("a mapping such as {search: 'GET /hotels*'}", value)
    for name, rule in value.items():
        if not isinstance(name, str) or not _TAG.fullmatch(name) or set(name) & set(",={}"):
            raise Wrong.expected("a name of 1 to 64 printable characters but , = { }", name, (name,))
        if not isinstance(rule, str) or not _TAG_RULE.fullmatch(rule):
            raise Wrong.expected("a path such as '/hotels*', or 'GET /hotels*'", rule, (name,))
    return dict(value)


def _exclude(value: Any) -> Excluded:
    """Read cases to leave out: mappings of factors to one value or several."""
    if not isinstance(value, list | tuple):
        raise Wrong.expected("a list of mappings such as {cpu: 2, rate: [400]}", value)
    entries = []
    for position, entry in enumerate(value):
        if not isinstance(entry, Mapping) or not entry:
            raise Wrong.expected("a mapping such as {cpu: 2, rate: [400]}", entry, (position,))
        found = {}
        for key, values in entry.items():
            try:
                found[read.text(key)] = read.expand(values, read.scalar)
            except Wrong as wrong:
                raise Wrong(wrong.what, (position, key, *wrong.at), wrong.hint) from None
        entries.append(found)
    return tuple(entries)


def _orders(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise Wrong.expected("a list of factors, the innermost first", value)
    for position, name in enumerate(value):
        if not isinstance(name, str):
            raise Wrong.expected("the name of a factor", name, (position,))
    return tuple(value)


def _pod_memory(value: Any) -> str | int:
    read.size_bytes(value)
    return value if isinstance(value, str) else int(value)


_TAG = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?", re.ASCII)
_TAG_RULE = re.compile(r"(?:[A-Z]+ )?[/*][!-~]*", re.ASCII)
_NUMBER = {"type": "number", "exclusiveMinimum": 0}
_SCALAR = {"type": ["string", "number", "boolean"]}
_QUANTITY = {"anyOf": [{"type": "string"}, _NUMBER]}
_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT}
_WHOLE = {"type": "integer", "minimum": 0}
_POSITIVE = {"type": "integer", "minimum": 1}

Text = Annotated[str, Reads(read.text, _TEXT)]
Document = Annotated[str, Reads(read.document, _TEXT)]
Script = Annotated[str, Reads(_script, _TEXT)]
Flag = Annotated[bool, Reads(read.flag, {"type": "boolean"})]
Count = Annotated[int, Reads(read.count, _WHOLE)]
PositiveCount = Annotated[int, Reads(read.positive_count, _POSITIVE)]
Port = Annotated[int, Reads(read.port, {**_POSITIVE, "maximum": 65535})]
Duration = Annotated[float, Reads(read.duration_s, {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}]})]
PositiveDuration = Annotated[float, Reads(read.positive_duration_s, _QUANTITY)]
Share = Annotated[
    float, Reads(read.share, {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]})
]
Cores = Annotated[float, Reads(read.cores, _QUANTITY)]
Bytes = Annotated[int, Reads(read.size_bytes, _QUANTITY)]
PodMemory = Annotated[str | int, Reads(_pod_memory, _QUANTITY)]
Throughput = Annotated[str, Reads(read.throughput, {"type": ["string", "integer"]})]
Rate = Annotated[float, Reads(read.rate, _NUMBER)]
Rates = Annotated[tuple[float, ...], _values(read.rate, _NUMBER)]
Milliseconds = Annotated[float, Reads(read.milliseconds, _NUMBER)]
Levels = Annotated[tuple[int, ...], _values(read.level, _WHOLE)]
Rounds = Annotated[
    tuple[int, ...], Reads(_rounds, {"anyOf": [_POSITIVE, *_values(read.count, _WHOLE).schema["anyOf"]]})
]
RoundNumbers = Annotated[tuple[int, ...], _values(read.count, _WHOLE, alone=False)]
Values = Annotated[tuple[Scalar, ...], _values(read.scalar, _SCALAR)]
Tags = Annotated[dict[str, str], Reads(_tags, {"type": "object", "additionalProperties": _TEXT})]
Precision = Annotated[tuple[float, float], Reads(read.precision, _TEXT)]
Abort = Annotated[tuple[float, float], Reads(read.abort, _TEXT)]
Schedule = Annotated[tuple[tuple[float, float, float], ...], Reads(read.schedule, _TEXT)]
SLOs = Annotated[tuple[SLO, ...] | Literal["none"], Reads(_slos, {"anyOf": [_TEXTS, _TEXT]})]
_QUERIES = {"type": "object", "additionalProperties": _TEXT}
Metrics = Annotated[
    dict[str, str | None],
    Reads(_metrics, {"type": "object", "additionalProperties": {"type": ["string", "null"]}}),
]
Queries = Annotated[dict[str, str], Reads(_queries, {**_QUERIES, "propertyNames": {"enum": list(NAMES)}})]
Excluded = tuple[dict[str, tuple[Scalar, ...]], ...]
Exclude = Annotated[Excluded, Reads(_exclude, {"type": "array", "items": {"type": "object", "minProperties": 1}})]
Orders = Annotated[tuple[str, ...], Reads(_orders, {**_TEXTS, "minItems": 1})]
Distribution = Literal["fixed", "exp", "norm", "zipf"]
Order = Literal["listed", "blocks", "cost", "randomised"]
