"""Queries of a Prometheus: the templates of each testbed, which an experiment may replace, and the user's own. Pure.

A testbed's template selects raw samples; what they say of a window is computed here, not by PromQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template

__all__ = ["KUBERNETES", "LOCAL", "NAMES", "fill", "peak_selectors", "trouble"]

LOCAL: Mapping[str, str] = {
    "cpu": 'process_cpu_seconds_total{job="$job"}',
    "memory": 'process_resident_memory_bytes{job="$job"}',
}
"""What the local testbed asks, by name; ``$job`` is that of its services, each under a label ``service``."""

_CONTAINERS = '{namespace="$namespace",container!="",container!="POD"}'

KUBERNETES: Mapping[str, str] = {
    "cpu": f"container_cpu_usage_seconds_total{_CONTAINERS}",
    "memory": f"container_memory_working_set_bytes{_CONTAINERS}",
    "periods": f"container_cpu_cfs_periods_total{_CONTAINERS}",
    "throttled_periods": f"container_cpu_cfs_throttled_periods_total{_CONTAINERS}",
    "throttled_seconds": f"container_cpu_cfs_throttled_seconds_total{_CONTAINERS}",
    "receive": 'container_network_receive_bytes_total{namespace="$namespace"}',
    "transmit": 'container_network_transmit_bytes_total{namespace="$namespace"}',
    "restarts": 'kube_pod_container_status_restarts_total{namespace="$namespace"}',
    "node_cpu": 'container_cpu_usage_seconds_total{id="/"}',
    "node_memory": 'container_memory_working_set_bytes{id="/"}',
    "node_pressure_cpu": "node_pressure_cpu_waiting_seconds_total",
    "node_pressure_memory": "node_pressure_memory_waiting_seconds_total",
    "node_pressure_io": "node_pressure_io_waiting_seconds_total",
}
"""What the Kubernetes testbed asks, by name; ``$namespace`` is the application's."""

NAMES = tuple(KUBERNETES)

_PLACEHOLDER = re.compile(r"\$(\w*)|\$\{(\w*)\}")
_PEAK = re.compile(r"\b(?:max|min|quantile)_over_time\b")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*(?:\{[^{}]*\})?|\{[^{}]+\})\s*\[\s*\$window\s*\]")
_PAIRS = {")": "(", "]": "[", "}": "{"}


def fill(template: str, **values: str) -> str:
    """Return a template with its ``$names`` replaced; names that are not given stay."""
    return Template(template).safe_substitute(values)


def trouble(query: str, known: tuple[str, ...]) -> str | None:
    """Return what is wrong with a query as far as that can be told without a server, None if nothing is.

    ``known`` are the ``$names`` that it may hold.
    """
    for found in _PLACEHOLDER.finditer(query):
        if (name := found[1] or found[2] or "") not in known:
            return f"${name} is not known; expected {' or '.join('$' + one for one in known)}"
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`', "", query)
    if any(quote in bare for quote in "\"'`"):
        return "a quote is not closed"
    opened: list[str] = []
    for sign in bare:
        if sign in "([{":
            opened.append(sign)
        elif sign in _PAIRS and (not opened or opened.pop() != _PAIRS[sign]):
            return f"{sign!r} closes nothing"
    return f"{opened[-1]!r} is not closed" if opened else None


def peak_selectors(query: str) -> tuple[str, ...]:
    """Return the selectors over ``[$window]`` of a query that claims a peak (``max_over_time`` and its like)."""
    return tuple(dict.fromkeys(_SELECTOR.findall(query))) if _PEAK.search(query) else ()
