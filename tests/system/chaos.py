"""Faults, caused for real on a platform of its own, and what must hold once each is over.

A fault is a method of Chaos that breaks something and returns; `recovered` then waits until the wish is
reached again and looks whether anything is left behind. Which faults come, and in which order, is for
the test or the script that shakes.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from deodar.engines.local.records import Record, Records
from tests.system.conftest import HEROKU, STACKS
from tests.system.harness import APPS, Platform, Repo, eventually

APP = "shaken"
HOST = f"{APP}.localhost"
RECOVERY = 60  #: seconds in which every wish must be reached again


@contextmanager
def shaken_platform() -> Iterator["Chaos"]:
    """A platform with one app of two web dynos and a worker, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="dc-", dir=os.environ.get("DEODAR_TEST_DATA")))
    folder.chmod(0o711)
    platform = Platform.at(folder, stacks=STACKS, heroku=HEROKU)
    # A dyno that is killed again and again must not rest for ten minutes.
    platform.settings.update(DEODAR_CRASH_FIRST_REST="0.2", DEODAR_CRASH_LAST_REST="0.2")
    platform.settings["DEODAR_SWEEP"] = "2"  # what nobody announces is found by looking
    try:
        platform.up()
        repo = platform.deploy(APP, APPS / "hello", folder / "repo", web=2, worker=1)
        yield Chaos(platform, repo)
    finally:
        platform.down()
        shutil.rmtree(folder)


