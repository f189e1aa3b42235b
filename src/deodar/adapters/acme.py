"""An ACME authority such as Let's Encrypt (RFC 8555), asked in threads, one question at a time.

How it is asked is `acme_client`'s. Nothing here waits for the authority: `advance` looks how far an
order is and does what is next, so that an order can be taken up again by another process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deodar.model.app import AppId
from deodar.model.certificate import AcmeAccount, Order

if TYPE_CHECKING:
    from deodar.adapters.acme_client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Later:
    """The authority is at it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Issued:
    """Here it is."""

    chain: str  #: PEM


class Authority:
    """The authority at one directory URL. All methods raise Unavailable, in a sentence that says why."""

    def __init__(self, directory: str, *, email: str | None, trust: Path | None) -> None:
        self.directory = directory
        self._email = email
        self._trust = trust
        self._made: Client | None = None
        self._one_at_a_time = asyncio.Lock()  # each question needs the nonce of the answer before

    async def register(self, account: AcmeAccount) -> str:
        """Our account's URL; agrees to the authority's terms. May be repeated with the same key."""
        return await self._ask(lambda client: client.register(account))

    async def order(
        self,
        account: AcmeAccount,
        hostname: str,
        *,
        key: str,
        domain_id: str,
        app_id: AppId,
        now: datetime,
    ) -> Order:
        """Asks for a certificate of that private key. What the authority will ask the router for, and
        wants to hear, is in the answer."""
        url, token, said = await self._ask(lambda client: client.order(account, hostname, key))
        return Order(
            domain_id=domain_id,
            app_id=app_id,
            hostname=hostname,
            url=url,
            key=key,
            token=token,
            answer=said,
            routed=token is None,
            created_at=now,
        )

    async def advance(self, account: AcmeAccount, order: Order) -> Later | Issued:
        """Does what is next for an order whose answer the router knows."""
        return await self._ask(lambda client: client.advance(account, order))

    async def _ask(self, question: "Callable[[Client], T]") -> T:
        async with self._one_at_a_time:
            return await asyncio.to_thread(lambda: question(self._client()))

    def _client(self) -> "Client":
        if self._made is None:
            # Imported only here: with all it brings it takes longer than the rest of a start, and most
            # platforms need it once in two months.
            from deodar.adapters.acme_client import Client

            self._made = Client(self.directory, email=self._email, trust=self._trust)
        return self._made
