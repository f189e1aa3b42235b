"""Second processes in a container of the local engine: how they are confined, and what their commands are."""

import asyncio
import json
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deodar import settings
from deodar.engines import base
from deodar.engines.local import commands, execution
from deodar.engines.local.engine import LocalEngine
from deodar.model import errors
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of

UID = 20_001
DEADLINE = 10.0
LISTEN = """
import select, socket
servers = [socket.create_server((host, port)) for host, port in (("127.0.0.1", 7000), ("", 7001))]
while True:
    for server in select.select(servers, [], [])[0]:
        connection, _ = server.accept()
        connection.sendall(f"{connection.getpeername()[0]}\\n".encode())
        connection.close()
"""
DESCRIBE = """
import json, os, pathlib
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "who": [os.getuid(), os.getgid(), os.getgroups()],
    "rights": [status[key].split()[0] for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")],
    "folder": os.getcwd(),
    "umask": status["Umask"].strip(),
    "oom score": int(pathlib.Path("/proc/self/oom_score_adj").read_text()),
    "cgroup": {line.rpartition("/")[2].strip() for line in open("/proc/self/cgroup")
               if ":memory:" in line or ":pids:" in line or line.startswith("0::/d")}.pop(),
}))
"""


def test_a_process_differs_from_the_containers_own_in_what_it_runs_only() -> None:
    own = {
        "terminal": True,
        "user": {"uid": UID},
        "args": ["/usr/bin/tini", "--", "bash"],
        "env": ["PATH=/bin", "TERM=dumb", "SUM=1+1=2"],
        "cwd": "/app",
        "noNewPrivileges": True,
        "oomScoreAdj": 500,
    }
    config = {"ociVersion": "1.0.2", "process": own}

    piped = execution.process(config, ("ls", "-l"), env={}, terminal=None)
    shown = execution.process(config, ("bash",), env={"TERM": "xterm"}, terminal=(24, 80))

    assert piped == own | {"args": ["ls", "-l"], "terminal": False}
    assert shown == own | {
        "args": ["bash"],
        "env": ["PATH=/bin", "TERM=xterm", "SUM=1+1=2"],
        "consoleSize": {"height": 24, "width": 80},
    }


def test_the_command_names_all_that_it_needs() -> None:
    runtime = commands.Runtime(path="/usr/bin/crun", root=Path("/run/d/oci"))
    folder = Path("/run/d/exec/x")

    lines = [
        " ".join(commands.execute("dyno", runtime, folder=folder, terminal=terminal, oom_score=500))
        for terminal in (False, True)
    ]

    crun = "choom --adjust 500 -- /usr/bin/crun --root=/run/d/oci --cgroup-manager=cgroupfs exec"
    files = "--pid-file /run/d/exec/x/pid --process /run/d/exec/x/process.json dyno"
    assert lines == [
        f"{crun} {files}",
        f"{crun} --tty --console-socket=/run/d/exec/x/console {files}",
    ]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(
    stack_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalEngine]:
    if os.geteuid() != 0:
        pytest.skip("the local engine needs root")
    paths = settings.Paths(data=tmp_path_factory.mktemp("exec"))
    folder = paths.stacks / "deodar-12"
    folder.mkdir(parents=True)
    (folder / "run").symlink_to(stack_root)
    subnet = f"10.{random.randrange(200, 250)}.{random.randrange(256)}.0/24"
    made = LocalEngine(paths=paths, subnet=subnet)
    await made.prepare()
    try:
        yield made
    finally:
        await made.teardown()
        await made.close()


async def start(engine: LocalEngine, *argv: str) -> str:
    spec = base.Spec(
        id=str(uuid.uuid4()),
        app_id="app",
        name="web.1",
        uid=UID,
        argv=argv,
        env=ConfigVars(PATH="/usr/bin:/bin", HOME="/app"),
        stack="deodar-12",
        size=size_of("Basic"),
    )
    await engine.create(spec)
    await engine.start(spec.id)
    return spec.id


async def all_of(process: base.Process) -> bytes:
    said = b""
    async with asyncio.timeout(DEADLINE):
        while data := await process.read():
            said += data
    return said


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("terminal", [None, (24, 80)])
async def test_it_may_do_no_more_than_the_containers_own(
    engine: LocalEngine, terminal: tuple[int, int] | None
) -> None:
    container = await start(engine, "sleep", "1000")

    async with engine.exec(
        container, ("python3", "-c", DESCRIBE), env={}, terminal=terminal
    ) as process:
        seen = json.loads(await all_of(process))

    assert seen == {
        "who": [UID, UID, []],
        "rights": ["0" * 16, "0" * 16, "1", "2"],
        "folder": "/app",
        "umask": "0022",
        "oom score": 500,
        "cgroup": container,
    }


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_of_it_is_left_on_the_machine(engine: LocalEngine) -> None:
    container = await start(engine, "sleep", "1000")
    folder = Path("/run") / engine._name / "exec"

    async with engine.exec(container, ("sleep", "1000"), env={}, terminal=(24, 80)):
        during = len(list(folder.iterdir()))

    assert (during, list(folder.iterdir())) == (1, [])


@pytest.mark.asyncio(loop_scope="module")
async def test_no_byte_of_a_terminal_is_lost_at_the_end(engine: LocalEngine) -> None:
    container = await start(engine, "sleep", "1000")

    async with engine.exec(container, ("seq", "100000"), env={}, terminal=(24, 80)) as process:
        said = await all_of(process)

    assert said == b"".join(b"%d\r\n" % number for number in range(1, 100_001))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("terminal", [None, (24, 80)])
async def test_a_command_that_is_not_there_ends_at_once_and_the_reason_is_told(
    engine: LocalEngine, terminal: tuple[int, int] | None
) -> None:
    container = await start(engine, "sleep", "1000")

    async with engine.exec(container, ("no-such-thing",), env={}, terminal=terminal) as process:
        said = await all_of(process) + await process.read_errors()
        status = await process.wait()

    assert (b"`no-such-thing` not found" in said, status) == (True, 255)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_listens_inside_is_reached_and_the_machine_is_not(engine: LocalEngine) -> None:
    container = await start(engine, "python3", "-c", LISTEN)
    async with asyncio.timeout(DEADLINE):
        while not await engine.ready(container, 7001):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    address = (await engine.sightings())[container].address
    assert address is not None

    peers = [
        await heard(await engine.dial(container, host, port))
        for host, port in (
            ("localhost", 7000),
            ("0.0.0.0", 7001),
            ("127.0.0.1", 7000),
            (address, 7001),
            ("web-1", 7001),
        )
    ]

    assert peers == [b"127.0.0.1\n"] * 3 + [f"{address}\n".encode()] * 2
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        pytest.raises(errors.EngineFailed, match=r"Cannot connect to 127\.0\.0\.1"),
    ):
        await engine.dial(container, "127.0.0.1", ours.getsockname()[1])


async def heard(connection: socket.socket) -> bytes:
    with connection:
        async with asyncio.timeout(DEADLINE):
            return await asyncio.get_running_loop().sock_recv(connection, 100)
