"""HAProxy's certificates and ACME's questions, really run: what changes while it serves."""

import asyncio
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from deodar.adapters.haproxy import Haproxy, runtime
from deodar.adapters.haproxy.table import Server, Table
from deodar.settings import Paths, Ports, Settings
from tests import pem
from tests.pem import Pair
from tests.tls import shown
from tests.web import Web, free_ports

HOST = "www.example.com"
PLACE = f"{HOST}/.well-known/acme-challenge/abc"
DEFAULT = pem.certificate("localhost")


def joined(pair: Pair) -> str:
    return pair.key + pair.pem


@pytest.fixture
def settings() -> Iterator[Settings]:
    http, https = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="dd") as name:
        Path(name).chmod(0o711)
        yield Settings(
            paths=Paths(data=Path(name)),
            ports=Ports(http=http, https=https),
            haproxy=os.environ.get("DEODAR_HAPROXY"),
        )


@pytest.fixture
async def haproxy(settings: Settings) -> AsyncIterator[Haproxy]:
    haproxy = Haproxy(settings)
    await haproxy.start(Table(certificates={"localhost": joined(DEFAULT)}))
    yield haproxy
    await haproxy.stop()


async def serial(settings: Settings, host: str = HOST) -> int:
    return (await shown(settings.ports.https, host)).serial_number


async def test_a_certificate_is_added_replaced_and_removed_while_it_serves(
    haproxy: Haproxy, settings: Settings
) -> None:
    first, second = pem.certificate(HOST), pem.certificate(HOST)
    pid = await haproxy.runtime.pid()
    seen = []
    for pair in (first, second):
        await haproxy.runtime.set_certificate(HOST, joined(pair))
        seen.append(await serial(settings))
    for _ in range(2):
        await haproxy.runtime.remove_certificate(HOST)
    seen.append(await serial(settings))

    assert seen == [each.certificate.serial_number for each in (first, second, DEFAULT)]
    assert await haproxy.runtime.certified() == {"localhost"}
    assert await haproxy.runtime.pid() == pid


async def test_a_certificate_for_many_names_is_shown_for_its_host_alone(
    haproxy: Haproxy, settings: Settings
) -> None:
    wide = pem.certificate("*.example.com", "www.example.org")

    await haproxy.runtime.set_certificate(HOST, joined(wide))

    assert [
        await serial(settings, host) == wide.certificate.serial_number
        for host in (HOST, "other.example.com", "www.example.org")
    ] == [True, False, False]


async def test_a_wildcard_domain_has_a_certificate_for_every_name_below_it(
    haproxy: Haproxy, settings: Settings
) -> None:
    wide, own = pem.certificate("*.example.com"), pem.certificate(HOST)
    await haproxy.runtime.set_certificate("*.example.com", joined(wide))
    await haproxy.runtime.set_certificate(HOST, joined(own))

    assert [await serial(settings, host) for host in ("any.example.com", HOST)] == [
        wide.certificate.serial_number,
        own.certificate.serial_number,
    ]


@pytest.mark.parametrize("done", range(4))
async def test_a_change_whose_author_was_killed_between_two_commands_is_finished_by_the_next(
    haproxy: Haproxy, settings: Settings, done: int
) -> None:
    pair, other = pem.certificate(HOST), pem.certificate("b.example.com")
    path = haproxy.layout.certificate(HOST)
    commands = (
        runtime.new_certificate(path),
        runtime.set_certificate(path, joined(pair)),
        runtime.commit_certificate(path),
        runtime.list_certificate(haproxy.layout, HOST),
    )
    for command in commands[:done]:
        await runtime.ask(haproxy.layout.admin, command)

    next_process = Haproxy(settings).runtime
    await next_process.set_certificate("b.example.com", joined(other))
    await next_process.set_certificate(HOST, joined(pair))

    assert [await serial(settings, host) for host in (HOST, "b.example.com")] == [
        pair.certificate.serial_number,
        other.certificate.serial_number,
    ]


@pytest.mark.parametrize("done", range(5))
async def test_what_a_killed_process_left_of_a_certificate_is_seen_and_can_be_removed(
    haproxy: Haproxy, settings: Settings, done: int
) -> None:
    path = haproxy.layout.certificate(HOST)
    commands = (
        runtime.new_certificate(path),
        runtime.set_certificate(path, joined(pem.certificate(HOST))),
        runtime.commit_certificate(path),
        runtime.list_certificate(haproxy.layout, HOST),
        runtime.unlist_certificate(haproxy.layout, HOST),
    )
    for command in commands[: done + 1]:
        await runtime.ask(haproxy.layout.admin, command)

    next_process = Haproxy(settings).runtime
    found = await next_process.certified()
    await next_process.remove_certificate(HOST)

    assert found == {"localhost", HOST}
    assert await next_process.certified() == {"localhost"}


