"""What a cluster holds, followed by watches: lists kept up to date by threads, and one place to wait for a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection

__all__ = ["Following"]

Json = dict[str, Any]

_WATCH_S = 30.0
_PAUSE_S = 0.5


class Following:
    """Keeps lists of objects up to date while it is entered; ``paths`` are those of lists, with a label selector.

    A watch that ends is begun again; one that missed something lists anew. What goes wrong meanwhile is in
    ``trouble`` until it works again.
    """

    def __init__(self, connection: Connection, paths: Iterable[tuple[str, str]]) -> None:
        self._connection, self._paths = connection, list(dict.fromkeys(paths))
        self._changed = threading.Condition()
        self._version = 0
        self._items: dict[tuple[str, str], dict[str, Json] | None] = dict.fromkeys(self._paths)
        self._trouble: dict[tuple[str, str], str] = {}
        self._stopped = threading.Event()

    def __enter__(self) -> Following:
        for key in self._paths:
            threading.Thread(target=self._follow, args=key, name=f"watch {key[0]}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread that waits for an event ends with its watch, and the process does not wait for it.
        self._stopped.set()

    @property
    def trouble(self) -> list[str]:
        """What keeps lists from being up to date, now."""
        with self._changed:
            return list(self._trouble.values())

    @property
    def complete(self) -> bool:
        """Whether every list has been read once."""
        with self._changed:
            return all(items is not None for items in self._items.values())

    def items(self, path: str) -> list[Json]:
        """Return the objects of a list, as far as they are known."""
        with self._changed:
            return [item for key, items in self._items.items() if key[0] == path for item in (items or {}).values()]

    def wait(self, seen: int, seconds: float) -> int:
        """Return the version of all lists, as soon as it is not ``seen`` or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, max(0.0, seconds))
            return self._version

    def _follow(self, path: str, selector: str) -> None:
        version = None
        while not self._stopped.is_set():
            try:
                if version is None:
                    version = self._list(path, selector)
                version = self._watch(path, selector, version)
            except ApiError as error:
                if error.status == 410:
                    version = None
                    continue
                version = None  # what happened meanwhile is not known
                self._set(path, selector, trouble=str(error))
                self._stopped.wait(_PAUSE_S)

    def _list(self, path: str, selector: str) -> str:
        listed = self._connection.get(path, labelSelector=selector)
        kind = listed["kind"].removesuffix("List")
        self._set(
            path, selector, {item["metadata"]["uid"]: {"kind": kind, **item} for item in listed.get("items") or ()}
        )
        return str(listed["metadata"]["resourceVersion"])

    def _watch(self, path: str, selector: str, version: str) -> str:
        began = time.monotonic()
        for event in self._connection.watch(path, version, _WATCH_S, labelSelector=selector):
            item = event["object"]
            version = str(item["metadata"]["resourceVersion"])
            if self._stopped.is_set():
                break
            if event["type"] == "BOOKMARK":
                continue
            with self._changed:
                items = dict(self._items[path, selector] or {})
            items.pop(item["metadata"]["uid"], None)
            if event["type"] != "DELETED":
                items[item["metadata"]["uid"]] = item
            self._set(path, selector, items)
        if time.monotonic() - began < 1:
            self._stopped.wait(_PAUSE_S)  # a server that ends watches at once is not to be asked in a loop
        return version

    def _set(self, path: str, selector: str, items: dict[str, Json] | None = None, trouble: str | None = None) -> None:
        with self._changed:
            if trouble is None:
                self._trouble.pop((path, selector), None)
                self._items[path, selector] = items
            else:
                self._trouble[path, selector] = trouble
            self._version += 1
            self._changed.notify_all()
