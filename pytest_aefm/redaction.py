"""Secrets do not reach what a run writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["redact"]

_SECRET_NAMES = r"password|passwd|token|secret|api[_-]?key|authorization|credential"
_SECRET_VALUE = re.compile(
    rf"(?i)((?:(?<![\w-])--?[\w-]*(?:{_SECRET_NAMES})[\w-]*\s+"  # an option and its value
    rf"|[\w-]*(?:{_SECRET_NAMES})[\w-]*[\"']?\s*[=:]\s*)[\"']?)((?:bearer\s+)?[^\s\"'&,;]+)"
)
_SECRET_KEY = re.compile(rf"(?i)(?:{_SECRET_NAMES})")
_USERINFO = re.compile(r"(\w+://)[^/\s@]+@")


def redact(value: Any) -> Any:
    """Return the JSON value without secrets: values of keys, options and URLs that look like credentials."""
    if isinstance(value, str):
        return _USERINFO.sub(r"\1***@", _SECRET_VALUE.sub(r"\1***", value))
    if isinstance(value, Mapping):
        return {
            key: "***" if isinstance(item, str) and _SECRET_KEY.search(str(key)) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [redact(item) for item in value]
        for index, item in enumerate(value[:-1]):  # an option and its value as two arguments
            if isinstance(item, str) and item.startswith("-") and "=" not in item and _SECRET_KEY.search(item):
                items[index + 1] = "***"
        return items
    return value
