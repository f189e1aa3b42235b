"""Requests lost while an app is deployed and scaled again and again under a steady load.

python benchmarks/no_request_lost.py [--rounds 20] [--rate 200]
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

import harness

PATIENCE = 35.0  #: seconds a client waits for its answer


class Load:
    """Requests at a steady rate, each on a connection of its own, whatever becomes of those before."""

    def __init__(self, port: int, host: str, *, rate: float) -> None:
        self._port = port
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        self._pause = 1 / rate
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def run(self, until: asyncio.Event) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not until.is_set():
                group.create_task(self._one())
                due += self._pause
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self) -> None:
        start = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._request)
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
            return
        self.outcomes[answer.split(b"\r\n", 1)[0].decode() or "closed without an answer"] += 1
        self.seconds.append(time.monotonic() - start)


async def churn(platform: harness.Platform, repository: harness.Repository, rounds: int) -> None:
    for number in range(rounds):
        repository.commit(f"round {number}")
        await asyncio.to_thread(repository.push)
        await asyncio.to_thread(scale, platform, 1 + number % 3)


def scale(platform: harness.Platform, web: int) -> None:
    platform.scale("bench", web=web)
    harness.eventually(lambda: len(platform.dynos("bench")) == web, within=60, every=0.05)


async def measure(platform: harness.Platform, rounds: int, rate: float) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        platform.create("bench")
        repository = harness.Repository(
            platform, Path(folder, "app"), app="bench", sample="python-web-worker"
        )
        repository.commit("first")
        await asyncio.to_thread(repository.push)
        load = Load(platform.router, "bench.localhost", rate=rate)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(over))
            await churn(platform, repository, rounds)
            over.set()
    return load


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200)
    options = parser.parse_args()
    with harness.running() as platform:
        load = asyncio.run(measure(platform, options.rounds, options.rate))
    answered = load.outcomes.pop("HTTP/1.1 200 OK", 0)
    harness.report(
        f"{options.rounds} deploys and {options.rounds} scales under {options.rate:g} requests/s",
        [
            ("answered 200", str(answered), "all"),
            ("lost", f"{load.outcomes.total()} {dict(load.outcomes) or ''}", "0"),
            ("median answer", f"{harness.median(load.seconds) * 1000:.1f} ms", "-"),
            ("slowest answer", f"{max(load.seconds) * 1000:.0f} ms", "-"),
        ],
    )


if __name__ == "__main__":
    main()
