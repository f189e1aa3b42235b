"""HAProxy, really run on loopback: what it must do for the platform, whichever version it is."""

import asyncio
import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy, process
from deodar.adapters.haproxy.config import REQUESTS_LIMIT
from deodar.adapters.haproxy.table import Mode, Seen, Server, Slot, Table, Tuning
from deodar.model import errors
from deodar.settings import Paths, Ports, Settings
from tests.web import Web, free_ports


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders have long names, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="dd") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def settings(folder: Path) -> Settings:
    http, https = free_ports(2)
    return Settings(
        paths=Paths(data=folder),
        ports=Ports(http=http, https=https),
        haproxy=os.environ.get("DEODAR_HAPROXY"),
    )


@pytest.fixture
def authority(folder: Path) -> ca.Authority:
    return ca.Authority(folder / "ca")


@pytest.fixture
def table(authority: ca.Authority) -> Table:
    return Table(certificates={"localhost": authority.leaf("localhost").path.read_text()})


@pytest.fixture
async def haproxy(settings: Settings, table: Table) -> AsyncIterator[Haproxy]:
    haproxy = Haproxy(settings)
    await haproxy.start(table)
    yield haproxy
    await haproxy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_the_request_log_is_in_bounded_memory_until_haproxy_is_stopped(
    haproxy: Haproxy,
) -> None:
    memory = haproxy.layout.memory
    room = os.statvfs(memory)

    assert os.path.ismount(memory)
    assert haproxy.layout.requests.resolve() == memory / "requests.log"
    assert room.f_blocks * room.f_frsize == REQUESTS_LIMIT
    await haproxy.stop()
    assert not os.path.ismount(memory)


