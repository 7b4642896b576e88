"""Which spans are requests at services, what each had others do for it, and who asked for it.

A *request at a service* is an entry span: the root of a trace, an orphan, a span of kind server or consumer, or
one whose parent belongs to another service. Its **remote work** is what runs beneath it on behalf of another
service: client and producer spans (a client span belongs to the service that calls) and, where calls are not
traced on the client's side, the entry spans of the callees. Its **self time** is its duration minus the union of
its remote work, clipped to it and subtracted once. Internal spans are the service's own time.

So the time between a client span and the server span beneath it (the network, and waiting in the callee's socket
until the callee gets a CPU and reads the request) is nobody's self time: it is the callee's **transit**, kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_aefm.collectors.forest import Forest
from pytest_aefm.collectors.intervals import Flags, Rows, union_ns
from pytest_aefm.collectors.spans import CLIENT, CONSUMER, PRODUCER, SERVER

__all__ = ["Requests", "find_requests", "resolved"]


@dataclass(frozen=True, eq=False)
class Requests:
    """Per row of a forest, meaningful where ``entry`` marks a request: nanoseconds, and counts.

    ``calls`` counts its pieces of remote work, ``called_ns`` adds up their durations, ``waited_ns`` is their union:
    called / waited is how many were under way at a time. ``caller`` is the entry row of the request that asked for
    it (-1: nobody known), ``seen_ns`` its duration as the caller's client span has it (its own without one), and
    ``transit_ns`` what lies between the two (-1 without a client span).
    """

    entry: Flags
    self_ns: Rows
    calls: Rows
    called_ns: Rows
    waited_ns: Rows
    caller: Rows
    seen_ns: Rows
    transit_ns: Rows


def find_requests(forest: Forest) -> Requests:
    """Find the requests at services in a forest; spans in cycles are entries of which nothing is known."""
    spans, parent = forest.spans, forest.parent
    has_parent = forest.has_parent()
    other_service = has_parent & (spans.service != spans.service[parent])
    entry = ~has_parent | other_service | np.isin(spans.kind, (SERVER, CONSUMER))
    asking = np.isin(spans.kind, (CLIENT, PRODUCER))
    remote = has_parent & (entry | asking)
    owner = _owners(forest, entry, remote)

    rows = np.flatnonzero(remote)
    within = owner[parent[rows]]
    rows, within = rows[within >= 0], within[within >= 0]
    start = np.clip(forest.start_ns[rows], forest.start_ns[within], forest.end_ns[within])
    end = np.clip(forest.end_ns[rows], forest.start_ns[within], forest.end_ns[within])
    waited = union_ns(start, end, within, len(entry))

    asked = entry & has_parent & asking[parent]
    client = np.where(asked, parent, 0)
    overlap = np.minimum(forest.end_ns, forest.end_ns[client]) - np.maximum(forest.start_ns, forest.start_ns[client])
    transit = forest.duration_ns[client] - np.maximum(0, overlap)
    called = np.zeros(len(entry), np.int64)
    np.add.at(called, within, end - start)
    return Requests(
        entry,
        forest.duration_ns - waited,
        np.bincount(within, minlength=len(entry)),
        called,
        waited,
        _callers(forest, owner, entry & has_parent),
        np.where(asked, forest.duration_ns[client], forest.duration_ns),
        np.where(asked, transit, -1),
    )


def resolved(link: Rows) -> Rows:
    """Follow links until each row names one that names itself; no chain may be a cycle."""
    while not np.array_equal(further := link[link], link):
        link = further
    return link


def _owners(forest: Forest, entry: Flags, remote: Flags) -> Rows:
    """Return for each span the entry span whose service works in it; -1 in and beneath a call, and in cycles."""
    none = len(entry)
    rows = np.arange(none)
    link = np.where(entry, rows, np.where(remote | forest.cyclic, none, forest.parent))
    link = resolved(np.append(link, none))
    return np.where(link[:-1] == none, -1, link[:-1])


def _callers(forest: Forest, owner: Rows, called: Flags) -> Rows:
    """Return the request within which each called request was asked for, -1 for others."""
    rows = np.arange(len(owner))
    nearest = resolved(np.where((owner >= 0) | ~forest.has_parent(), rows, forest.parent))
    return np.where(called, owner[nearest[forest.parent]], -1)
