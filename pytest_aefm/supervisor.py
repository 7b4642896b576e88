"""One small process that owns all others of a run, so that none outlives it.

Children must not be started from a worker thread (PR_SET_PDEATHSIG follows the thread), keep their priority
when pytest lowers its own, and end even if pytest is killed: so a supervisor starts them. It reads requests as
JSON lines on its standard input; when that closes, whatever the reason, it ends every descendant. Run as a
program it imports the standard library alone. All children share its session, because the kernel may share the
CPU by session (sched_autogroup_enabled): nice would then mean nothing, and N stressors weigh as one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Process", "Supervisor", "SupervisorError", "descendants"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GRACE_S = 2.0
_LOOK_S = 3.0  # how often the supervisor looks whether the process that it serves still lives


class SupervisorError(RuntimeError):
    """The supervisor is gone, or could not start a program."""


def descendants(pid: int) -> list[int]:
    """Return the pids of all living descendants of ``pid``, nearest first."""
    found, queue = [], [pid]
    while queue:
        parent = queue.pop(0)
        children: list[int] = []
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError):
                    children += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        found += children
        queue += children
    return found


class Process:
    """A program that the supervisor runs: its own process group, input from /dev/null, output in files."""

    def __init__(self, owner: Supervisor, name: str, argv: Sequence[str], pid: int, log: Path) -> None:
        self._owner, self.name, self.argv, self.pid, self.log = owner, name, tuple(argv), pid, log
        self._ended = threading.Event()
        self._returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it runs or if that is unknown."""
        return self._returncode

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as the supervisor (which takes its children along) has told."""
        return not self._ended.is_set()

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends; return its exit status.

        Raises:
            TimeoutError: it still runs after ``timeout_s`` seconds.
            SupervisorError: the supervisor itself is gone.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout_s:g} s")
        if self._returncode is None:
            raise SupervisorError("the supervisor ended")
        return self._returncode

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; nothing happens if it has ended."""
        self._owner._tell({"op": "signal", "pid": self.pid, "signal": number})

    def stop(self, grace_s: float = _GRACE_S) -> int:
        """End it and its descendants: SIGTERM, then SIGKILL after ``grace_s`` seconds; return its exit status."""
        if self.alive:
            self._owner._tell({"op": "stop", "pid": self.pid, "grace_s": grace_s})
        return self.wait(grace_s + 5)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that it wrote."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _end(self, returncode: int | None) -> None:
        self._returncode = returncode
        self._ended.set()


