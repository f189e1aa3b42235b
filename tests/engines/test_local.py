"""The local engine on this machine, beyond what every engine promises: isolation, slugs, and its own death."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deodar import settings
from deodar.engines import base
from deodar.engines.local import cgroups, mounts
from deodar.engines.local.engine import LocalEngine
from deodar.model import errors
from deodar.model.app import ConfigVars
from deodar.model.formation import MB, DynoSize, size_of

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the local engine needs root"),
]

DEADLINE = 30.0  #: seconds for anything real to happen on a busy machine
UID = 20_001

#: tries what a dyno must not be able to do, and says how far it came
PROBE = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what):
    try:
        return what()
    except OSError as error:
        return os.strerror(error.errno)
def connect(address, port):
    socket.create_connection((address, port), timeout=2).close()
    return "connected"
def call(*numbers):
    return "done" if libc.syscall(*numbers) >= 0 else os.strerror(ctypes.get_errno())
def write(path):
    open(path, "w").close()
    return "written"
routes = [line.split() for line in open("/proc/net/route")]
gateway = next(bytes.fromhex(route[2])[::-1] for route in routes if route[1] == "00000000")
gateway, peer, port = socket.inet_ntoa(gateway), os.environ["PEER"], int(os.environ["HOST_PORT"])
print(json.dumps({
    "the machine": attempt(lambda: connect(gateway, port)),
    "another dyno": attempt(lambda: connect(peer, 5000)),
    "metadata": attempt(lambda: connect("169.254.169.254", 80)),
    "itself": attempt(lambda: connect(socket.gethostname(), 1)),
    "a user namespace": call(272, 0x10000000),
    "clone into one": call(56, 0x10000000 | 17, 0, 0, 0, 0),
    "clone3": call(435, 0, 0),
    "mount": call(165, 0, 0, 0, 0, 0),
    "ptrace": call(101, 0, 0, 0, 0),
    "bpf": call(321, 0, 0, 0),
    "packets": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "becoming root": attempt(lambda: os.setuid(0)),
    "the stack": attempt(lambda: write("/usr/x")),
    "sysctl": attempt(lambda: write("/proc/sys/net/ipv4/ip_forward")),
    "a device": attempt(lambda: os.mknod("/app/disk", 0o60666, os.makedev(8, 0))),
    "/app": attempt(lambda: write("/app/x")),
    "/tmp": attempt(lambda: write("/tmp/x")),
    "who": [os.getuid(), os.getgid(), os.getgroups()],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
}))
"""


class Ground:
    """A data directory with a stack, and the engines on it."""

    def __init__(self, data: Path, stack: Path) -> None:
        self.paths = settings.Paths(data=data)
        self.subnet = f"10.{random.randrange(200, 250)}.{random.randrange(256)}.0/24"
        for variant in ("run", "build"):
            folder = self.paths.stacks / "deodar-12" / variant
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(stack)
        self.name = f"deodar-{hashlib.sha256(bytes(data)).hexdigest()[:6]}"
        self.engine = self.another()

    def another(self) -> LocalEngine:
        return LocalEngine(paths=self.paths, subnet=self.subnet)

    async def anew(self) -> LocalEngine:
        """The engine's process ended, and another one began."""
        await self.engine.close()
        self.engine = self.another()
        await self.engine.prepare()
        return self.engine

    def leftovers(self) -> list[str]:
        """All that an engine may have on the machine outside its data directory."""
        prefix = f"dd{self.name[-6:]}-"
        found = cgroups.detect(mounts.of_the_machine())
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
        return [
            *(n for n in os.listdir("/sys/class/net") if n.startswith(prefix)),
            *(str(r / self.name) for r in found.legacy.values() if (r / self.name).exists()),
            *(m.point for m in mounts.parse(mounts.of_the_machine()) if self._ours(m.point)),
            *(line for line in tables.stdout.splitlines() if self.name[-6:] in line),
            *([f"/run/{self.name}"] if Path("/run", self.name).exists() else []),
            *_processes_with(str(self.paths.data)),
        ]

    def _ours(self, point: str) -> bool:
        return Path(point).is_relative_to(self.paths.data)


