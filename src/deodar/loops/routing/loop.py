"""Makes HAProxy route as the store says, and tells the store what is routed; decides nothing itself.

HAProxy holds a cache of the store: a start, a restart after it died and a reload are handed the whole
table, every other change is a step of `plan` for one app.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from deodar.adapters.ca import Authority
from deodar.adapters.haproxy import Haproxy
from deodar.adapters.haproxy.table import Mode, Slot, Table, Tuning
from deodar.kit.clock import Clock
from deodar.loops.routing import plan
from deodar.loops.routing.activity import Activity
from deodar.loops.routing.certificates import Certificates
from deodar.loops.routing.challenges import Challenges
from deodar.loops.routing.plan import (
    Add,
    AddHost,
    Cut,
    Drain,
    Free,
    Remove,
    RemoveHost,
    Rouse,
    Show,
    Step,
    Tune,
    Wanted,
)
from deodar.loops.routing.requests import Requests
from deodar.loops.routing.waker import Waker
from deodar.model import errors
from deodar.model.app import App
from deodar.model.certificate import Chosen
from deodar.model.dyno import Dyno
from deodar.store import apps, domains, dynos, formations, releases
from deodar.store.db import Database, Tx
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

#: lets the dynos of apps that sleep go on; answers those that requests may be sent to now
Rise = Callable[[Collection[str]], Awaitable[Sequence[Dyno]]]

RESTART_PAUSE = 1.0  #: seconds between two tries to start a HAProxy that will not


class Routing:
    """Routes requests to dynos; `reconcile` is driven by kit.loop with an app's id as the key.

    `start` comes first; `run` then serves HAProxy's questions and keeps it alive.
    """

    def __init__(
        self,
        *,
        db: Database,
        haproxy: Haproxy,
        authority: Authority,
        logs: Logs,
        clock: Clock,
        ring: Callable[[str], None],
        rise: Rise,
        domain: str,
        drain: timedelta,
        beat: float = 60,
    ) -> None:
        self._db = db
        self._haproxy = haproxy
        self._runtime = haproxy.runtime
        self._authority = authority
        self._clock = clock
        self._ring = ring
        self._rise = rise
        self._domain = domain
        self._drain = drain
        self._waker = Waker(haproxy.layout.wake, self._wake)
        self._certificates = Certificates(db, authority, haproxy.runtime)
        self._challenges = Challenges(db, haproxy.runtime)
        self._activity = Activity(db, self._runtime, clock, self.app_of, beat=beat)
        self._requests = Requests(
            haproxy.layout.requests, logs, self.app_of, saw=self._activity.saw
        )
        self._called: set[str] = set()  #: apps that somebody waits for, and the store is to know
        self._calls = asyncio.Event()
        self._slept: set[str] = set()  #: apps that slept when last seen
        self._apps: dict[int, str] = {}  #: slot → app
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """HAProxy runs and routes. Raises RouterFailed when it cannot, saying what to do."""
        table = await self._load()
        self._authority.keep({self._domain, *table.hosts})
        for slot in await self._runtime.used_slots() - self._apps.keys():
            await self._do(slot, plan.clear(await self._runtime.slot(slot)))

    async def run(self) -> None:
        """Answers HAProxy, and starts it anew when it ends; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._waker.serve(), name="waker")
            group.create_task(self._requests.serve(), name="requests")
            group.create_task(self._activity.serve(), name="activity")
            group.create_task(self._rouse(), name="rouse")
            group.create_task(self._watch(), name="haproxy")

    def app_of(self, slot: int) -> str | None:
        return self._apps.get(slot)

    async def keys(self) -> list[str]:
        """Every app that HAProxy does not route as it should, and every one that it may hold something
        of though the app is no more.

        A thousand apps that are as they should be cost six queries and one question, not six thousand.
        """
        async with self._db.read() as tx:
            every = await self._every_wanted(tx)
        known = {wanted.app.id for wanted in every}
        gone = [app_id for app_id in self._apps.values() if app_id not in known]
        self._slept |= {wanted.app.id for wanted in every if wanted.app.sleep is not None}
        try:
            slots = await self._runtime.slots()
        except errors.RouterFailed:
            return [*known, *gone]  # each will find out for itself, and try again
        now = self._clock()
        return [wanted.app.id for wanted in every if not self._is_calm(wanted, slots, now)] + gone

    def _is_calm(self, wanted: Wanted, slots: Mapping[int, Slot], now: datetime) -> bool:
        slot = wanted.app.slot
        seen = slots.get(slot, Slot())
        return (
            self._apps.get(slot) == wanted.app.id
            and slot < self._haproxy.slots
            and not self._waker.waits(slot)
            and not plan.plan(wanted, seen, now, drain=self._drain)
            and plan.next_look(wanted, seen.servers, now) is None
            and self._certificates.serves(wanted.certificates)
        )

    async def reconcile(self, app_id: str) -> float | None:
        async with self._db.read() as tx:
            app = await apps.find(tx, app_id)
            wanted = None if app is None else await self._wanted(tx, app)
        if wanted is None:
            return await self._forget(app_id)
        slot = wanted.app.slot
        self._apps[slot] = app_id
        if wanted.app.sleep is not None:
            self._slept.add(app_id)
        if not self._has_room(slot, plan.tuned(wanted)):
            await self._reload(slot, plan.tuned(wanted))
        await self._certificates.serve({self._domain: None} | wanted.certificates)
        if wanted.app.acm or await self._runtime.challenges():
            await self._challenges.sync()
        now = self._clock()
        seen = await self._runtime.slot(slot)
        asked = self._activity.untold(app_id) or self._waker.waits(slot)
        steps = plan.plan(wanted, seen, now, drain=self._drain, asked=asked)
        unfinished = await self._act(wanted, steps)
        if steps:
            # A host that was another app's may have lost its certificate with that one's last step.
            await self._certificates.serve(wanted.certificates)
            seen = await self._runtime.slot(slot)
        self._answer(wanted, seen)
        rest = plan.next_look(wanted, seen.servers, now)
        return min(rest or plan.RETRY, plan.RETRY) if unfinished else rest

    async def _wanted(self, tx: Tx, app: App) -> Wanted:
        return plan.wanted(
            app,
            domains=await domains.of_app(tx, app.id),
            types=await formations.of_app(tx, app.id),
            release=await releases.current(tx, app.id),
            dynos=await dynos.of_app(tx, app.id),
            domain=self._domain,
        )

    async def _every_wanted(self, tx: Tx) -> list[Wanted]:
        """Of all apps at once: asked for one by one, 2,000 apps would take the store for seconds, and a
        HAProxy that died is away for as long."""
        named, types = await domains.every(tx), await formations.every(tx)
        current = await releases.every_current(tx)
        present: dict[str, list[Dyno]] = {}
        for dyno in await dynos.every(tx):
            present.setdefault(dyno.app_id, []).append(dyno)
        return [
            plan.wanted(
                app,
                domains=named.get(app.id, ()),
                types=types.get(app.id, ()),
                release=current.get(app.id),
                dynos=present.get(app.id, ()),
                domain=self._domain,
            )
            for app in await apps.every(tx)
        ]

    async def _forget(self, app_id: str) -> float | None:
        """The app is no more, and neither is what HAProxy holds for it."""
        for slot in [slot for slot, owner in self._apps.items() if owner == app_id]:
            if await self._do(slot, plan.clear(await self._runtime.slot(slot))):
                return plan.RETRY
            # Its slot may be another app's by now, who then looks after it.
            if self._apps.get(slot) == app_id:
                await self._runtime.set_code(slot, None)
                del self._apps[slot]
        return None

    # One step each.

    async def _act(self, wanted: Wanted, steps: Sequence[Step]) -> bool:
        """Takes all steps; answers whether one of them must be tried again."""
        slot = wanted.app.slot
        await self._do(slot, [step for step in steps if isinstance(step, Tune)])
        admitted = await self._admit([step for step in steps if isinstance(step, Add)])
        for step in admitted:
            await self._runtime.add(slot, step.server)
            log.info("dyno.routed", app=wanted.app.name, dyno=step.dyno.name, id=step.dyno.id)
        if admitted:
            if plan.code(wanted, self._clock()) is None:
                self._tell_ok(wanted.app)
            self._ring(wanted.app.id)
        return await self._do(slot, [step for step in steps if not isinstance(step, Tune | Add)])

    async def _admit(self, adds: Sequence[Add]) -> list[Add]:
        """Those that may be let in, after the store knows: the manifold signals none of these, and one
        that it stopped meanwhile is not let in."""
        if not adds:
            return []
        async with self._db.write() as tx:
            return [add for add in adds if await dynos.admit(tx, add.dyno.id)]

    async def _do(self, slot: int, steps: Sequence[Step]) -> bool:
        """Every step that lets nobody in; answers whether one of them must be tried again."""
        unfinished = False
        freed: list[Dyno] = []
        for step in steps:
            match step:
                case Tune(tuning):
                    await self._runtime.tune(slot, tuning)
                case AddHost(host):
                    await self._runtime.set_host(host, slot)
                case RemoveHost(host):
                    await self._runtime.remove_host(host, slot)
                    await self._certificates.withdraw(host)
                case Show(code):
                    await self._runtime.set_code(slot, code)
                case Free(dyno):
                    freed.append(dyno)
                case Rouse():
                    self._call(self._apps[slot])
                case Drain(name):
                    await self._runtime.drain(slot, name)
                case Cut(name, dyno):
                    log.warning("dyno.cut", dyno=dyno.name, id=dyno.id)
                    await self._runtime.cut(slot, name)
                    unfinished |= not await self._runtime.remove(slot, name)
                    freed.append(dyno)
                case Remove(name, owner):
                    unfinished |= not await self._runtime.remove(slot, name)
                    if owner is not None:
                        freed.append(owner)
        # Even where HAProxy keeps an idle connection for a while, nothing runs there any more.
        await self._release([dyno for dyno in freed if dyno.routed])
        return unfinished

    async def _release(self, freed: Sequence[Dyno]) -> None:
        if not freed:
            return
        async with self._db.write() as tx:
            for dyno in freed:
                await dynos.set_routed(tx, dyno.id, False)
                tx.ring(dyno.app_id)

    def _answer(self, wanted: Wanted, seen: Slot) -> None:
        """Tells those who wait, if there is something to tell by now."""
        if seen.code is not None:
            self._waker.tell(wanted.app.slot, seen.code)
        elif wanted.app.sleep is None and any(
            server.mode is Mode.READY for server in seen.servers.values()
        ):
            self._tell_ok(wanted.app)

    def _tell_ok(self, app: App) -> None:
        self._waker.tell(app.slot, "ok cold" if app.id in self._slept else "ok")
        self._slept.discard(app.id)

    def _wake(self, slot: int) -> None:
        """Somebody waits for a dyno of this slot's app."""
        app_id = self._apps.get(slot)
        if app_id is not None:
            self._call(app_id)

    def _call(self, app_id: str) -> None:
        self._called.add(app_id)
        self._calls.set()

    async def _rouse(self) -> None:
        """Wakes the apps that are asked for, all that were called at once in one go."""
        while True:
            await self._calls.wait()
            self._calls.clear()
            called, self._called = self._called, set()
            try:
                slots = {owner: slot for slot, owner in self._apps.items()}
                for dyno in await self._rise(called):
                    if dyno.app_id in slots:
                        await self._let_in(slots[dyno.app_id], dyno)
            except errors.Unavailable as error:
                log.error("Cannot wake apps", error=error.message)
                await asyncio.sleep(RESTART_PAUSE)
                self._called |= called
                self._calls.set()
            # Only now: the loops do what is left, and would be in the way.
            for app_id in called:
                self._ring(app_id)

    async def _let_in(self, slot: int, dyno: Dyno) -> None:
        """Sends requests to a dyno that the store calls routed."""
        await self._runtime.add(slot, plan.server_of(dyno))
        self._slept.discard(dyno.app_id)
        self._waker.tell(slot, "ok frozen")

    # HAProxy as a whole.

    async def _watch(self) -> None:
        while True:
            await self._haproxy.gone()
            log.warning("haproxy.gone")
            try:
                await self._load()
            except errors.Unavailable as error:
                log.error("Cannot start HAProxy", error=error.message)
                await asyncio.sleep(RESTART_PAUSE)
                continue
            self._ring_all()

    async def _load(self) -> Table:
        """HAProxy runs, and what it serves is known."""
        table = await self._table()
        if await self._haproxy.start(table):
            self._certificates.loaded()
        else:
            await self._certificates.adopt(table.certificates)
        return table

    def _ring_all(self) -> None:
        for app_id in list(self._apps.values()):
            self._ring(app_id)

    def _has_room(self, slot: int, wishes: Tuning) -> bool:
        """Whether HAProxy has what this app needs; its slots are made ahead."""
        return slot < (self._haproxy.slots if wishes == Tuning() else self._haproxy.tunable)

    async def _reload(self, slot: int, wishes: Tuning) -> None:
        """Makes more slots, so that this one is among them."""
        async with self._reloading:
            if not self._has_room(slot, wishes):
                await self._haproxy.reload(await self._table())
                self._certificates.loaded()
                # What was changed in the old worker since the table was read, the new one lacks.
                self._ring_all()

    async def _table(self) -> Table:
        """All that a fresh HAProxy must know, from the store."""
        async with self._db.read() as tx:
            every = await self._every_wanted(tx)
        now = self._clock()
        self._apps |= {wanted.app.slot: wanted.app.id for wanted in every}
        table = plan.table(every, now)
        chosen: dict[str, Chosen | None] = {self._domain: None}
        for wanted in every:
            chosen |= wanted.certificates
        return replace(
            table,
            certificates=await self._certificates.table(chosen),
            challenges=await self._challenges.table(),
        )