async def test_where_nothing_can_be_mounted_the_request_log_is_on_disk(
    settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    haproxy = Haproxy(settings)
    monkeypatch.setenv("PATH", str(settings.paths.data))  # no mount there
    await haproxy.start(table)

    assert haproxy.layout.requests.is_file()
    assert not haproxy.layout.requests.is_symlink()
    await haproxy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_a_request_log_of_an_older_version_gives_way_to_one_in_memory(
    settings: Settings, table: Table
) -> None:
    haproxy = Haproxy(settings)
    haproxy.layout.run.mkdir(parents=True)
    haproxy.layout.requests.write_text("a line of an older version\n")
    await haproxy.start(table)

    assert haproxy.layout.requests.resolve().parent == haproxy.layout.memory
    await haproxy.stop()


async def test_a_haproxy_that_died_is_followed_by_one_that_keeps_its_request_log(
    haproxy: Haproxy, settings: Settings, table: Table
) -> None:
    before = haproxy.layout.requests.read_bytes() + b"a line that nobody has read\n"
    haproxy.layout.requests.write_bytes(before)
    pids = [await haproxy.runtime.pid(), int(haproxy.layout.pid.read_text())]
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    await haproxy.gone()
    await haproxy.start(table)
    port = settings.ports.http
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await get(client, "nobody.localhost")

    assert haproxy.layout.requests.read_bytes().startswith(before)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:
        yield client


async def get(client: httpx.AsyncClient, host: str, **headers: str) -> httpx.Response:
    return await client.get("/", headers={"Host": host, **headers})


async def route(haproxy: Haproxy, host: str, slot: int, *servers: Server) -> None:
    await haproxy.runtime.set_host(host, slot)
    for server in servers:
        await haproxy.runtime.add(slot, server)


async def remove(haproxy: Haproxy, slot: int, name: str) -> None:
    """Drains a server and forgets it, as the routing loop does over several passes."""
    await haproxy.runtime.drain(slot, name)
    async with asyncio.timeout(10):
        while True:
            seen = (await haproxy.runtime.slot(slot)).servers[name]
            if not seen.sessions and await haproxy.runtime.remove(slot, name):
                return
            await asyncio.sleep(0.01)


async def test_a_host_that_no_app_has_is_answered_404(
    haproxy: Haproxy, client: httpx.AsyncClient
) -> None:
    response = await get(client, "nobody.localhost")

    assert response.status_code == 404
    assert "There’s nothing here, yet." in response.text


async def test_a_dyno_that_is_added_answers(haproxy: Haproxy, client: httpx.AsyncClient) -> None:
    await route(haproxy, "one.localhost", 7, await Web("web.1-aaaaaaaa").start())

    response = await get(client, "One.localhost:1234")

    assert (response.status_code, response.text) == (200, "web.1-aaaaaaaa 0")


async def test_a_wildcard_domain_leads_every_name_below_it(
    haproxy: Haproxy, client: httpx.AsyncClient
) -> None:
    await route(haproxy, "*.example.com", 7, await Web("web.1-aaaaaaaa").start())

    assert (await get(client, "any.example.com")).status_code == 200
    assert (await get(client, "example.com")).status_code == 404


async def test_what_haproxy_holds_for_an_app_can_be_read(haproxy: Haproxy) -> None:
    first, second = await Web("web.1-aaaaaaaa").start(), await Web("web.2-bbbbbbbb").start()
    await route(haproxy, "one.localhost", 7, first, second)
    await haproxy.runtime.set_code(7, "H80")
    await haproxy.runtime.drain(7, second.name)

    seen = await haproxy.runtime.slot(7)

    assert seen == Slot(
        hosts=frozenset({"one.localhost"}),
        code="H80",
        servers={
            first.name: Seen(server=first, mode=Mode.READY, sessions=0),
            second.name: Seen(server=second, mode=Mode.DRAIN, sessions=0),
        },
    )


async def test_changes_may_be_repeated(haproxy: Haproxy, client: httpx.AsyncClient) -> None:
    dyno = await Web("web.1-aaaaaaaa").start()
    for _ in range(2):
        await route(haproxy, "one.localhost", 7, dyno)
        await haproxy.runtime.set_code(7, None)
    assert (await get(client, "one.localhost")).status_code == 200

    for _ in range(2):
        await haproxy.runtime.remove_host("one.localhost", 7)
        await haproxy.runtime.drain(7, dyno.name)
        await haproxy.runtime.remove(7, dyno.name)

    assert await haproxy.runtime.slot(7) == Slot()


async def test_a_host_that_went_to_another_app_is_not_taken_from_it(haproxy: Haproxy) -> None:
    await haproxy.runtime.set_host("www.example.com", 7)
    await haproxy.runtime.set_host("www.example.com", 8)

    await haproxy.runtime.remove_host("www.example.com", 7)

    assert (await haproxy.runtime.slot(8)).hosts == {"www.example.com"}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("H10", "Application error"),
        ("H14", "Application error"),
        ("H20", "Application error"),
        ("H80", "Offline for maintenance"),
        ("H81", "Welcome to your new app!"),
    ],
)
async def test_an_h_code_answers_503_with_its_page(
    haproxy: Haproxy, client: httpx.AsyncClient, code: str, words: str
) -> None:
    await route(haproxy, "one.localhost", 7, await Web("web.1-aaaaaaaa").start())
    await haproxy.runtime.set_code(7, code)

    response = await get(client, "one.localhost")

    assert response.status_code == 503
    assert words in response.text
    assert response.headers["cache-control"] == "no-cache, no-store"


async def test_the_dyno_is_told_who_asks_and_how(
    haproxy: Haproxy, client: httpx.AsyncClient, settings: Settings
) -> None:
    dyno = Web("web.1-aaaaaaaa")
    await route(haproxy, "one.localhost", 7, await dyno.start())

    await get(
        client,
        "one.localhost",
        **{"X-Request-ID": "client-chosen-id-0001", "X-Forwarded-For": "192.0.2.7"},
    )

    head = dict(line.split(": ", 1) for line in dyno.heads[0].strip().split("\r\n")[1:])
    started = head.pop("x-request-start")
    assert re.fullmatch(r"\d{13}", started)
    assert {key: value for key, value in head.items() if key.startswith(("x-", "via", "host"))} == {
        "host": "one.localhost",
        "via": "1.1 heroku-router",
        "x-forwarded-for": "192.0.2.7, 127.0.0.1",
        "x-forwarded-port": str(settings.ports.http),
        "x-forwarded-proto": "http",
        "x-request-id": "client-chosen-id-0001",
    }


