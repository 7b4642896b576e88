"""https: certificates are checked, names are sent, sessions are resumed; requests are counted as without it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Exchange, Server

Make = Callable[..., Any]
QUICK = ("-t1", "-c4", "-R50", "-d1s")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that makes a self-signed certificate for names, with its key in the same file."""

    def make(names: str) -> Path:
        assert shutil.which("openssl"), "the program openssl is missing: make setup installs it on Debian"
        folder = tmp_path_factory.mktemp("certificate")
        key, certificate, path = folder / "key.pem", folder / "certificate.pem", folder / "pair.pem"
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        subject = ["-subj", "/CN=test", "-addext", f"subjectAltName={names}"]
        command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        path.write_text(key.read_text() + certificate.read_text())
        return path

    return make


@pytest.fixture(scope="module")
def pair(certificate: Callable[[str], Path]) -> Path:
    """Return the certificate of this machine, and of shop.test."""
    return certificate("DNS:localhost,DNS:shop.test,IP:127.0.0.1")


@pytest.fixture
def trusted(pair: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the certificate one that the system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pair))
    return pair


@pytest.fixture
def names() -> list[str | None]:
    """Return the list of the names that clients asked for, in order."""
    return []


@pytest.fixture
def secure(serve: Make, names: list[str | None]) -> Callable[..., Server]:
    """Return a function that starts a server which speaks TLS with a certificate."""

    def start(pair: Path, behave: Callable[[Exchange], None] = Exchange.answer, **changes: Any) -> Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        context.sni_callback = lambda sock, name, context: names.append(name)
        for name, value in changes.items():
            setattr(context, name, value)
        server: Server = serve(behave, tls=context)
        return server

    return start


def test_a_trusted_certificate_is_taken(secure: Make, wrk: Make, trusted: Path) -> None:
    """Requests go out over TLS, each counted as over TCP."""
    server = secure(trusted)
    run = wrk(*QUICK, f"{server.url}/hotels?a=b")
    assert {"success": 50} == run.report["outcomes"]
    assert {"GET /hotels?a=b HTTP/1.1"} == set(server.lines)
    assert f"127.0.0.1:{server.port}" == server.exchanges[0].header("Host")
    assert (50, 4) == (server.seen, server.connections)


def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Make, wrk: Make, pair: Path) -> None:
    """Verification is on: no connection, no run, exit 3, and the reason."""
    server = secure(pair)
    run = wrk(*QUICK, server.url, status=3)
    assert (
        f"aefm-wrk: 127.0.0.1:{server.port}: the certificate is not trusted: self-signed certificate;"
        " --insecure takes any\n"
    ) == run.stderr
    assert 0 == server.seen


def test_a_certificate_of_another_host_is_refused(
    secure: Make, wrk: Make, certificate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted certificate has to be that of the URL's host."""
    other = certificate("DNS:elsewhere.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    server = secure(other)
    assert "not trusted: IP address mismatch;" in wrk(*QUICK, server.url, status=3).stderr
    named = wrk(*QUICK, "--target", f"127.0.0.1:{server.port}", "https://localhost/", status=3)
    assert "not trusted: hostname mismatch;" in named.stderr


def test_insecure_takes_any_certificate(secure: Make, wrk: Make, pair: Path) -> None:
    """--insecure looks at no certificate."""
    server = secure(pair)
    assert {"success": 50} == wrk(*QUICK, "--insecure", server.url).report["outcomes"]


def test_the_server_is_told_the_name(secure: Make, wrk: Make, trusted: Path, names: list[str | None]) -> None:
    """The URL's host is in SNI, wherever the connection goes; an address is in none."""
    server = secure(trusted)
    wrk(*QUICK, "--target", f"127.0.0.1:{server.port}", "https://shop.test/")
    assert (["shop.test"] * 4, "shop.test") == (names, server.exchanges[0].header("Host"))
    names.clear()
    wrk(*QUICK, server.url)
    assert [None] * 4 == names


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
def test_sessions_are_resumed(secure: Make, wrk: Make, trusted: Path, version: ssl.TLSVersion) -> None:
    """A connection that is opened again takes up its session."""

    def behave(exchange: Exchange) -> None:
        exchange.answer(headers="Connection: close\r\n")
        exchange.close()

    server = secure(trusted, behave, minimum_version=version, maximum_version=version)
    report = wrk("-t1", "-c2", "-R20", "-d1s", server.url).report
    assert {"success": 20} == report["outcomes"]
    assert [False, False] == server.resumed[:2]
    assert {True} == set(server.resumed[2:])


def test_large_bodies_go_both_ways(secure: Make, wrk: Make, trusted: Path, script: Make) -> None:
    """Bodies of many records are whole, whatever the sockets take at once."""
    body = bytes(range(256)) * 4000
    server = secure(trusted, lambda exchange: exchange.answer(body=exchange.body))
    path = script(
        "local bytes = {}\nfor i = 0, 255 do bytes[#bytes + 1] = string.char(i) end\n"
        "local body = table.concat(bytes):rep(4000)\n"
        "function request() return wrk.format('POST', '/', nil, body) end\n"
        "function response(status, headers, answer) return answer == body end"
    )
    report = wrk("-t1", "-c2", "-R5", "-d1s", "-s", path, server.url).report
    assert {"success": 5} == report["outcomes"]
    assert [body] * 5 == [exchange.body for exchange in server.exchanges]


def test_broken_connections_are_read_errors(secure: Make, wrk: Make, trusted: Path) -> None:
    """A reset under TLS is what it is without."""
    server = secure(trusted, lambda exchange: exchange.reset() if exchange.number % 2 else exchange.answer())
    run = wrk(*QUICK, server.url)
    assert (25, 25) == (run.count("success"), run.count("read_error"))


def test_a_server_without_tls_is_named_as_such(serve: Make, wrk: Make) -> None:
    """What answers in another protocol gives no connection, and says why."""
    server = serve()
    run = wrk("-t1", "-c1", "-R1", "-d1s", "--timeout", "500ms", server.url.replace("http:", "https:"), status=3)
    assert run.stderr.startswith(f"aefm-wrk: 127.0.0.1:{server.port}: ")


def test_absolute_urls_of_scripts_may_be_https(serve: Make, wrk: Make, script: Make) -> None:
    """They are sent in origin form, as those of http are."""
    server = serve()
    path = script("function request() return wrk.format('GET', 'https://localhost:8443/hotels') end")
    wrk(*QUICK, "-s", path, server.url)
    assert {"GET /hotels HTTP/1.1"} == set(server.lines)
