"""A router with 2,000 apps: how long it takes to start from the store, and what it holds.

python benchmarks/many_apps.py [--apps 2000]

Each app has its own name and a domain; every tenth domain has a certificate of its owner's, the others
one of the platform's authority. No dyno runs: an app asleep costs the router this much.
"""

import argparse
import asyncio
import random
import tempfile
import time
import uuid
from collections.abc import Awaitable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import harness
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console
from rich.table import Table as Printed

from deodar.actions import apps, certificates, domains
from deodar.adapters import ca
from deodar.adapters import certificates as reader
from deodar.adapters.haproxy import Haproxy
from deodar.kit import clock
from deodar.kit.loop import Bell
from deodar.loops.routing.loop import Routing
from deodar.model.app import Account, App
from deodar.model.dyno import Dyno
from deodar.settings import Paths, Ports, Settings
from deodar.store import accounts, db
from deodar.store import apps as stored
from deodar.store.db import Database
from deodar.store.logs import Logs

T = TypeVar("T")

NOW = datetime.now(UTC)
OWNER = Account(id=str(uuid.uuid4()), email="owner@example.com", created_at=NOW)
DICE = random.Random(7)


def own_certificate(host: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(pem).decode(), private.decode()


async def fill(database: Database, count: int) -> App:
    """The apps; answers the last one."""
    made: App | None = None
    async with database.write() as tx:
        await accounts.create(tx, OWNER, token="token")
        for number in range(count):
            made, _ = await apps.create(
                tx, owner=OWNER, name=f"app-{number:05d}", stack="deodar-12", dice=DICE, now=NOW
            )
            host = f"www.app-{number:05d}.com"
            certificate = None
            if number % 10 == 0:
                read = reader.read(*own_certificate(host), now=NOW)
                certificate = (await certificates.add(tx, made, read, dice=DICE, now=NOW)).name
            await domains.add(
                tx, made, host, certificate=certificate, platform_domain="localhost", now=NOW
            )
    assert made is not None
    return made


def router(
    settings: Settings, database: Database, logs: Logs, bell: Bell
) -> tuple[Haproxy, Routing]:
    haproxy = Haproxy(settings)
    routing = Routing(
        db=database,
        haproxy=haproxy,
        authority=ca.Authority(settings.paths.ca),
        logs=logs,
        clock=clock.wall,
        ring=bell.ring,
        rise=nobody,
        domain="localhost",
        drain=timedelta(seconds=30),
    )
    return haproxy, routing


async def nobody(_: Collection[str]) -> list[Dyno]:
    """There are no dynos that could be woken."""
    return []


def resident(pid: int) -> float:
    """MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def timed(what: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await what
    return time.perf_counter() - begun


async def measure(folder: Path, count: int) -> dict[str, str]:
    http, https = harness.free_ports(2)
    settings = Settings(paths=Paths(data=folder), ports=Ports(http=http, https=https))
    bell, logs = Bell(), Logs(folder / "logs")
    database = db.open_sqlite(folder / "deodar.db", key=Fernet.generate_key(), bell=bell)
    haproxy, routing = router(settings, database, logs, bell)
    seen: dict[str, str] = {}
    try:
        seen["the apps are written"] = f"{await timed(fill(database, count)):.1f} s"
        seen["first start, which makes their certificates"] = (
            f"{await timed(routing.start()):.1f} s"
        )
        await haproxy.stop()
        haproxy, routing = router(settings, database, logs, bell)
        seen["next start, HAProxy anew"] = f"{await timed(routing.start()):.1f} s"
        master = int(haproxy.layout.pid.read_text())
        seen["HAProxy's worker"] = f"{resident(await haproxy.runtime.pid()):.0f} MB"
        seen["HAProxy's master"] = f"{resident(master):.0f} MB"
        haproxy, routing = router(settings, database, logs, bell)
        seen["next start, HAProxy adopted"] = f"{await timed(routing.start()):.1f} s"
        every = await routing.keys()
        seen["a look at every app"] = f"{await timed(look(routing, every)):.1f} s"
        seen["another look at every app"] = f"{await timed(look(routing, every)):.1f} s"
        seen["one more domain, until it is served"] = (
            f"{await timed(one_more(routing, database, every[-1])) * 1000:.0f} ms"
        )
        seen["a reload"] = f"{await timed(reload(routing, haproxy)):.1f} s"
    finally:
        await haproxy.stop()
        logs.close()
        await database.close()
    return seen


async def look(routing: Routing, every: list[str]) -> None:
    for app_id in every:
        await routing.reconcile(app_id)


async def one_more(routing: Routing, database: Database, app_id: str) -> None:
    async with database.write() as tx:
        app = await stored.find(tx, app_id)
        assert app is not None
        await domains.add(tx, app, "one.more.com", platform_domain="localhost", now=NOW)
    await routing.reconcile(app_id)


async def reload(routing: Routing, haproxy: Haproxy) -> None:
    await haproxy.reload(await routing._table())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--apps", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dd") as name:
        folder = Path(name)
        folder.chmod(0o711)
        seen = asyncio.run(measure(folder, arguments.apps))
    table = Printed(f"{arguments.apps} apps", "")
    for what, figure in seen.items():
        table.add_row(what, figure)
    Console().print(table)


if __name__ == "__main__":
    main()
