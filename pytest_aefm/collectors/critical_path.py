"""The critical path of each trace: which spans its end-to-end latency hangs on, and for how long each.

Walk backwards from the root's end: the child that ended last is on the path, then the child that ended last before
that one began, and so on; each is walked in the same way, and what lies between them is the span's own time. This is
the path of Zhang et al., *CRISP: Critical Path Analysis of Large-Scale Microservice Architectures*, USENIX ATC 2022,
with spans clipped to those above them and without its allowance for overlaps: the own times on a path add up to the
duration of its root, exactly. A span of which nothing is left is on no path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_aefm.collectors.forest import Forest
from pytest_aefm.collectors.intervals import Flags, Moments, Rows

__all__ = ["CriticalPaths", "find_critical_paths"]


@dataclass(frozen=True, eq=False)
class CriticalPaths:
    """Per row of a forest: whether it is ``on`` its trace's critical path, and its own nanoseconds there (else 0)."""

    on: Flags
    own_ns: Rows


def find_critical_paths(forest: Forest, roots: Rows) -> CriticalPaths:
    """Return the critical paths of the traces with these roots (rows of the forest)."""
    rows = len(forest.spans)
    start, end, root = _clipped(forest)
    length = np.maximum(0, end - start)
    wanted = np.zeros(rows + 1, np.bool_)
    wanted[roots] = True
    beneath = wanted[root]
    chosen = _last_enders(forest, start, end, np.flatnonzero(beneath & forest.has_parent() & (length > 0)))
    on = _unbroken(forest, chosen, wanted[:-1]) & beneath
    children = np.flatnonzero(on & forest.has_parent())
    own = np.where(on, length, 0)
    np.subtract.at(own, forest.parent[children], length[children])
    return CriticalPaths(on, own)


def _clipped(forest: Forest) -> tuple[Rows, Rows, Rows]:
    """Return start and end of each span within all spans above it, and its topmost ancestor (beyond all in a cycle)."""
    rows = len(forest.spans)
    start, end = forest.start_ns.copy(), forest.end_ns.copy()
    link = np.where(forest.has_parent(), forest.parent, np.arange(rows))
    while True:
        start, end = np.maximum(start, start[link]), np.minimum(end, end[link])
        if np.array_equal(further := link[link], link):
            return start, end, np.where(forest.cyclic, rows, link)
        link = further


def _last_enders(forest: Forest, start: Rows, end: Rows, rows: Rows) -> Flags:
    """Mark, among the given children of each span, those on the path through it.

    In order of parent and of falling end each child points to the first that ended before it began; following these
    from each parent's first child visits the path, all parents at once.
    """
    chosen = np.zeros(len(forest.spans), np.bool_)
    if not len(rows):
        return chosen
    parent = forest.parent[rows]
    moments = Moments.of(np.concatenate([start[rows], end[rows]]), len(forest.spans))
    # Falling times rise as keys, so that one search serves all parents.
    began, ended = (parent + 1) * moments.width - 1 - moments.numbers.reshape(2, -1)
    order = _ordered(ended, start[rows])
    rows, parent, began, ended = rows[order], parent[order], began[order], ended[order]
    at = np.flatnonzero(np.diff(parent, prepend=-1))
    while len(at):
        chosen[rows[at]] = True
        following = np.searchsorted(ended, began[at])
        at = following[(following < len(rows)) & (parent[np.minimum(following, len(rows) - 1)] == parent[at])]
    return chosen


def _ordered(keys: Rows, start: Rows) -> Rows:
    """Return the order of keys, of equal ones that which starts first; only those are sorted by it."""
    order = np.argsort(keys)
    equal = np.zeros(len(order) + 1, np.bool_)
    equal[1:-1] = np.diff(keys[order]) == 0  # to the one before
    among = np.flatnonzero(equal[:-1] | equal[1:])
    tied = order[among]
    order[among] = tied[np.lexsort((start[tied], keys[tied]))]
    return order


def _unbroken(forest: Forest, chosen: Flags, root: Flags) -> Flags:
    """Mark what is chosen together with everything above it, up to a root."""
    on = chosen | root
    link = np.where(forest.has_parent(), forest.parent, np.arange(len(on)))
    while True:
        on = on & on[link]
        if np.array_equal(further := link[link], link):
            return on
        link = further
