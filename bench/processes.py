"""What processes have used, read from /proc: CPU time and the largest resident size."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 2**20
_PEAK: Final = "VmHWM:"


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and everything that it started, directly or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return user and system time that the processes have used so far."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def machine_cpu_seconds() -> float:
    """Return what all cores have done so far, for anybody; what a host withheld counts, too."""
    times = psutil.cpu_times()
    return sum(
        getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")
    )


def reset_peaks(processes: Iterable[psutil.Process]) -> None:
    """Let the largest resident size be counted anew from here on (proc(5), clear_refs)."""
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def peak_mib(processes: Iterable[psutil.Process]) -> float:
    """Return the largest resident size that any one of the processes had since the reset."""
    return max((_peak_mib(process.pid) for process in processes), default=0.0)


def resident_mib(process: psutil.Process) -> float:
    """Return the present resident size."""
    return float(process.memory_info().rss) / MIB


def _peak_mib(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(_PEAK):
                return int(line.split()[1]) / 1024
    return 0.0