@pytest.mark.parametrize("given", ["short", "has spaces which are not allowed", "x" * 201])
async def test_a_request_id_that_is_not_valid_is_replaced(
    haproxy: Haproxy, client: httpx.AsyncClient, given: str
) -> None:
    dyno = Web("web.1-aaaaaaaa")
    await route(haproxy, "one.localhost", 7, await dyno.start())

    await get(client, "one.localhost", **{"X-Request-ID": given})

    assert re.search(r"x-request-id: [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\r", dyno.heads[0])


async def test_dynos_come_and_go_under_load_and_no_request_is_lost(
    haproxy: Haproxy, settings: Settings
) -> None:
    await route(haproxy, "one.localhost", 7, await Web("web.1-00000000", delay=0.01).start())
    answers: list[int | str] = []
    over = asyncio.Event()

    async def user() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:
            while not over.is_set():
                try:
                    answers.append((await get(client, "one.localhost")).status_code)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    async with asyncio.TaskGroup() as users:
        for _ in range(10):
            users.create_task(user())
        for number in range(1, 16):
            await haproxy.runtime.add(7, await Web(f"web.1-{number:08d}", delay=0.01).start())
            await remove(haproxy, 7, f"web.1-{number - 1:08d}")
        over.set()

    assert len(answers) > 100
    assert [answer for answer in answers if answer != 200] == []


async def test_a_reload_under_load_loses_no_request(
    haproxy: Haproxy, settings: Settings, table: Table
) -> None:
    dyno = await Web("web.1-aaaaaaaa", delay=0.01).start()
    await route(haproxy, "one.localhost", 7, dyno)
    answers: list[int | str] = []
    over = asyncio.Event()

    async def user() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:
            while not over.is_set():
                try:
                    answers.append((await get(client, "one.localhost")).status_code)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    async with asyncio.TaskGroup() as users:
        for _ in range(10):
            users.create_task(user())
        now = Table(
            hosts={"one.localhost": 7, "far.localhost": 1500},
            servers={7: (dyno,)},
            certificates=table.certificates,
        )
        await haproxy.reload(now)
        over.set()

    assert haproxy.slots == 2000
    assert [answer for answer in answers if answer != 200] == []
    assert (await haproxy.runtime.slot(1500)).hosts == {"far.localhost"}


async def test_an_app_beyond_those_made_tunable_ahead_has_its_wishes_after_a_reload(
    haproxy: Haproxy, table: Table, client: httpx.AsyncClient
) -> None:
    dyno = await Web("web.1-aaaaaaaa").start()
    wishes = Tuning(least=True, affinity=True)
    assert haproxy.tunable == 100

    await haproxy.reload(
        Table(
            hosts={"far.localhost": 150},
            servers={150: (dyno,)},
            tunings={150: wishes},
            certificates=table.certificates,
        )
    )

    assert haproxy.tunable == 200
    assert (await haproxy.runtime.slot(150)).tuning == wishes
    assert "aaaaaaaa" in (await get(client, "far.localhost")).headers["set-cookie"]


async def test_a_server_from_the_table_can_be_removed_like_any_other(
    haproxy: Haproxy, settings: Settings, table: Table
) -> None:
    dyno = await Web("web.1-aaaaaaaa").start()
    await haproxy.reload(Table(servers={7: (dyno,)}, certificates=table.certificates))

    await remove(haproxy, 7, dyno.name)

    assert await haproxy.runtime.slot(7) == Slot()


