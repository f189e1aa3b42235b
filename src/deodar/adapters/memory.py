"""How much of this machine's memory is free, as its kernel says."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available() -> float:
    """The share of memory that can be had without swapping."""
    return share(MEMINFO.read_text())


def share(meminfo: str) -> float:
    rows = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(rows["MemAvailable"].split()[0]) / int(rows["MemTotal"].split()[0])
