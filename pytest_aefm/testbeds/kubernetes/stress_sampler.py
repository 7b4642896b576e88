"""What runs in a stressor's pod beside the program: a loop of plain sh that writes the kernel's counters to the log.

The log is all that a run needs to read. A line is one moment; its time is the node's uptime, so that no wall clock
takes part. Lines of the program itself have no mark, and are left for a reader of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_aefm.interference import StressorReading, Traffic, WorkerReading
from pytest_aefm.interference.kinds import Stressor
from pytest_aefm.testbeds.machine import parse_cpu_list

__all__ = ["EVERY_S", "QUICK_LINES", "SCRIPT", "Sample", "read_log"]

EVERY_S = 0.5
"""How often a line is written at most, once the program has begun; before, five times as often."""

QUICK_LINES = 50
"""How many lines are written in quick succession first, so that it is soon known that a stressor works."""

_MARK = "aefm1"
_FRAME_BYTES = 66  # of Ethernet, IPv4 and TCP with time stamps: what a packet is longer than its payload

# Only builtins but sleep: a fork would cost more than all of the reading. Paths come without blanks.
SCRIPT = r"""
port=$1; shift
mark=aefm1
page=$(getconf PAGESIZE 2>/dev/null) || page=4096
trap 'exit 143' TERM INT
process() {  # pid and the directory of a process
  read -r stat < "$2/stat" || return
  read -r run wait rest < "$2/schedstat" || run=0
  pid=$1
  set -- ${stat##*) }
  [ "$run" -gt 0 ] || { run=$(((${12} + ${13}) * 10000000)) wait=0; }  # not kept: ticks of 10 ms
  [ "$1" = Z ] || line="$line w=$pid:$2:$1:${20}:$run:$wait:${22}"
}
counters() {  # prefix, file, names: lines of a name and a number
  while read -r name value rest; do
    case " $3 " in *" $name "*) line="$line $1.$name=$value" ;; esac
  done < "$2"
}
pressure() {
  for kind in cpu memory io; do
    while read -r some rest; do line="$line psi.$kind.$some=${rest##*total=}"; done < /proc/pressure/$kind
  done
}
traffic() {
  while read -r name rest; do
    case $name in lo:|*[!:]) ;; *) set -- $rest; line="$line tx=$9:${10}" ;; esac
  done < /proc/net/dev
  names=
  while read -r what rest; do
    [ "$what" = Tcp: ] || continue
    if [ -z "$names" ]; then names=$rest; continue; fi
    set -- $rest
    for name in $names; do [ "$name" = RetransSegs ] && line="$line retrans=$1"; shift; done
  done < /proc/net/snmp
  hex=$(printf '%04X' "$port")
  for file in /proc/net/tcp /proc/net/tcp6; do
    while read -r slot local remote state rest; do
      case $state:$local:$remote in
        0A:*:"$hex":*) line="$line listens=1" ;;
        01:*:"$hex") local=${local##*:}; line="$line to=$local" ;;
      esac
    done < $file
  done
}
sample() {
  read -r up rest < /proc/uptime
  line="$mark up=$up main=$main page=$page"
  for folder in /proc/[0-9]*; do
    [ "$folder" = "/proc/$$" ] || process "${folder#/proc/}" "$folder"
  done
  if [ $((n % 20)) = 1 ]; then
    while read -r name value; do
      [ "$name" = Cpus_allowed_list: ] && line="$line cpus=$value"
    done < "/proc/$main/status"
  fi
  counters oom /sys/fs/cgroup/memory.events oom_kill
  counters oom /sys/fs/cgroup/memory/memory.oom_control oom_kill
  counters cpu /sys/fs/cgroup/cpu.stat "nr_throttled throttled_usec"
  counters cpu /sys/fs/cgroup/cpu/cpu.stat "nr_throttled throttled_time"
  pressure
  [ "$port" = 0 ] || traffic
  echo "$line ."
}
n=0
tries=0
while :; do
  "$@" &
  main=$!
  while [ -d "/proc/$main" ]; do
    n=$((n + 1))
    sample 2>/dev/null
    if [ $n -lt 50 ]; then sleep 0.1 & else sleep 0.5 & fi
    wait $!  # a signal interrupts this at once, and a sleep in the foreground not at all
  done
  status=0
  wait "$main" || status=$?
  tries=$((tries + 1))
  # A server that is slow to begin refuses a client's streams.
  if [ "$port" = 0 ] || [ $status = 0 ] || [ $n -ge 50 ] || [ $tries -ge 5 ]; then exit $status; fi
  sleep 0.5