@dataclass
class Chaos:
    """One app, the faults it is put to, and what must be true of it at any time."""

    platform: Platform
    repo: Repo
    version: str = "one"
    wish: dict[str, int] = field(default_factory=lambda: {"web": 2, "worker": 1})
    pushes: int = 0

    # ---- faults ----

    def kill_the_control_plane(self) -> None:
        self.platform.kill()
        self.platform.up()

    def kill_it_during_a_deploy(self) -> None:
        """The push may have come through or not; the next one must."""
        self._change()
        push = self.repo.start_push()
        time.sleep(self._dice.uniform(0.2, 2.5))
        self.platform.kill()
        push.communicate(timeout=90)
        self.platform.up()
        self.deploy()

    def kill_it_during_a_scale(self) -> None:
        self._scale(web=self._dice.randrange(1, 5), worker=self._dice.randrange(3))
        time.sleep(self._dice.uniform(0, 0.3))
        self.kill_the_control_plane()

    def kill_it_during_a_restart(self) -> None:
        self.platform.api("DELETE", f"/apps/{APP}/dynos")
        time.sleep(self._dice.uniform(0, 0.5))
        self.kill_the_control_plane()

    def deploy(self) -> None:
        self._change()
        pushed = self.repo.push()
        assert pushed.status == 0, pushed.all

    def scale(self) -> None:
        self._scale(web=self._dice.randrange(1, 5), worker=self._dice.randrange(3))

    def restart(self) -> None:
        self.platform.api("DELETE", f"/apps/{APP}/dynos")

    def kill_a_dyno(self) -> None:
        self._kill(self._some_record().init)

    def kill_a_dynos_supervisor(self) -> None:
        self._kill(self._some_record().supervisor)

    def kill_the_router(self) -> None:
        self._kill(int((self.platform.data / "run/haproxy/haproxy.pid").read_text()))

    def remove_a_container_behind_our_back(self) -> None:
        """Its processes, then its folder: nothing tells the platform."""
        record = self._some_record()
        self._kill(record.supervisor)
        self._kill(record.init)
        eventually(lambda: self._is_gone(record.init), within=10)
        with contextlib.suppress(FileNotFoundError):  # the platform was faster
            shutil.rmtree(self.records.folder(record.id))

    def leave_a_container_that_nobody_knows(self) -> None:
        """The record of one that runs is gone from the store."""
        with self._store() as store:
            store.execute("DELETE FROM dynos WHERE id = ?", (self._some_record().id,))

    def lock_the_store(self) -> None:
        """Another process holds the database while a dyno dies."""
        with self._store() as store:
            store.execute("BEGIN EXCLUSIVE")
            self.kill_a_dyno()
            time.sleep(2)
            store.execute("ROLLBACK")

    def reboot(self) -> None:
        """What a machine's restart leaves: files. No process, no mount, no network, no cgroup."""
        self.platform.kill()
        self.kill_the_router()
        for pid in self._pids_below(self.platform.data):
            self._kill(pid)
        for record in self._every_record():
            self._kill(record.init)
        name = self._name()
        eventually(lambda: not any(self._cgroup_pids(name)), within=20)
        for device in self._devices():
            subprocess.run(["ip", "link", "delete", device], check=True)
        subprocess.run(
            ["nft", "delete", "table", "ip", name.replace("-", "_")], capture_output=True
        )
        subprocess.run(["umount", "-l", self.platform.data / "run/ns/mnt"], check=True)
        for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{name}/**/"), reverse=True):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
        shutil.rmtree(Path("/run") / name)
        self.platform.up()

    # ---- what must hold ----

    def recovered(self) -> None:
        """Raises the first thing that is not as it should be, when time is up."""
        eventually(self.check, within=RECOVERY)

    def check(self) -> bool:
        """True; raises AssertionError for the first thing that does not hold."""
        names = {
            f"{kind}.{number}"
            for kind, quantity in self.wish.items()
            for number in range(1, quantity + 1)
        }
        assert self.platform.dynos(APP) == dict.fromkeys(names, "up")
        self._check_ledger()
        for _ in range(4):
            answer = self.platform.get(HOST)
            assert (answer.status, answer.body.split()[0]) == (200, self.version)
        self._check_nothing_is_left(len(names))
        return True

    def _check_ledger(self) -> None:
        releases: list[dict[str, Any]] = self.platform.api("GET", f"/apps/{APP}/releases")
        versions = sorted(each["version"] for each in releases)
        assert versions == list(range(1, len(versions) + 1))
        assert sum(each["current"] for each in releases) == 1
        builds = self.platform.api("GET", f"/apps/{APP}/builds")
        assert "pending" not in {each["status"] for each in builds}

    def _check_nothing_is_left(self, dynos: int) -> None:
        assert len(self.records.ids()) == dynos
        assert len(self._pids_below(self.platform.data, command="conmon")) == dynos
        cgroups = {
            folder.name
            for folder in Path("/sys/fs/cgroup").glob(f"*/{self._name()}/*")
            if folder.is_dir()
        }
        assert cgroups == set(self.records.ids())
        # The pool of networks made ahead is eight.
        assert dynos <= len(self._devices()) <= dynos + 9

    # ---- hands ----

    _dice: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def records(self) -> Records:
        return Records(self.platform.data / "run/containers")

    def _every_record(self) -> list[Record]:
        found = []
        for container_id in self.records.ids():
            with contextlib.suppress(msgspec.DecodeError):
                record = self.records.read(container_id)
                if record is not None:
                    found.append(record)
        return found

    def _some_record(self) -> Record:
        return self._dice.choice(
            eventually(
                lambda: _some(each for each in self._every_record() if each.started), within=30
            )
        )

    def _change(self) -> None:
        self.pushes += 1
        text = (self.repo.folder / "server.py").read_text()
        version = f"v{self.pushes}"
        self.repo.write("server.py", text.replace(f'"{self.version}"', f'"{version}"'))
        self.repo.commit(version)
        self.version = version

    def _scale(self, **wish: int) -> None:
        self.wish = wish
        updates = [{"type": kind, "quantity": quantity} for kind, quantity in wish.items()]
        self.platform.api("PATCH", f"/apps/{APP}/formation", {"updates": updates})

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        store = sqlite3.connect(self.platform.data / "deodar.db", timeout=10, isolation_level=None)
        try:
            yield store
        finally:
            store.close()

    def _kill(self, pid: int | None) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_gone(self, pid: int | None) -> bool:
        assert not Path(f"/proc/{pid}").exists()
        return True

    def _pids_below(self, folder: Path, *, command: str = "") -> list[int]:
        """Processes that were told of a file below `folder` and are not the control plane."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                argv = (process / "cmdline").read_bytes().split(b"\0")
                mine = any(bytes(folder) in word for word in argv)
                if mine and command in os.path.basename(argv[0].decode(errors="replace")):
                    found.append(int(process.name))
        return found

    def _cgroup_pids(self, name: str) -> Iterator[int]:
        for file in Path("/sys/fs/cgroup").glob(f"*/{name}/**/cgroup.procs"):
            with contextlib.suppress(FileNotFoundError):
                yield from map(int, file.read_text().split())

    def _name(self) -> str:
        """What the engine calls all that is not below the data directory."""
        from deodar import settings
        from deodar.engines.local.engine import LocalEngine

        paths = settings.Paths(data=self.platform.data)
        return LocalEngine(paths=paths, subnet="10.0.0.0/16")._name

    def _devices(self) -> list[str]:
        prefix = f"dd{self._name()[-6:]}-"
        return [name for name in os.listdir("/sys/class/net") if name.startswith(prefix)]


def _some(found: Iterator[Record]) -> list[Record]:
    some = list(found)
    assert some, "no dyno runs"
    return some


FAULTS: tuple[Callable[[Chaos], None], ...] = (
    Chaos.kill_the_control_plane,
    Chaos.kill_it_during_a_deploy,
    Chaos.kill_it_during_a_scale,
    Chaos.kill_it_during_a_restart,
    Chaos.deploy,
    Chaos.scale,
    Chaos.restart,
    Chaos.kill_a_dyno,
    Chaos.kill_a_dynos_supervisor,
    Chaos.kill_the_router,
    Chaos.remove_a_container_behind_our_back,
    Chaos.leave_a_container_that_nobody_knows,
    Chaos.lock_the_store,
    Chaos.reboot,
)


def shake(chaos: Chaos, *, seed: int, count: int, tell: Callable[[str], None]) -> None:
    """`count` faults, drawn by `seed`; after each, everything must hold."""
    chaos._dice = random.Random(seed)
    for number in range(1, count + 1):
        fault = chaos._dice.choice(FAULTS)
        start = time.monotonic()
        fault(chaos)
        chaos.recovered()
        tell(f"{number:4}  {time.monotonic() - start:5.1f} s  {fault.__name__.replace('_', ' ')}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Shake a platform and see that it settles.")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.count} faults", flush=True)
    with shaken_platform() as chaos:
        shake(
            chaos,
            seed=options.seed,
            count=options.count,
            tell=lambda line: print(line, flush=True),
        )
    print(f"{options.count} faults, all settled", flush=True)


if __name__ == "__main__":
    main()
