"""Which certificate is each host served with? Hands it to HAProxy; who chose it, and why, the store knows.

A host that no certificate was chosen for is served with a leaf of the platform's own authority.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from deodar.adapters.ca import Authority
from deodar.adapters.haproxy.runtime import Runtime
from deodar.model.certificate import Chosen
from deodar.store import sni_endpoints
from deodar.store.db import Database

#: what tells one certificate from the next: whose it is, and since when it is so
Version = tuple[str, datetime]


class Certificates:
    """What HAProxy serves hosts with, as far as we know."""

    def __init__(self, db: Database, authority: Authority, runtime: Runtime) -> None:
        self._db = db
        self._authority = authority
        self._runtime = runtime
        self._served: dict[str, Version] = {}
        self._written: dict[str, Version] = {}  #: for a HAProxy that starts anew
        self._one_at_a_time = asyncio.Lock()

    async def table(self, wanted: Mapping[str, Chosen | None]) -> dict[str, str]:
        """Key and chain of every host, for a HAProxy that starts anew; in the order of `wanted`.
        Once it serves with them, say `loaded`."""
        async with self._db.read() as tx:
            pems = await sni_endpoints.pems(tx, {each.id for each in wanted.values() if each})
        self._written = {host: self._version(host, chosen) for host, chosen in wanted.items()}
        return {
            host: (pems.get(chosen.id) if chosen else None) or self._leaf(host)
            for host, chosen in wanted.items()
        }

    def loaded(self) -> None:
        """HAProxy has what `table` gave last, and nothing that was changed meanwhile."""
        self._served = dict(self._written)

    async def adopt(self, wanted: Iterable[str]) -> None:
        """HAProxy goes on with what it had: nobody knows how old that is, and some may be too much."""
        self._served.clear()
        for host in await self._runtime.certified() - set(wanted):
            await self._runtime.remove_certificate(host)

    def serves(self, wanted: Mapping[str, Chosen | None]) -> bool:
        """Whether each of these hosts is served with what was chosen for it."""
        return all(
            self._served.get(host) == self._version(host, chosen) for host, chosen in wanted.items()
        )

    async def serve(self, wanted: Mapping[str, Chosen | None]) -> None:
        """Each of these hosts is served with what was chosen for it."""
        for host, chosen in sorted(wanted.items()):
            if self._served.get(host) == self._version(host, chosen):
                continue
            async with self._one_at_a_time:
                await self._serve(host, chosen)

    async def withdraw(self, host: str) -> None:
        """The host is no app's any more; one that went to another is looked after there."""
        async with self._one_at_a_time:
            if await self._runtime.owner(host) is None:
                self._served.pop(host, None)
                await self._runtime.remove_certificate(host)

    async def _serve(self, host: str, chosen: Chosen | None) -> None:
        pem = None
        if chosen is not None:
            async with self._db.read() as tx:
                pem = await sni_endpoints.pem(tx, chosen.id)
        await self._runtime.set_certificate(host, pem or self._leaf(host))
        # One that was removed meanwhile was replaced by a leaf: the bell has rung for that already.
        self._served[host] = self._version(host, chosen if pem else None)

    def _version(self, host: str, chosen: Chosen | None) -> Version:
        if chosen is not None:
            return chosen.id, chosen.updated_at
        return "", self._authority.leaf(host).expires

    def _leaf(self, host: str) -> str:
        return self._authority.leaf(host).path.read_text()