async def test_the_next_start_adopts_the_haproxy_that_runs(
    haproxy: Haproxy, client: httpx.AsyncClient, settings: Settings, table: Table
) -> None:
    await route(haproxy, "one.localhost", 7, await Web("web.1-aaaaaaaa").start())
    before = await haproxy.runtime.pid()

    ours_started_anew = Haproxy(settings)
    await ours_started_anew.start(table)

    assert await ours_started_anew.runtime.pid() == before
    assert (await ours_started_anew.runtime.slot(7)).hosts == {"one.localhost"}
    assert (await get(client, "one.localhost")).status_code == 200


async def test_another_configuration_is_taken_up_by_a_reload(
    haproxy: Haproxy, settings: Settings, table: Table
) -> None:
    before = await haproxy.runtime.pid()
    haproxy.layout.lua.write_text("-- of an older version")

    await Haproxy(settings).start(table)

    assert await haproxy.runtime.pid() != before


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_a_killed_haproxy_is_noticed_and_started_anew_with_all_it_knew(
    haproxy: Haproxy, client: httpx.AsyncClient, table: Table, victim: str
) -> None:
    dyno = await Web("web.1-aaaaaaaa").start()
    pid = await haproxy.runtime.pid() if victim == "worker" else int(haproxy.layout.pid.read_text())

    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await haproxy.gone()
    await haproxy.start(
        Table(
            hosts={"one.localhost": 7},
            servers={7: (dyno,)},
            certificates=table.certificates,
        )
    )

    assert (await get(client, "one.localhost")).text == "web.1-aaaaaaaa 0"


async def test_a_taken_port_is_named_with_the_process_that_holds_it(
    settings: Settings, table: Table
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", settings.ports.http))
        holder.listen()

        with pytest.raises(errors.RouterFailed) as caught:
            await Haproxy(settings).start(table)

    name = Path("/proc/self/comm").read_text().strip()
    assert caught.value.message == (
        f"The router cannot listen on port {settings.ports.http}: {name} (pid {os.getpid()}) does already. "
        "Stop it, or choose other ports with DEODAR_HTTP_PORT and DEODAR_HTTPS_PORT."
    )


async def test_what_is_no_haproxy_is_refused(settings: Settings, table: Table) -> None:
    with pytest.raises(errors.RouterFailed, match="This is no HAProxy"):
        await Haproxy(replace(settings, haproxy="/bin/echo")).start(table)


async def test_an_old_haproxy_is_refused(folder: Path, settings: Settings, table: Table) -> None:
    old = folder / "haproxy"
    old.write_text("#!/bin/sh\necho 'HAProxy version 2.6.12-1+deb12u2 2025/04/16'\n")
    old.chmod(0o755)

    with pytest.raises(errors.RouterFailed, match=r"is HAProxy 2\.6, which is too old"):
        await Haproxy(replace(settings, haproxy=str(old))).start(table)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
async def test_who_speaks_with_the_world_is_not_root(haproxy: Haproxy) -> None:
    status = Path(f"/proc/{await haproxy.runtime.pid()}/status").read_text()

    assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.MULTILINE)


async def test_a_certificate_that_is_added_is_served_at_once_with_http2(
    haproxy: Haproxy, settings: Settings, authority: ca.Authority
) -> None:
    await route(haproxy, "one.localhost", 7, await Web("web.1-aaaaaaaa").start())
    leaf = authority.leaf("one.localhost")
    for _ in range(2):
        await haproxy.runtime.set_certificate("one.localhost", leaf.path.read_text())

    script = (
        *("curl", "-s", "--http2", "--cacert", str(authority.certificate), "--resolve"),
        *(f"one.localhost:{settings.ports.https}:127.0.0.1", "-w", " %{http_version} %{http_code}"),
        f"https://one.localhost:{settings.ports.https}/",
    )
    curl = await asyncio.create_subprocess_exec(*script, stdout=asyncio.subprocess.PIPE)
    stdout, _ = await curl.communicate()

    assert stdout == b"web.1-aaaaaaaa 0 2 200"


def test_versions_are_read() -> None:
    assert process.version_of("HAProxy version 2.8.25-5cf5d0683 2026/06/26") == (2, 8)
    assert process.version_of("HA-Proxy version 2.6.12-1+deb12u2 2025/04/16") == (2, 6)
