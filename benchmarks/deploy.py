"""How long a push with nothing new in requirements takes, and how long ten more dynos do.

python benchmarks/deploy.py
"""

import tempfile
import time
from pathlib import Path

import harness

PUSHES = 5
SCALES = 3


def main() -> None:
    with harness.running() as platform, tempfile.TemporaryDirectory() as folder:
        platform.create("bench")
        repository = harness.Repository(
            platform, Path(folder, "app"), app="bench", sample="python-web-worker"
        )
        repository.commit("first")
        first = timed_push(repository)
        later = []
        for number in range(PUSHES):
            repository.commit(f"change {number}")
            later.append(timed_push(repository))
        slugs_before = images(platform)
        scales = [scale_out(platform) for _ in range(SCALES)]
        extracted = len(images(platform) - slugs_before)
    harness.report(
        "Deploying python-web-worker",
        [
            ("first push", f"{first:.2f} s", "-"),
            (
                f"push, requirements unchanged (median of {PUSHES})",
                f"{harness.median(later):.2f} s",
                "≤ 4 s",
            ),
            (
                f"ps:scale web=1→11, all answering (median of {SCALES})",
                f"{harness.median(scales):.2f} s",
                "≤ 5 s",
            ),
            ("slug images made by scaling", str(extracted), "0"),
        ],
    )


def timed_push(repository: harness.Repository) -> float:
    start = time.monotonic()
    told = repository.push()
    taken = time.monotonic() - start
    if "Verifying deploy... done." not in told:
        raise RuntimeError(told)
    return taken


def scale_out(platform: harness.Platform) -> float:
    start = time.monotonic()
    platform.scale("bench", web=11)
    harness.eventually(lambda: up(platform) == 11, within=60)
    taken = time.monotonic() - start
    platform.scale("bench", web=1)
    harness.eventually(lambda: len(platform.dynos("bench")) == 1, within=60)
    return taken


def up(platform: harness.Platform) -> int:
    return sum(dyno["state"] == "up" for dyno in platform.dynos("bench"))


def images(platform: harness.Platform) -> set[Path]:
    return set((platform.data / "slugs").iterdir())


if __name__ == "__main__":
    main()
