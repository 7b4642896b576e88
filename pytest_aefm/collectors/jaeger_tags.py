"""What the tags of Jaeger's JSON say, those of all spans at once.

Tags are most of the text, and two of their keys are all that is wanted. So they are not decoded: the keys are looked
for in all of it. What stands there as Jaeger writes it is known at sight, and only what does not is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.raw_texts import RawTexts
from pytest_aefm.collectors.spans import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, UNSPECIFIED

__all__ = ["Tag", "error_flags", "pod_of", "span_kinds"]

_KINDS = {"server": SERVER, "client": CLIENT, "producer": PRODUCER, "consumer": CONSUMER, "internal": INTERNAL}
_POD_KEYS = ("k8s.pod.name", "host.name", "hostname")  # the first that is there names the pod
_KIND, _ERROR = b'"span.kind"', b'"error"'
# What Jaeger writes before the key and between the key and its value; others put blanks there.
_PLAIN = ((b'{"key":', b',"type":"string","value":'), (b'{"key": ', b', "type": "string", "value": '))


class Tag(msgspec.Struct, gc=False):
    """A tag as Jaeger has it."""

    key: str
    value: Any = None


_TAGS = msgspec.json.Decoder(list[Tag] | None)


def span_kinds(tags: RawTexts) -> NDArray[np.int8]:
    """Return the kind that each row's first tag ``span.kind`` names.

    Raises:
        msgspec.DecodeError: what is decoded are no tags.
    """
    at = tags.places(_KIND)
    seen = np.full(len(at), -1, np.int8)
    for before, between in _PLAIN:
        left = np.flatnonzero(seen < 0)
        left = left[tags.reads(at[left] - len(before), before)]
        left = left[tags.reads(at[left] + len(_KIND), between)]
        for name, kind in _KINDS.items():
            named = tags.reads(at[left] + len(_KIND + between), f'"{name}"}}'.encode())
            seen[left[named]] = kind
            left = left[~named]
    kinds, rows = np.full(len(tags.ends), UNSPECIFIED, np.int8), tags.row_of(at)
    kinds[rows[::-1]] = seen[::-1]  # of several the last that is written stays: the first
    for row in np.unique(rows[seen < 0]).tolist():
        names = [str(tag.value).lower() for tag in _TAGS.decode(tags[row]) or () if tag.key == "span.kind"]
        kinds[row] = _KINDS.get(names[0], UNSPECIFIED) if names else UNSPECIFIED
    return kinds


def error_flags(tags: RawTexts) -> NDArray[np.bool_]:
    """Mark rows with a tag ``error`` that is true, or says what failed; few have one, and those are decoded.

    Raises:
        msgspec.DecodeError: what is decoded are no tags.
    """
    errors = np.zeros(len(tags.ends), np.bool_)
    for row in np.unique(tags.row_of(tags.places(_ERROR))).tolist():
        values = [tag.value for tag in _TAGS.decode(tags[row]) or () if tag.key == "error"]
        errors[row] = any(value and str(value).lower() not in ("false", "0") for value in values)
    return errors


def pod_of(tags: Iterable[Tag]) -> str:
    """Return the name of the pod that the tags of a process tell, "" where they do not."""
    values = {tag.key: str(tag.value) for tag in tags if tag.value}
    return next((values[key] for key in _POD_KEYS if key in values), "")
