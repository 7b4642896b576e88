"""The supervisor: starts programs as told, reports their end, and lets nothing outlive the process it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_aefm.supervisor import Process, Supervisor, SupervisorError, descendants

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-S",
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "print(child.pid, flush=True); time.sleep(60)",
]
OWNER = """
import sys, time
from pathlib import Path
from pytest_aefm.supervisor import Supervisor

folder = Path(sys.argv[1])
supervisor = Supervisor(folder / "supervisor.log")
child = supervisor.spawn([sys.executable, "-S", "-c", "import time; time.sleep(60)"], name="child", log=folder / "log")
{fork}
print(supervisor.pid, child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor that is closed after the test."""
    with Supervisor(tmp_path / "supervisor.log") as owner:
        yield owner


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Wait for the condition; return whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def living(pid: int) -> bool:
    """Return whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_exit_status_is_reported(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program's exit status reaches its handle."""
    process = supervisor.spawn(["sh", "-c", "exit 7"], name="seven", log=tmp_path / "log")
    assert process.wait(10) == 7


def test_signal_is_a_negative_status(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that a signal ended has that signal's negative number as its status."""
    process = supervisor.spawn(SLEEPER, name="sleeper", log=tmp_path / "log")
    process.signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def test_many_short_lived_programs_are_all_reported(supervisor: Supervisor, tmp_path: Path) -> None:
    """No end is lost, however soon after the start it comes."""
    processes = [supervisor.spawn(["true"], name=str(n), log=tmp_path / "log") for n in range(30)]
    assert [process.wait(10) for process in processes] == [0] * 30


def test_missing_program_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that cannot be started is an error that names it."""
    with pytest.raises(SupervisorError, match=r"ghost: .*no-such-program"):
        supervisor.spawn(["/no-such-program"], name="ghost", log=tmp_path / "log")


def test_output_goes_to_the_log(supervisor: Supervisor, tmp_path: Path) -> None:
    """Standard output and error are appended to the log, whose tail can be read."""
    process = supervisor.spawn(["sh", "-c", "echo out; echo err >&2"], name="talker", log=tmp_path / "log")
    process.wait(10)
    assert process.log_tail() == "out\nerr"


def test_place_and_priority(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program runs on the cpus and at the nice value that were asked for."""
    cpu = min(os.sched_getaffinity(0))
    process = supervisor.spawn(SLEEPER, name="placed", log=tmp_path / "log", cpus=[cpu], nice=10)
    assert ({cpu}, 10) == (os.sched_getaffinity(process.pid), os.getpriority(os.PRIO_PROCESS, process.pid))


def test_children_share_the_session_of_the_supervisor(supervisor: Supervisor, tmp_path: Path) -> None:
    """Children have a process group of their own but one session, so that nice holds among them."""
    process = supervisor.spawn(SLEEPER, name="sleeper", log=tmp_path / "log")
    expected = (os.getsid(supervisor.pid), process.pid)
    assert expected == (os.getsid(process.pid), os.getpgid(process.pid))
    assert os.getsid(supervisor.pid) != os.getsid(0)


def test_stop_ends_what_ignores_sigterm(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that is deaf to SIGTERM is killed when its grace is over."""
    process = supervisor.spawn(STUBBORN, name="stubborn", log=tmp_path / "log")
    assert until(lambda: process.log_tail() == "deaf")
    assert process.stop(grace_s=0.2) == -signal.SIGKILL


def test_stop_of_an_ended_program_is_quiet(supervisor: Supervisor, tmp_path: Path) -> None:
    """Stopping what has ended returns its status."""
    process = supervisor.spawn(["true"], name="short", log=tmp_path / "log")
    process.wait(10)
    assert process.stop() == 0


def test_close_ends_grandchildren(tmp_path: Path) -> None:
    """Closing ends descendants, too, even those with a session of their own."""
    supervisor = Supervisor(tmp_path / "supervisor.log")
    process = supervisor.spawn(PARENT, name="parent", log=tmp_path / "log")
    assert until(lambda: process.log_tail().isdigit())
    grandchild = int(process.log_tail())
    supervisor.close()
    assert not any(map(living, [process.pid, grandchild]))


def test_orphans_stay_with_the_supervisor(supervisor: Supervisor, tmp_path: Path) -> None:
    """A grandchild whose parent was killed is adopted, so that closing ends it."""
    process = supervisor.spawn(PARENT, name="parent", log=tmp_path / "log")
    assert until(lambda: process.log_tail().isdigit())
    grandchild = int(process.log_tail())
    process.signal(signal.SIGKILL)
    process.wait(10)
    assert grandchild in descendants(supervisor.pid)


def test_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    """When the supervisor is killed its children end, and their handles say that they no longer run."""
    with Supervisor(tmp_path / "supervisor.log") as supervisor:
        process = supervisor.spawn(SLEEPER, name="sleeper", log=tmp_path / "log")
        os.kill(supervisor.pid, signal.SIGKILL)
        assert until(lambda: not living(process.pid) and not process.alive)
        with pytest.raises(SupervisorError):
            process.wait(1)


def test_spawn_without_a_supervisor_is_an_error(tmp_path: Path) -> None:
    """Starting a program after the supervisor was killed says so at once."""
    with Supervisor(tmp_path / "supervisor.log") as supervisor:
        os.kill(supervisor.pid, signal.SIGKILL)
        with pytest.raises(SupervisorError, match="late: the supervisor"):
            supervisor.spawn(SLEEPER, name="late", log=tmp_path / "log")


@pytest.mark.parametrize(
    "fork",
    ["", "import os\nif os.fork() == 0:\n    time.sleep(12)\n    os._exit(0)"],
    ids=["plain", "a fork holds the pipe"],
)
def test_nothing_outlives_a_killed_owner(tmp_path: Path, fork: str) -> None:
    """SIGKILL of the process that owns a supervisor leaves neither supervisor nor children 10 s later."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(fork=fork), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = list(map(int, owner.stdout.readline().split()))
    assert all(map(living, pids))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert until(lambda: not any(map(living, pids)), timeout_s=10)


def test_wait_has_a_deadline(supervisor: Supervisor, tmp_path: Path) -> None:
    """Waiting for a program that runs on ends with a message that names it."""
    process: Process = supervisor.spawn(SLEEPER, name="sleeper", log=tmp_path / "log")
    with pytest.raises(TimeoutError, match="sleeper"):
        process.wait(0.05)
