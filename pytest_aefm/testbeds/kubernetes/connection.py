"""The way to an API server: the only module that imports ``kubernetes``, and that when a connection is opened.

The client knows kubeconfig, certificates and tokens, and carries requests; what is asked for, how long that may take
and what is asked again is decided here. Answers are plain JSON values.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_aefm.errors import ConfigurationError, DeploymentError, did_you_mean

__all__ = ["ApiError", "Connection", "Resource", "connect"]

Json = dict[str, Any]

_CONNECT_S = 5.0
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.1, 5.0


class ApiError(DeploymentError):
    """The API server refused a request (``status``, and ``body`` as it answered), or did not answer (status 0)."""

    def __init__(
        self,
        subject: str,
        what: str,
        expected: str | None = None,
        hint: str | None = None,
        *,
        status: int = 0,
        body: Json | None = None,
    ) -> None:
        super().__init__(subject, what, expected, hint)
        self.status, self.body = status, body or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"status": self.status, "body": self.body})


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of an object, or of all of the kind: in a namespace, or without one everywhere."""
        root = "/apis" if "/" in self.api_version else "/api"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}/{self.api_version}{inside}/{self.plural}" + (f"/{name}" if name else "")


class _Unanswered(Exception):
    """No complete answer; ``sent`` is False where the request cannot have arrived."""

    def __init__(self, error: Exception, sent: bool) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.sent = sent


class Connection:
    """Requests to one API server, each answered in time or an :class:`ApiError`; may be used from several threads.

    A request may take ``timeout_s``; what is safe to repeat is repeated for ``patience_s``: anything that the server
    turned away (429) or that never reached it; after 5xx, a reset or a timeout what changes nothing the second time
    (reading, applying, deleting), not creating.
    """

    def __init__(self, transport: Any, name: str, *, timeout_s: float = 10.0, patience_s: float = 30.0) -> None:
        self._transport, self.name = transport, name
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._resources: dict[str, dict[str, Resource]] = {}

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._transport.client.close()

    def get(self, path: str, *, patience_s: float | None = None, **query: Any) -> Json:
        """Read an object or a list; ``patience_s`` None: as long as usual.

        Raises:
            ApiError: it is not there (404), may not be read, or nobody answers.
        """
        return self._json("get", path, query=query, again=True, patience_s=patience_s)

    def text(self, path: str, *, patience_s: float | None = None, **query: Any) -> str:
        """Read what is no JSON, such as a log."""
        return self._asked("get", path, query, None, None, True, patience_s).decode("utf-8", "replace")

    def create(self, path: str, body: Json, **query: Any) -> Json:
        """Create an object; never sent twice unless the first was turned away."""
        return self._json("post", path, query=query, body=body, again=False)

    def apply(self, path: str, body: Json, manager: str, *, dry_run: bool = False) -> Json:
        """Apply an object on the server's side, in our name, never forced.

        Raises:
            ApiError: status 409 where a field belongs to somebody else, who is named.
        """
        query = {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})}
        return self._json("patch", path, query=query, body=body, content="application/apply-patch+yaml", again=True)

    def patch(self, path: str, body: Json) -> Json:
        """Merge a patch (RFC 7396) into an object."""
        return self._json("patch", path, body=body, content="application/merge-patch+json", again=True)

    def delete(self, path: str, uid: str, *, grace_s: int | None = None) -> bool:
        """Delete the object of this uid, what it owns before it; return False where it is gone already.

        Raises:
            ApiError: it may not be deleted.
        """
        body: Json = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground",
        }
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._json("delete", path, body=body, again=True)
        except ApiError as error:
            if error.status in (404, 409):  # 409: another object has its name now
                return False
            raise
        return True

    def watch(self, path: str, resource_version: str, seconds: float, **query: Any) -> Iterator[Json]:
        """Yield the events after a version for at most about ``seconds``; the server may end it at any time.

        Raises:
            ApiError: status 410 where the version is too old; status 0 where the connection broke.
        """
        query |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": max(1, round(seconds)),
        }
        try:
            response = self._send("get", path, query, None, None, seconds + self._timeout_s)
            try:
                yield from self._events(path, response)
            finally:
                response.close()
        except _Unanswered as error:
            raise ApiError(self._subject("get", path), f"the watch broke: {error}") from None

    def resource(self, api_version: str, kind: str) -> Resource:
        """Return how the server serves a kind; asked again where it was not known, for definitions may come later.

        Raises:
            ApiError: status 404 where it does not.
        """
        if kind not in self._resources.get(api_version, {}):
            root = "/apis" if "/" in api_version else "/api"
            try:
                listed = self.get(f"{root}/{api_version}")
            except ApiError as error:
                if error.status != 404:
                    raise
                listed = {"resources": []}
            self._resources[api_version] = {
                one["kind"]: Resource(api_version, one["kind"], one["name"], one["namespaced"])
                for one in listed["resources"]
                if "/" not in one["name"]
            }
        known = self._resources[api_version]
        if kind not in known:
            hint = did_you_mean(kind, known)
            raise ApiError(self.name, f"does not serve the kind {kind} of {api_version}", None, hint, status=404)
        return known[kind]

    def _events(self, path: str, response: Any) -> Iterator[Json]:
        for line in self._lines(response):
            event: Json = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise self._refused("get", path, int(status.get("code") or 500), status)
            yield event

    def _lines(self, response: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in response.stream(2**16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line.strip())
        except (HTTPError, OSError) as error:
            raise _Unanswered(error, sent=True) from None

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Json | None = None,
        body: Json | None = None,
        content: str | None = None,
        again: bool,
        patience_s: float | None = None,
    ) -> Json:
        answer = self._asked(method, path, query or {}, body, content, again, patience_s)
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ApiError(self._subject(method, path), f"answered {answer[:80]!r}", "a JSON object")
        return value

    def _asked(
        self,
        method: str,
        path: str,
        query: Json,
        body: Json | None,
        content: str | None,
        again: bool,
        patience_s: float | None = None,
    ) -> bytes:
        """Send until there is an answer, as often as is safe and patience lasts."""
        deadline, attempt = time.monotonic() + (self._patience_s if patience_s is None else patience_s), 0
        while True:
            pause = min(_BACKOFF_S * 2**attempt, _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)
            attempt += 1
            try:
                return self._read(self._send(method, path, query, body, content, self._timeout_s))
            except _Unanswered as error:
                failure = ApiError(self._subject(method, path), f"no answer: {error}")
                safe = again or not error.sent
            except ApiError as error:
                failure = error
                safe = error.status == 429 or (again and error.status >= 500 and not _is_final(error))
                pause = max(pause, _retry_after_s(error))
            if not safe or time.monotonic() + pause >= deadline:
                if attempt > 1:
                    failure.args = (f"{failure} (asked {attempt} times)",)
                raise failure
            time.sleep(pause)

    def _send(self, method: str, path: str, query: Json, body: Json | None, content: str | None, read_s: float) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        try:
            return self._transport.request(
                method,
                path,
                body=body,
                query_params=list(query.items()),
                content_type=content or "application/json",
                serialize=False,
                _request_timeout=(_CONNECT_S, read_s),
            )
        except ApiException as error:
            if not error.status:  # TLS: asking again does not help
                raise ApiError(self._subject(method, path), str(error.reason)) from None
            raise self._refused(method, path, error.status, _body(error), error.headers) from None
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _Unanswered(error, sent=False) from None
        except (HTTPError, OSError) as error:
            raise _Unanswered(error, sent=True) from None

    def _read(self, response: Any) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(response.data)
        except (HTTPError, OSError) as error:
            raise _Unanswered(error, sent=True) from None

    def _refused(self, method: str, path: str, status: int, body: Json, headers: Any = None) -> ApiError:
        what = str(body.get("message") or body.get("reason") or "no reason given").strip()
        after = (headers or {}).get("Retry-After")
        kept = {**body, "retryAfter": after} if after else body
        return ApiError(self._subject(method, path), f"{status}: {what}", status=status, body=kept)

    def _subject(self, method: str, path: str) -> str:
        return f"{self.name}: {method.upper()} {path}"