def _processes_with(text: str) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if text in line:
                yield line


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ground(
    stack_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    async with cleared(Ground(tmp_path_factory.mktemp("local") / "data", stack_root)) as ground:
        yield ground


@asynccontextmanager
async def cleared(ground: Ground) -> AsyncIterator[Ground]:
    """Whatever becomes of the test, nothing of it stays on the machine."""
    try:
        await ground.engine.prepare()
        yield ground
    finally:
        await (await ground.anew()).teardown()
        await ground.engine.close()
    assert ground.leftovers() == []
    shutil.rmtree(ground.paths.data)


def bash(command: str, **changes: Any) -> base.Spec:
    spec = base.Spec(
        id=str(uuid.uuid4()),
        app_id="app",
        name="web.1",
        uid=UID,
        argv=("bash", "-c", command),
        env=ConfigVars(PATH="/usr/bin:/bin", HOME="/app"),
        stack="deodar-12",
        size=size_of("Basic"),
    )
    return replace(spec, **changes)


async def run(engine: LocalEngine, spec: base.Spec) -> base.Sighting:
    await engine.create(spec)
    return await engine.start(spec.id)


async def finish(engine: LocalEngine, spec: base.Spec) -> tuple[int | None, list[str]]:
    """Its exit status and what it printed, after it ended and was removed."""
    await run(engine, spec)
    async with asyncio.timeout(DEADLINE):
        await engine.wait(spec.id)
    status = (await engine.sightings())[spec.id].exit_status
    lines = [piece.data.decode() for piece in await engine.output(spec.id, 0)]
    await engine.remove(spec.id)
    return status, lines


async def make_slug(engine: LocalEngine, tree: Path, *, name: str) -> str:
    checksum = f"SHA256:{hashlib.sha256(name.encode()).hexdigest()}"
    await engine.keep_slug(await engine.pack_slug(tree, uid=UID), checksum=checksum, uid=UID)
    return checksum


def a_tree(folder: Path) -> Path:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "file").write_text("of the slug\n")
    os.utime(tree / "file", (1_000_000_000, 1_000_000_000))
    return tree


# isolation


async def test_a_dyno_reaches_nothing_that_is_not_its_own(ground: Ground) -> None:
    engine = ground.engine
    peer = bash("python3 -m http.server 5000", port=5000)
    address = (await run(engine, peer)).address
    async with asyncio.timeout(DEADLINE):
        while not await engine.ready(peer.id, 5000):  # noqa: ASYNC110 - it boots
            await asyncio.sleep(0.01)
    with socket.create_server(("0.0.0.0", 0)) as server:
        env = {"PROBE": PROBE, "PEER": address, "HOST_PORT": str(server.getsockname()[1])}
        status, lines = await finish(engine, bash('exec python3 -c "$PROBE"', env=variables(env)))
    await engine.remove(peer.id)
    assert (status, json.loads(lines[0])) == (
        0,
        {
            "the machine": "No route to host",
            "another dyno": "No route to host",
            "metadata": "No route to host",
            "itself": "Connection refused",
            "a user namespace": "Operation not permitted",
            "clone into one": "Operation not permitted",
            "clone3": "Function not implemented",
            "mount": "Operation not permitted",
            "ptrace": "Operation not permitted",
            "bpf": "Operation not permitted",
            "packets": "Address family not supported by protocol",
            "becoming root": "Operation not permitted",
            "the stack": "Read-only file system",
            "sysctl": "Read-only file system",
            "a device": "Operation not permitted",
            "/app": "written",
            "/tmp": "written",
            "who": [UID, UID, []],
            "processes": 2,
        },
    )


