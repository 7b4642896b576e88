"""Batches of spans as Jaeger's agent takes them by UDP: Thrift's compact protocol, ``Agent.emitBatch``, one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AgentSpan", "batch"]

_STRING, _LIST, _STRUCT, _I32, _I64, _STOP = 8, 9, 12, 5, 6, b"\0"


@dataclass(frozen=True)
class AgentSpan:
    """A span; ids are integers, times microseconds."""

    trace: int
    span: int
    parent: int
    operation: str
    start_us: int
    duration_us: int


def batch(service: str, spans: Sequence[AgentSpan]) -> bytes:
    """Return one datagram with the spans of a service."""
    process = _field(1, _STRING) + _text(service) + _STOP
    size = len(spans)
    head = bytes((size << 4 | _STRUCT,)) if size < 15 else bytes((0xF0 | _STRUCT,)) + _varint(size)
    listed = head + b"".join(map(_span, spans))
    made = _field(1, _STRUCT) + process + _field(1, _LIST) + listed + _STOP
    return b"\x82\x81\0" + _text("emitBatch") + _field(1, _STRUCT) + made + _STOP


def _span(span: AgentSpan) -> bytes:
    numbers = (span.trace & (2**64 - 1), span.trace >> 64, span.span, span.parent)
    return (
        b"".join(_field(1, _I64) + _zigzag(number) for number in numbers)
        + _field(1, _STRING)
        + _text(span.operation)
        + _field(2, _I32)  # references, the sixth, are left out
        + _zigzag(1)
        + _field(1, _I64)
        + _zigzag(span.start_us)
        + _field(1, _I64)
        + _zigzag(span.duration_us)
        + _STOP
    )


def _field(after: int, kind: int) -> bytes:
    """Return the head of the field whose number is so much higher than the one before it."""
    return bytes((after << 4 | kind,))


def _text(text: str) -> bytes:
    return _varint(len(text.encode())) + text.encode()


def _zigzag(number: int) -> bytes:
    signed = number - 2**64 if number >= 2**63 else number
    return _varint((signed << 1 ^ signed >> 63) & (2**64 - 1))


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes((*made, number))
