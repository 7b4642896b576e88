"""An installed wrk2 as a driver, Gil Tene's or DeathStarBench's: its run under accounts of our own (``wrk2.lua``).

wrk2 counts whole runs, and latencies only after it has calibrated itself for ten seconds. So the calibration is the
warm-up, ``wrk2.lua`` counts in the window alone, and what nobody can tell is absent from the result.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import LoadError, ScriptError
from pytest_aefm.load import LoadRun
from pytest_aefm.load.wrk2_accounts import read_result
from pytest_aefm.load.wrk2_plan import Dialect, Plan, dry_run
from pytest_aefm.model import LoadResult, LoadSpec, Window
from pytest_aefm.supervisor import Process, Supervisor, SupervisorError

__all__ = ["Wrk2"]

_LEAD_S = 0.15  # from now to the first request: wrk2 starts and loads its scripts in it
_SCRIPT_ERROR = re.compile(r"^aefm-script: (?P<what>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Wrk2:
    """The driver. ``program`` is where wrk2 lies, ``version`` what it says of itself."""

    program: Path
    dialect: Dialect
    version: str

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.dialect.name

    def check_script(self, script: Path) -> None:
        """Run the script dry in wrk2's own interpreter, without a network.

        Raises:
            ScriptError: it has an error; the subject is its file and line.
            LoadError: wrk2 cannot be run.
        """
        url = "http://127.0.0.1:1"
        with tempfile.TemporaryDirectory(prefix="aefm-") as folder:
            dry = Path(folder) / "check.lua"
            dry.write_text(dry_run(script.absolute(), url))
            status, output = _run([self.program, "-t1", "-c1", "-d1", "-R1", "-s", dry, url], script)
        if status:
            raise _failure(status, output, script)

    def start(
        self,
        load: LoadSpec,
        script: Path,
        url: str,
        *,
        supervisor: Supervisor,
        cpus: Collection[int],
        artifacts: Path,
        own_cores: bool = False,
    ) -> LoadRun:
        """Start wrk2; see :class:`pytest_aefm.load.Driver`.

        Raises:
            ConfigurationError: wrk2 cannot send such a load.
            LoadError: it cannot be started.
        """
        del own_cores  # it has no way to spin
        plan, folder = Plan.of(load, self.dialect), artifacts.absolute()
        accounts, result = folder / "load.lua", folder / "load.json"
        start_s = time.monotonic() + _LEAD_S
        accounts.write_text(plan.lua(script.absolute(), start_s, result))
        try:
            # Not in real time: when the application goes away it spins, and would starve what shares its core.
            argv = plan.command_line(self.program, accounts, url)
            process = supervisor.spawn(argv, name="wrk2", log=folder / "load.log", cpus=cpus)
        except SupervisorError as error:
            raise LoadError("load driver wrk2", str(error)) from error
        begin_s = start_s + plan.warmup_s
        window = Window(begin_s + time.time() - time.monotonic(), begin_s, load.duration_s)
        return _Run(process, window, plan, result, script, self.version)


def _run(argv: Sequence[str | Path], script: Path) -> tuple[int, str]:
    """Run wrk2 dry; return its exit status and what it said."""
    try:
        done = subprocess.run(
            [str(part) for part in argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20
        )
    except subprocess.TimeoutExpired as error:
        raise ScriptError(
            str(script), "the dry run did not end within 20 s", "a script without endless loops"
        ) from error
    except OSError as error:
        raise LoadError("load driver wrk2", f"cannot run {argv[0]}: {error}") from error
    return done.returncode, done.stderr + done.stdout


def _script_error(text: str, script: Path) -> ScriptError:
    """Turn Lua's ``file.lua:LINE: message`` into an error; Lua knows the script by its name alone."""
    where = re.match(r"(?P<file>[^:]+):(?P<line>\d+): ", text)
    if where is None:
        return ScriptError(str(script), text, None, "mend the script")
    file = str(script) if where["file"] == script.name else where["file"]
    return ScriptError(f"{file}:{where['line']}", text[where.end() :], None, "mend the script")


def _failure(status: int, output: str, script: Path) -> LoadError:
    """Turn an exit status and the words of wrk2 or of its accounts into an error."""
    if found := _SCRIPT_ERROR.search(output):
        return _script_error(found["what"], script)
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return LoadError("load driver wrk2", f"exit status {status}: {' '.join(lines[-3:]) or 'no message'}")


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of wrk2."""

    process: Process
    window: Window
    plan: Plan
    output: Path
    script: Path
    version: str

    def ended(self) -> bool:
        return self.process.poll() is not None

    def result(self, timeout_s: float) -> LoadResult:
        try:
            status = self.process.wait(timeout_s)
        except TimeoutError as error:
            self.stop()
            raise LoadError("load driver wrk2", str(error), "an end after warm-up, duration and drain") from error
        except SupervisorError as error:
            raise LoadError("load driver wrk2", str(error)) from error
        if status != 0:
            raise _failure(status, self.process.log_tail(), self.script)
        try:
            document = json.loads(self.output.read_text())
        except (OSError, ValueError) as error:
            raise LoadError("load driver wrk2", f"no result in {self.output}: {error}") from error
        return read_result(document, self.plan, self.version)

    def stop(self) -> None:
        if not self.ended():
            self.process.stop(grace_s=0.5)