def _retry_after_s(error: ApiError) -> float:
    """Return the seconds that the server asked for; dates are not what an API server sends."""
    try:
        return max(0.0, float(error.body.get("retryAfter", 0)))
    except (TypeError, ValueError):
        return 0.0


def _is_final(error: ApiError) -> bool:
    """Whether a 500 says what is wrong with the object: a value of the wrong type in what is applied does so."""
    return str(error.body.get("message", "")).startswith("failed to create typed patch object")


def _body(error: Any) -> Json:
    try:
        value = json.loads(error.body)
    except (TypeError, ValueError):
        return {"message": str(error.body or error.reason)[:500]}
    return value if isinstance(value, dict) else {}


def connect(
    kubeconfig: Path | None = None,
    context: str | None = None,
    *,
    timeout_s: float = 10.0,
    patience_s: float = 30.0,
) -> Connection:
    """Connect by kubeconfig (``KUBECONFIG`` or ~/.kube/config by default) and context, or from inside a cluster.

    Nothing is asked yet.

    Raises:
        ConfigurationError: the client is not installed, or there is no such file or context.
    """
    client, config, dynamic = _library()
    configuration = client.Configuration()
    configuration.retries = False  # what is asked again is decided here
    written = kubeconfig or os.environ.get("KUBECONFIG") or Path(config.KUBE_CONFIG_DEFAULT_LOCATION).expanduser()
    # KUBECONFIG may list several files, which the client reads together.
    exists = any(Path(part).exists() for part in str(written).split(os.pathsep) if part)
    in_cluster = kubeconfig is None and context is None and not exists and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=configuration)
            name = "this cluster"
        else:
            if not exists:
                raise ConfigurationError(f"kubeconfig {written}", "not found", None, "name it with KUBECONFIG")
            _refuse_unknown(config, str(written), context)
            config.load_kube_config(
                config_file=str(written), context=context, client_configuration=configuration, persist_config=False
            )
            name = f"cluster {context!r}" if context else f"cluster {configuration.host}"
    except config.ConfigException as error:
        raise ConfigurationError(f"kubeconfig {written}", str(error)) from None
    # No discovery of its own: it would ask for more than is needed, and keep it in a file for all clusters of a host.
    transport = dynamic.DynamicClient(client.ApiClient(configuration), discoverer=lambda *_: None)
    return Connection(transport, name, timeout_s=timeout_s, patience_s=patience_s)


def _library() -> tuple[Any, Any, Any]:
    """Return the client's modules; half of what they hold has types, in its newest versions only."""
    try:
        from kubernetes import client, config, dynamic
    except ImportError as error:
        hint = "pip install 'pytest-aefm[kubernetes]'"
        raise ConfigurationError("testbed 'kubernetes'", f"no client: {error}", None, hint) from None
    return client, config, dynamic


def _refuse_unknown(config: Any, file: str, context: str | None) -> None:
    if context is None:
        return
    contexts, _ = config.list_kube_config_contexts(file)
    names = [one["name"] for one in contexts]
    if context not in names:
        hint = did_you_mean(context, names) or f"it has: {', '.join(names)}"
        raise ConfigurationError(f"kubeconfig {file}", f"no context {context!r}", None, hint)