class Supervisor:
    """A handle on the supervising process; a context manager, and safe to use from several threads."""

    def __init__(self, log: Path) -> None:
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._started = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self._processes: dict[int, Process] = {}
        self._gone = False
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stderr:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="aefm-supervisor", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the supervising process."""
        return self._child.pid

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        log: Path,
        cpus: Collection[int] | None = None,
        nice: int = 0,
        realtime: bool = False,
        env: Mapping[str, str] | None = None,
        stdout: Path | None = None,
    ) -> Process:
        """Start a program: its process group its own, on ``cpus``, at ``nice``, output appended to ``log``.

        ``nice`` is absolute, but an inherited one stays where the user may not raise a priority. ``realtime`` puts it
        before everything else on its cores (SCHED_RR) where the user may. ``env`` adds to the environment; ``stdout``
        sends standard output elsewhere than the log.

        Raises:
            SupervisorError: the program cannot be started, or the supervisor is gone.
        """
        arguments = [str(part) for part in argv]
        log.parent.mkdir(parents=True, exist_ok=True)
        request = {
            "op": "spawn",
            "argv": arguments,
            "log": str(log.absolute()),
            "stdout": str(stdout.absolute()) if stdout else None,
            "cpus": sorted(cpus) if cpus else None,
            "nice": nice,
            "realtime": realtime,
            "env": dict(env or {}),
            "cwd": os.getcwd(),
        }
        with self._lock, self._started:
            self._answers.clear()
            try:
                self._tell(request)
            except SupervisorError as error:
                raise SupervisorError(f"{name}: {error}") from error
            if not self._started.wait_for(lambda: self._answers or self._gone, timeout=30) or self._gone:
                raise SupervisorError(f"{name}: the supervisor ended or does not answer")
            answer = self._answers.pop()
            if "error" in answer:
                raise SupervisorError(f"{name}: {answer['error']}")
            process = Process(self, name, arguments, int(answer["pid"]), log)
            self._processes[process.pid] = process
            if "exited" in answer:
                process._end(answer["exited"])
            return process

    def close(self, timeout_s: float = 10.0) -> None:
        """End every process that still runs and the supervisor itself; never raises."""
        with contextlib.suppress(OSError, ValueError):
            assert self._child.stdin is not None
            self._child.stdin.close()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()  # PR_SET_PDEATHSIG ends the children
            self._child.wait()
        self._reader.join(1)
        with contextlib.suppress(OSError, ValueError):
            assert self._child.stdout is not None
            self._child.stdout.close()

    def _tell(self, request: Mapping[str, Any]) -> None:
        try:
            assert self._child.stdin is not None
            data = json.dumps(request).encode() + b"\n"
            with self._writing:
                while data:
                    data = data[os.write(self._child.stdin.fileno(), data) :]
        except (OSError, ValueError) as error:
            raise SupervisorError(f"the supervisor is gone: {error}") from error

    def _read(self) -> None:
        assert self._child.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._child.stdout:
                message = json.loads(line)
                with self._started:
                    if message["event"] == "exit":
                        process = self._processes.pop(message["pid"], None)  # the number may be used again
                        if process is not None:
                            process._end(message["returncode"])
                        else:  # it ended before spawn() had its answer
                            for answer in self._answers:
                                if answer.get("pid") == message["pid"]:
                                    answer["exited"] = message["returncode"]
                    else:
                        self._answers.append(message)
                    self._started.notify_all()
        with self._started:
            self._gone = True
            for process in self._processes.values():
                process._end(None)
            self._processes.clear()
            self._started.notify_all()


# From here on: the supervising process.


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _emit(**message: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")


class _Children:
    """The supervising process's view: its children, and those that are to be killed when their grace is over."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.deadlines: dict[int, float] = {}

    def spawn(self, request: dict[str, Any]) -> None:
        def prepare() -> None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if request["cpus"]:
                os.sched_setaffinity(0, request["cpus"])
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
            if request["realtime"]:
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

        try:
            with open(request["log"], "ab") as log, contextlib.ExitStack() as stack:
                stdout = stack.enter_context(open(request["stdout"], "ab")) if request["stdout"] else log
                # The supervisor has one thread, so that preexec_fn is safe.
                child = subprocess.Popen(
                    request["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=log,
                    cwd=request["cwd"],
                    env={**os.environ, **request["env"]},
                    process_group=0,
                    preexec_fn=prepare,
                )
        except (OSError, subprocess.SubprocessError) as error:
            _emit(event="spawned", error=str(error))
            return
        child.returncode = 0  # this process reaps with waitpid(-1); Popen must not
        self.running.add(child.pid)
        _emit(event="spawned", pid=child.pid)

    def stop(self, pid: int, grace_s: float) -> None:
        if pid in self.running:
            self.send([pid, *descendants(pid)], signal.SIGTERM)
            self.deadlines[pid] = time.monotonic() + grace_s

    @staticmethod
    def send(pids: Sequence[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.deadlines.pop(pid, None)
            if pid in self.running:  # others are orphans that this subreaper inherited
                self.running.discard(pid)
                _emit(event="exit", pid=pid, returncode=os.waitstatus_to_exitcode(status))

    def enforce(self) -> float:
        """Kill whatever outstayed its grace; return the seconds until the next look."""
        now = time.monotonic()
        for pid in [pid for pid, deadline in self.deadlines.items() if deadline <= now]:
            self.send([*descendants(pid), pid], signal.SIGKILL)
            self.deadlines[pid] = now + 1
        return max(0.0, min([now + _LOOK_S, *self.deadlines.values()]) - now)

    def end_all(self, grace_s: float) -> None:
        self.send(descendants(os.getpid()), signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while descendants(os.getpid()) and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)
        for _ in range(100):
            left = descendants(os.getpid())
            if not left:
                break
            self.send(left, signal.SIGKILL)
            time.sleep(0.01)
            self.reap()


def _serve() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Its end is the end of its standard input. A handler, because SIG_IGN would be inherited.
        signal.signal(number, lambda *_: None)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children, buffer, parent = _Children(), b"", os.getppid()
    # A process that the parent forked may hold the other end of standard input open: look at the parent, too.
    while os.getppid() == parent:
        ready, _, _ = select.select([0, wake_read], [], [], children.enforce())
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
        children.reap()
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if request["op"] == "spawn":
                children.spawn(request)
            elif request["op"] == "stop":
                children.stop(request["pid"], request["grace_s"])
            elif request["op"] == "signal" and request["pid"] in children.running:
                children.send([request["pid"]], request["signal"])
    children.end_all(_GRACE_S)


if __name__ == "__main__":
    _serve()
