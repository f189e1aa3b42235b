"""What the control plane itself takes with 20 apps of two dynos each: memory, and CPU when all is quiet.

python benchmarks/control_plane.py
"""

import tempfile
import time
from pathlib import Path

import harness
import httpx
import psutil

APPS = 20
QUIET = 30  #: seconds


def main() -> None:
    with harness.running() as platform, tempfile.TemporaryDirectory() as folder:
        for number in range(APPS):
            name = f"bench-{number}"
            platform.create(name)
            repository = harness.Repository(
                platform, Path(folder, name), app=name, sample="python-web-worker"
            )
            repository.commit("first")
            repository.push()
            platform.scale(name, web=1, worker=1)
        harness.eventually(lambda: dynos(platform) == 2 * APPS, within=60, every=0.2)
        daemon = psutil.Process(platform.daemon())
        before = daemon.cpu_times()
        time.sleep(QUIET)
        after = daemon.cpu_times()
        memory = daemon.memory_info().rss
        restarted = restart(platform)
    used = (after.user + after.system - before.user - before.system) / QUIET
    harness.report(
        f"The control plane with {APPS} apps and {2 * APPS} dynos",
        [
            ("resident memory", f"{memory / 1e6:.0f} MB", "≤ 150 MB"),
            (
                f"CPU, quiet for {QUIET} s (workers log a line now and then)",
                f"{used:.2%} of a core",
                "≤ 2 %",
            ),
            ("kill -9 → API answers again", f"{restarted:.2f} s", "≤ 2 s"),
        ],
    )


def dynos(platform: harness.Platform) -> int:
    return sum(len(platform.dynos(f"bench-{number}")) for number in range(APPS))


def restart(platform: harness.Platform) -> float:
    """Seconds from the kill of the control plane until its successor answers."""
    psutil.Process(platform.daemon()).kill()
    start = time.monotonic()
    harness.start(platform.env)
    harness.eventually(lambda: answers(platform), within=30)
    return time.monotonic() - start


def answers(platform: harness.Platform) -> bool:
    try:
        return platform.api.get("/account").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