async def test_a_dyno_resolves_itself_and_knows_the_machines_authorities(ground: Ground) -> None:
    bundle = Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    spec = bash("id -un; hostname; sha256sum < /etc/ssl/certs/ca-certificates.crt")

    assert await finish(ground.engine, spec) == (
        0,
        [f"u{UID}", "web-1", f"{hashlib.sha256(bundle).hexdigest()}  -"],
    )


async def test_more_memory_than_twice_the_size_is_the_end(ground: Ground) -> None:
    size = DynoSize(name="Tiny", memory=32 * MB, pids=64, shares=256)
    spec = bash("python3 -c 'bytearray(200 << 20)'", size=size)
    await run(ground.engine, spec)
    async with asyncio.timeout(DEADLINE):
        await ground.engine.wait(spec.id)

    sighting = (await ground.engine.sightings())[spec.id]

    assert (sighting.exit_status, sighting.oom_killed) == (137, True)
    assert sighting.peak == pytest.approx(64 * MB, rel=0.05)
    await ground.engine.remove(spec.id)


async def test_no_more_processes_than_the_size_allows(ground: Ground) -> None:
    size = DynoSize(name="Tiny", memory=128 * MB, pids=10, shares=256)
    spec = bash("for i in {1..30}; do sleep 9 & done; wait", size=size)
    await run(ground.engine, spec)
    cgroup = f"/{ground.name}/{spec.id}"
    found = cgroups.detect(mounts.of_the_machine())
    async with asyncio.timeout(DEADLINE):
        while len(found.processes(cgroup)) < 10:  # noqa: ASYNC110 - it forks
            await asyncio.sleep(0.01)
        while not (await ground.engine.usage([spec.id]))[spec.id].forks_refused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await ground.engine.remove(spec.id)

    assert found.processes(cgroup) == set()


@pytest.mark.parametrize(("argv", "status"), [(("nosuch",), 127), (("/etc/passwd",), 126)])
async def test_what_cannot_be_run_ends_as_a_shell_would_say(
    ground: Ground, argv: tuple[str, ...], status: int
) -> None:
    assert (await finish(ground.engine, bash("", argv=argv)))[0] == status