done
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: the node's uptime, the program's pid, its processes by pid with parents, and counters by name.

    ``cpus`` are those it may run on, where the line says; ``connections`` the local ports of those to its port.
    """

    uptime_s: float
    main: int
    workers: Mapping[int, WorkerReading]
    parents: Mapping[int, int]
    cpus: frozenset[int] = frozenset()
    listens: bool = False
    connections: frozenset[int] = frozenset()
    sent_bytes: int | None = None
    retransmits: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self.main in self.workers

    @property
    def pressure_us(self) -> dict[str, int]:
        """The node's pressure stall totals by name, empty where the kernel keeps none."""
        named = {name[4:]: value for name, value in self.counters.items() if name.startswith("psi.")}
        return {name: value for name, value in named.items() if name != "cpu.full"}  # undefined for a whole node

    @property
    def throttled_s(self) -> float | None:
        """How long the pod's quota has held it back so far, None where that is not told."""
        if "cpu.throttled_usec" in self.counters:
            return self.counters["cpu.throttled_usec"] / 1e6
        return self.counters["cpu.throttled_time"] / 1e9 if "cpu.throttled_time" in self.counters else None

    @property
    def oom_kills(self) -> int:
        """How many processes of the pod the kernel has killed for want of memory so far."""
        return self.counters.get("oom.oom_kill", 0)

    def reading(self, stressor: Stressor, offset_s: float = 0.0) -> StressorReading:
        """Return it as a reading of a stressor, at our monotonic time, which is ``offset_s`` ahead of the uptime."""
        alive = self.alive
        chosen = self._descendants() if stressor.workers else {self.main} & self.workers.keys()
        traffic = None
        if stressor.streams and self.sent_bytes is not None:
            traffic = Traffic(self.connections, self.sent_bytes, self.retransmits)
        workers = {pid: self.workers[pid] for pid in sorted(chosen)} if alive else {}
        return StressorReading(stressor, self.main, alive, self.uptime_s + offset_s, workers, traffic)

    def _descendants(self) -> set[int]:
        found: set[int] = {self.main}
        while more := {pid for pid, parent in self.parents.items() if parent in found} - found:
            found |= more
        return found - {self.main}


def read_log(text: str) -> list[Sample]:
    """Return the samples of a log, in order; what else is in it, and a line that is cut off, is passed over."""
    samples: list[Sample] = []
    cpus: frozenset[int] = frozenset()
    for line in text.splitlines():
        if line.startswith(f"{_MARK} ") and line.endswith(" ."):
            try:
                sample = _sample(line.split()[1:-1], cpus)
            except (ValueError, IndexError, KeyError):
                continue
            cpus = sample.cpus
            samples.append(sample)
    return samples


def _sample(words: Iterable[str], cpus: frozenset[int]) -> Sample:
    values: dict[str, list[str]] = {}
    for word in words:
        name, _, value = word.partition("=")
        values.setdefault(name, []).append(value)
    if "cpus" in values:
        cpus = parse_cpu_list(values["cpus"][0])
    page = int(values["page"][0])
    workers, parents = {}, {}
    for row in values.get("w", ()):
        pid, parent, state, started, run, wait, pages = row.split(":")
        number = int(pid)
        parents[number] = int(parent)
        seconds = int(run) / 1e9, int(wait) / 1e9
        workers[number] = WorkerReading(number, int(started), cpus, *seconds, int(pages) * page, state == "S")
    sent = [tuple(map(int, row.split(":"))) for row in values.get("tx", ())]
    return Sample(
        uptime_s=float(values["up"][0]),
        main=int(values["main"][0]),
        workers=workers,
        parents=parents,
        cpus=cpus,
        listens="listens" in values,
        connections=frozenset(int(port, 16) for port in values.get("to", ())),
        sent_bytes=sum(size - _FRAME_BYTES * packets for size, packets in sent) if sent else None,
        retransmits=int(values["retrans"][0]) if "retrans" in values else 0,
        counters={name: int(found[0]) for name, found in values.items() if "." in name},
    )
