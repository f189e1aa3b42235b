"""Lets the router answer what an ACME authority will ask, as the store has it, and says there that it can.

Few are open at any moment, so all of them are compared at once, whichever app rang.
"""

import asyncio

from deodar.adapters.haproxy.runtime import Runtime
from deodar.model.certificate import Order
from deodar.store import acme
from deodar.store.db import Database


class Challenges:
    def __init__(self, db: Database, runtime: Runtime) -> None:
        self._db = db
        self._runtime = runtime
        self._one_at_a_time = asyncio.Lock()

    async def table(self) -> dict[str, str]:
        """Host and path → answer, for a HAProxy that starts anew."""
        async with self._db.read() as tx:
            return answers(await acme.every_order(tx))

    async def sync(self) -> None:
        """HAProxy answers for every order there is, and no other."""
        async with self._one_at_a_time:
            async with self._db.read() as tx:
                orders = await acme.every_order(tx)
            wanted, seen = answers(orders), await self._runtime.challenges()
            for place in seen.keys() - wanted.keys():
                await self._runtime.remove_challenge(place)
            for place, answer in wanted.items():
                if seen.get(place) != answer:
                    await self._runtime.set_challenge(place, answer)
            await self._tell([order for order in orders if not order.routed])

    async def _tell(self, orders: list[Order]) -> None:
        if not orders:
            return
        async with self._db.write() as tx:
            for order in orders:
                await acme.set_routed(tx, order)
                tx.ring(order.app_id)


def answers(orders: list[Order]) -> dict[str, str]:
    return {order.place: order.answer for order in orders if order.place and order.answer}