async def test_a_haproxy_that_starts_anew_has_every_certificate_and_keeps_keys_to_itself(
    haproxy: Haproxy, settings: Settings
) -> None:
    await haproxy.runtime.set_certificate("gone.example.com", joined(pem.certificate("a.b")))
    await haproxy.stop()
    pair = pem.certificate("*.example.com")
    table = Table(
        certificates={"localhost": joined(DEFAULT), "*.example.com": joined(pair)},
        challenges={PLACE: "Abc.Def"},
    )

    await Haproxy(settings).start(table)

    assert await serial(settings, HOST) == pair.certificate.serial_number
    assert await haproxy.runtime.challenges() == {PLACE: "Abc.Def"}
    files = list(haproxy.layout.certificate("x").parent.iterdir())
    assert sorted(file.name for file in files) == ["_.example.com.pem", "localhost.pem"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_what_acme_asks_for_is_answered_for_its_host_and_nobody_else(
    haproxy: Haproxy, settings: Settings
) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:

        async def ask(host: str, path: str = "/.well-known/acme-challenge/aBc") -> tuple[int, str]:
            answer = await client.get(path, headers={"Host": host})
            return answer.status_code, answer.text if answer.status_code == 200 else ""

        await haproxy.runtime.set_challenge(PLACE, "aBc.Thumb")
        seen = [
            await ask(HOST),
            await ask(f"WWW.Example.com:{settings.ports.http}"),
            await ask("other.example.com"),
            await ask(HOST, "/.well-known/acme-challenge/other"),
        ]
        await haproxy.runtime.remove_challenge(PLACE)
        seen.append(await ask(HOST))

    assert seen == [(200, "aBc.Thumb"), (200, "aBc.Thumb"), (404, ""), (404, ""), (404, "")]


async def test_acme_is_answered_whatever_the_app_does(haproxy: Haproxy, settings: Settings) -> None:
    table = Table(
        hosts={HOST: 7},
        states={7: "H80"},
        servers={7: (Server(name="web.1-aaaaaaaa", address="127.0.0.1", port=1),)},
        certificates={"localhost": joined(DEFAULT)},
        challenges={PLACE: "aBc.Thumb"},
    )
    await haproxy.reload(table)

    async with httpx.AsyncClient() as client:
        answer = await client.get(
            f"http://127.0.0.1:{settings.ports.http}/.well-known/acme-challenge/aBc",
            headers={"Host": HOST},
        )

    assert (answer.status_code, answer.text) == (200, "aBc.Thumb")


async def test_certificates_come_and_go_under_load_and_no_request_is_lost(
    haproxy: Haproxy, settings: Settings
) -> None:
    await haproxy.runtime.set_host(HOST, 7)
    await haproxy.runtime.add(7, await Web("web.1-aaaaaaaa").start())
    answers: list[int | str] = []
    over = asyncio.Event()
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE

    async def user(*, keeps: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
        async with httpx.AsyncClient(verify=anyone, limits=limits) as client:
            while not over.is_set():
                try:
                    answer = await client.get(
                        f"https://127.0.0.1:{settings.ports.https}/",
                        headers={"Host": HOST},
                        extensions={"sni_hostname": HOST},
                    )
                    answers.append(answer.status_code)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    async with asyncio.TaskGroup() as users:
        for number in range(6):
            users.create_task(user(keeps=number % 2 == 0))
        for number in range(20):
            await haproxy.runtime.set_certificate(HOST, joined(pem.certificate(HOST)))
            await haproxy.runtime.set_certificate("b.example.com", joined(pem.certificate(HOST)))
            await haproxy.runtime.set_challenge(PLACE, f"aBc.{number}")
            await haproxy.runtime.remove_certificate("b.example.com")
            if number % 5 == 4:
                await haproxy.runtime.remove_certificate(HOST)
            await haproxy.runtime.remove_challenge(PLACE)
            await asyncio.sleep(0.02)  # some requests of each state
        over.set()

    assert len(answers) > 20
    assert [answer for answer in answers if answer != 200] == []