async def test_sigterm_reaches_every_process_once(ground: Ground) -> None:
    script = """
        hear() {
            echo $0 got it
            # bash's own wait may come back too early within a trap, and with the parent all would end
            if [ $0 = child ]; then touch /tmp/heard; else until [ -e /tmp/heard ]; do sleep 0.01; done; fi
            exit 0
        }
        trap hear TERM
        [ $0 = child ] || bash -c "$SCRIPT" child &
        echo $0 is ready
        while :; do sleep 0.05; done
    """
    spec = bash("", argv=("bash", "-c", script, "parent"), env=variables({"SCRIPT": script}))
    await run(ground.engine, spec)
    async with asyncio.timeout(DEADLINE):
        while len(await ground.engine.output(spec.id, 0)) < 2:  # noqa: ASYNC110 - they boot
            await asyncio.sleep(0.01)

    await ground.engine.signal(spec.id, signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        await ground.engine.wait(spec.id)

    said = [piece.data.decode() for piece in await ground.engine.output(spec.id, 0)]
    assert sorted(line for line in said if "got it" in line) == ["child got it", "parent got it"]
    await ground.engine.remove(spec.id)


async def test_a_terminal_has_the_size_it_was_given(ground: Ground) -> None:
    spec = bash("stty size; read line; stty size", terminal=True, keep_output=False)
    await ground.engine.create(spec)
    peer = await ground.engine.attach(spec.id)
    await peer.resize(33, 101)
    await ground.engine.start(spec.id)
    first = await peer.read()
    await peer.resize(44, 102)
    await peer.write(b"\n")
    rest = b""
    while data := await peer.read():
        rest += data

    assert (first, rest) == (b"33 101\r\n", b"\r\n44 102\r\n")
    await peer.close()
    await ground.engine.remove(spec.id)


async def test_a_build_runs_in_the_build_stack_with_its_volumes(
    ground: Ground, tmp_path: Path
) -> None:
    os.chown(tmp_path, UID, UID)
    volume = base.Volume(source=tmp_path, target="/app", writable=True)
    spec = bash("echo made > result", build=True, volumes=(volume,))

    assert await finish(ground.engine, spec) == (0, [])
    assert (tmp_path / "result").read_text() == "made\n"


# slugs


async def test_a_slug_is_the_apps_own_and_what_a_dyno_writes_over_it_goes_with_it(
    ground: Ground, tmp_path: Path
) -> None:
    checksum = await make_slug(ground.engine, a_tree(tmp_path), name="shared")
    command = "cat file; stat -c '%U %Y' file; echo changed > file; cat file"

    first = await finish(ground.engine, bash(command, slug=checksum))
    second = await finish(ground.engine, bash(command, slug=checksum))

    assert first == second == (0, ["of the slug", f"u{UID} 1000000000", "changed"])


async def test_a_damaged_image_is_r17_when_it_is_first_used(ground: Ground, tmp_path: Path) -> None:
    checksum = await make_slug(ground.engine, a_tree(tmp_path), name="damaged")
    image = next(ground.paths.slugs.glob(f"{checksum[7:]}-{UID}.*fs"))
    expected = hashlib.sha256(image.read_bytes()).hexdigest()
    with image.open("r+b") as file:
        file.seek(2000)
        file.write(b"damage")
    actual = hashlib.sha256(image.read_bytes()).hexdigest()

    with pytest.raises(errors.EngineFailed) as raised:
        await ground.engine.create(bash("true", slug=checksum))

    assert raised.value.message == (
        "Error R17 (Checksum error) -> Checksum does match expected. "
        f"Expected: SHA256:{expected} Actual: SHA256:{actual}"
    )


def make_archive(ground: Ground, tree: Path) -> tuple[Path, str]:
    draft = ground.paths.slugs / "draft.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", draft, "-C", tree, "."], check=True)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    return draft.rename(ground.paths.slugs / f"{digest}.tar.zst"), digest


async def test_a_slug_of_which_there_is_only_the_archive_is_unpacked(
    ground: Ground, tmp_path: Path
) -> None:
    _, digest = make_archive(ground, a_tree(tmp_path))

    ran = await finish(ground.engine, bash("cat file", slug=f"SHA256:{digest}"))

    assert ran == (0, ["of the slug"])


async def test_a_damaged_archive_is_r17(ground: Ground, tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    (tree / "more").write_text("more")
    archive, digest = make_archive(ground, tree)
    with archive.open("ab") as file:
        file.write(b"damage")

    with pytest.raises(errors.EngineFailed, match=f"^Error R17 .*Expected: SHA256:{digest}"):
        await ground.engine.create(bash("true", slug=f"SHA256:{digest}"))


async def test_a_forgotten_slug_takes_no_room(ground: Ground, tmp_path: Path) -> None:
    checksum = await make_slug(ground.engine, a_tree(tmp_path), name="forgotten")
    await finish(ground.engine, bash("true", slug=checksum))

    await ground.engine.forget_slug(checksum)

    assert [
        *ground.paths.data.glob(f"*/*{checksum[7:]}*"),
        *ground.paths.data.glob(f"*/*/*{checksum[7:]}*"),
    ] == []


# its own death, and the machine's


async def test_after_a_reboot_containers_are_seen_as_lost_and_can_be_removed(
    ground: Ground,
) -> None:
    spec = bash("echo before; sleep 100")
    await run(ground.engine, spec)
    async with asyncio.timeout(DEADLINE):
        while not await ground.engine.output(spec.id, 0):  # noqa: ASYNC110 - it boots
            await asyncio.sleep(0.01)
    await ground.engine.close()
    record = ground.paths.run / "containers" / spec.id / "record.json"
    written = json.loads(record.read_text())
    record.write_text(json.dumps(written | {"boot": "another"}))
    # what a reboot would have ended
    os.kill(written["supervisor"], signal.SIGKILL)
    cgroup = f"/{ground.name}/{spec.id}"
    cgroups.detect(mounts.of_the_machine()).kill(cgroup)

    engine = await ground.anew()

    sighting = (await engine.sightings())[spec.id]
    assert (sighting.running, sighting.exit_status, sighting.address) == (False, None, None)
    assert [piece.data for piece in await engine.output(spec.id, 0)] == [b"before"]
    await engine.remove(spec.id)
    assert spec.id not in await engine.sightings()


async def test_when_a_supervisor_is_killed_its_container_goes_too(ground: Ground) -> None:
    spec = bash("sleep 100")
    await run(ground.engine, spec)
    folder = ground.paths.run / "containers" / spec.id
    os.kill(int((folder / "supervisor").read_text()), signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        await ground.engine.wait(spec.id)

    sighting = (await ground.engine.sightings())[spec.id]

    assert (sighting.running, sighting.exit_status) == (False, None)
    await ground.engine.remove(spec.id)


MAKE = """
import asyncio, sys
from pathlib import Path
from deodar import settings
from deodar.engines import base
from deodar.engines.local.engine import LocalEngine
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of
async def main(data, subnet):
    engine = LocalEngine(paths=settings.Paths(data=Path(data)), subnet=subnet)
    await engine.prepare()
    print("ready", flush=True)
    for number in range(100):
        spec = base.Spec(
            id=f"doomed-{number}", app_id="app", name="web.1", uid=20001, argv=("sleep", "100"),
            env=ConfigVars(PATH="/bin"), stack="deodar-12", size=size_of("Basic"),
        )
        await engine.create(spec)
        await engine.start(spec.id)
        await engine.remove(spec.id)
asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_at_any_moment_it_leaves_nothing_that_the_next_one_does_not_find(
    stack_root: Path, tmp_path: Path
) -> None:
    async with cleared(Ground(tmp_path / "data", stack_root)) as ground:
        for pause in (0.0, 0.008, 0.02, 0.035, 0.06, 0.09):
            await ground.engine.close()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", MAKE, str(ground.paths.data), ground.subnet),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            await process.stdout.readline()
            await asyncio.sleep(pause)
            process.kill()
            await process.wait()

            engine = await ground.anew()

            for container_id in list(await engine.sightings()):
                await engine.remove(container_id)
            containers = list((ground.paths.run / "containers").iterdir())
            assert (containers, list(_processes_with("doomed-"))) == ([], [])


async def test_teardown_leaves_nothing_outside_the_data_directory(
    stack_root: Path, tmp_path: Path
) -> None:
    async with cleared(Ground(tmp_path / "data", stack_root)) as ground:
        checksum = await make_slug(ground.engine, a_tree(tmp_path), name="any")
        await run(ground.engine, bash("sleep 100", slug=checksum))
        await ground.engine.create(bash("true", slug=checksum))
        before = len(ground.leftovers())

        await ground.engine.teardown()

        assert (before > 5, ground.leftovers()) == (True, [])


async def test_a_subnet_that_the_machine_uses_is_refused(stack_root: Path, tmp_path: Path) -> None:
    async with cleared(Ground(tmp_path / "data", stack_root)) as ground:
        engine = LocalEngine(paths=ground.paths, subnet="127.0.0.0/16")

        with pytest.raises(errors.EngineFailed, match="Set DEODAR_SUBNET"):
            await engine.prepare()

        await engine.close()


def variables(more: dict[str, Any]) -> ConfigVars:
    return ConfigVars({"PATH": "/usr/bin:/bin", "HOME": "/app"} | more)


async def test_what_a_start_left_that_failed_early_can_be_taken_down(tmp_path: Path) -> None:
    engine = LocalEngine(paths=settings.Paths(data=tmp_path / "data"), subnet="10.250.0.0/16")
    await engine.find()
    await engine.teardown()
    await engine.close()

    left = [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(tmp_path) in line
    ]
    assert left == []
