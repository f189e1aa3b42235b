"""Observes one app's dynos and takes the steps that `plan` gives; decides nothing itself.

All it does may be done twice: a kill between any two lines leaves a record without a container or a
container without a record, and the next look mends it.
"""

import asyncio
import signal
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from deodar.actions import releases as ledger_actions
from deodar.engines.base import Engine, Sighting
from deodar.kit.clock import Clock
from deodar.kit.loop import Bell
from deodar.loops.manifold import boot, plan
from deodar.loops.manifold.attach import Switchboard
from deodar.loops.manifold.plan import (
    FailRelease,
    Forget,
    Freeze,
    Kill,
    Launch,
    Limits,
    Park,
    Start,
    Step,
    Stop,
    Terminate,
    Thaw,
    Wish,
)
from deodar.loops.manifold.supervise import Supervisor
from deodar.model import errors, tuning
from deodar.model.app import App
from deodar.model.dyno import GONE, Dyno, Event, Kind, State
from deodar.model.formation import ProcessType
from deodar.model.log import LogLine
from deodar.model.release import Release
from deodar.store import apps, dynos, formations, idling, releases, setups
from deodar.store.db import Database
from deodar.store.logs import Logs

log = structlog.get_logger("deodar")

AT_ONCE = 4  #: dynos of one app that are started at the same moment
TOLD = {"cycling": "Cycling", "idle": "Idling"}  #: reasons of a stop that its owner is told
UNREAD_PAUSE = 0.05  #: seconds until another look whether an ended dyno's output is in the log


@dataclass(frozen=True, slots=True)
class Wanted:
    """One app as the store has it."""

    app: App
    release: Release
    formation: tuple[ProcessType, ...]
    pending: frozenset[str]  #: ids of its releases that wait for their release phase
    awaited: frozenset[str]  #: ids of dynos whose end others wait for

    @property
    def wish(self) -> Wish:
        # Without a slug there is nothing to run; the formation is empty then anyway.
        return Wish(
            release_id=self.release.id,
            formation=self.formation,
            preboot=self.app.preboot,
            pending=self.pending,
            awaited=self.awaited,
            sleep=self.app.sleep,
        )


class Manifold:
    """Makes dynos as they are wished; `reconcile` is driven by kit.loop with an app's id as the key."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        logs: Logs,
        bell: Bell,
        clock: Clock,
        switchboard: Switchboard,
        limits: Limits,
    ) -> None:
        self._db = db
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._switchboard = switchboard
        self._limits = limits
        self._supervisor = Supervisor(engine, bell.ring)
        self._starting = asyncio.Semaphore(AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Holds the watches of all dynos; returns when cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def keys(self) -> list[str]:
        """Every app that wants a look: something is to be done for it, or a dyno of it is not just up.

        A thousand apps that are as they should be cost six queries, not five thousand.
        """
        async with self._db.read() as tx:
            preboots = await apps.preboots(tx)
            sleeps = await apps.asleep(tx)
            current = await releases.current_ids(tx)
            pending = await releases.pending_ids(tx)
            awaited = await setups.awaited(tx)
            types = await formations.every(tx)
            present: dict[str, list[Dyno]] = {}
            for dyno in await dynos.every(tx):
                present.setdefault(dyno.app_id, []).append(dyno)
        seen: dict[str, dict[str, Sighting]] = {}
        for sighting in (await self._engine.sightings()).values():
            if not sighting.build:
                seen.setdefault(sighting.app_id, {})[sighting.id] = sighting
        now = self._clock()
        calm = {
            app_id
            for app_id, release_id in current.items()
            if self._is_calm(
                Wish(
                    release_id=release_id,
                    formation=tuple(types.get(app_id, ())),
                    preboot=preboots[app_id],
                    pending=frozenset(pending.get(app_id, ())),
                    awaited=awaited,
                    sleep=sleeps.get(app_id),
                ),
                present.get(app_id, []),
                seen.get(app_id, {}),
                now,
            )
        }
        return list({*preboots, *seen} - calm)

    def _is_calm(
        self, wish: Wish, present: Sequence[Dyno], seen: Mapping[str, Sighting], now: datetime
    ) -> bool:
        return (
            seen.keys() == {dyno.id for dyno in present if dyno.state is not State.PARKED}
            and all(
                dyno.state is State.PARKED
                or (
                    dyno.state is (State.IDLE if seen[dyno.id].frozen else State.UP)
                    and seen[dyno.id].running
                    and self._supervisor.watches(dyno)
                )
                for dyno in present
            )
            and not plan.plan(wish, present, now, self._limits)
        )

    async def reconcile(self, app_id: str) -> float | None:
        wanted, present = await self._read(app_id)
        sightings = {
            each.id: each
            for each in (await self._engine.sightings(app_id)).values()
            if not each.build
        }
        present = await self._notice(present, sightings)
        if wanted is None:
            await self._clear(sightings)
            return None
        now, limits = self._clock(), self._limits_of(wanted)
        await self._act(wanted, plan.plan(wanted.wish, present, now, limits))
        unread = await self._sweep(app_id, present, sightings)
        return UNREAD_PAUSE if unread else plan.next_look(present, now, limits)

    def _limits_of(self, wanted: Wanted) -> Limits:
        seconds = tuning.BOOT_TIMEOUT.of(wanted.release.config, self._limits.boot.total_seconds())
        return replace(self._limits, boot=timedelta(seconds=seconds))

    async def _read(self, app_id: str) -> tuple[Wanted | None, list[Dyno]]:
        async with self._db.read() as tx:
            app = await apps.find(tx, app_id)
            release = await releases.current(tx, app_id)
            if app is None or release is None:
                return None, []
            formation = tuple(await formations.of_app(tx, app_id))
            pending = frozenset(each.id for each in await releases.pending(tx, app_id))
            awaited = await setups.awaited(tx)
            wanted = Wanted(app, release, formation, pending, awaited)
            return wanted, await dynos.of_app(tx, app_id)

    # What the engine saw becomes what the store knows.

    async def _notice(
        self, present: Sequence[Dyno], sightings: Mapping[str, Sighting]
    ) -> list[Dyno]:
        now = self._clock()
        seen = []
        for known in present:
            dyno = plan.rebase(known, now)
            after = plan.notice(dyno, sightings.get(dyno.id), now, self._limits)
            if after is dyno and dyno.state is State.STARTING and self._accepts(dyno):
                after = dyno.on(Event.BOUND, now)
            if after is not known:
                self._tell(after, *boot.overrun(known, after, sightings.get(dyno.id)))
                await self._save(known, after)
            if after.runs:
                self._watch(after)
            if after.attached and after.state in (State.STARTING, State.UP):
                await self._switchboard.adopt(after)
            seen.append(after)
        return seen

    def _accepts(self, dyno: Dyno) -> bool:
        return dyno.port is None or self._supervisor.accepts(dyno)

    def _watch(self, dyno: Dyno) -> None:
        if self._group is not None:
            self._supervisor.watch(dyno, self._group)

    async def _save(self, before: Dyno, after: Dyno) -> None:
        """Keep a dyno's new state and tell its owner, in Heroku's words."""
        async with self._db.write() as tx:
            await dynos.update_dyno(tx, after)
            tx.ring(after.app_id)
        self._told(before, after)

    def _told(self, before: Dyno, after: Dyno) -> None:
        """That a dyno has moved, in the app's log and in ours."""
        self._tell(after, *boot.changes(before, after))
        if before.state is not after.state:
            log.info(
                "dyno.moved",
                app=after.app_id,
                dyno=after.name,
                id=after.id,
                was=before.state.value,
                now=after.state.value,
            )

    # One step each.

    async def _act(self, wanted: Wanted, steps: Sequence[Step]) -> None:
        begun = await self._provision(wanted, [step for step in steps if isinstance(step, Start)])
        await self._park(wanted, [step for step in steps if isinstance(step, Park)])
        async with asyncio.TaskGroup() as group:
            for dyno in begun:
                group.create_task(self._launch(wanted.app, dyno))
            for step in steps:
                match step:
                    case Launch(dyno):
                        group.create_task(self._launch(wanted.app, dyno))
                    case Stop(dyno, why):
                        group.create_task(self._stop(dyno, why))
                    case Terminate(dyno):
                        group.create_task(self._terminate(dyno))
                    case Kill(dyno, error):
                        group.create_task(self._kill(dyno, error))
                    case Freeze(dyno):
                        group.create_task(self._freeze(dyno))
                    case Thaw(dyno):
                        group.create_task(self._thaw(dyno))
                    case Forget(dyno):
                        group.create_task(self._forget(dyno))
                    case FailRelease():
                        group.create_task(self._fail_release(wanted, step))

    async def _provision(self, wanted: Wanted, starts: Sequence[Start]) -> list[Dyno]:
        """Records for the dynos to come, all in one transaction, before anything runs."""
        if not starts:
            return []
        new = [
            replace(
                self._member(wanted, start.type, start.number),
                crashes=start.crashes,
                fate=start.instead_of.cause if start.instead_of else None,
            )
            for start in starts
        ]
        async with self._db.write() as tx:
            for start in starts:
                if start.instead_of is not None:
                    await dynos.delete_dyno(tx, start.instead_of.id)
            for dyno in new:
                await dynos.insert_dyno(tx, dyno)
        for start, dyno in zip(starts, new, strict=True):
            if start.instead_of is not None:
                self._tell(dyno, "State changed from crashed to starting")
        return new

    async def _park(self, wanted: Wanted, parks: Sequence[Park]) -> None:
        """Records of the dynos that are to be when somebody asks for the app."""
        if not parks:
            return
        async with self._db.write() as tx:
            for park in parks:
                parked = replace(self._member(wanted, park.type, park.number), state=State.PARKED)
                await dynos.insert_dyno(tx, parked)
            tx.ring(wanted.app.id)

    def _member(self, wanted: Wanted, type_: str, number: int) -> Dyno:
        """A new dyno for that place in the formation."""
        now = self._clock()
        wished = next(each for each in wanted.formation if each.type == type_)
        return Dyno(
            id=str(uuid.uuid4()),
            app_id=wanted.app.id,
            type=type_,
            number=number,
            kind=Kind.FORMATION,
            size=wished.size,
            command=wished.command,
            release_id=wanted.release.id,
            release_version=wanted.release.version,
            slug_id=wanted.release.slug_id,
            state_since=now,
            created_at=now,
            port=boot.PORT if type_ == "web" else None,
        )

    async def _launch(self, app: App, dyno: Dyno) -> None:
        async with self._starting:
            async with self._db.read() as tx:
                release = await releases.get(tx, dyno.release_id)
                slug = await releases.slug(tx, dyno.slug_id)
            if release is None:
                return  # the app was destroyed a moment ago, its ledger with it
            if dyno.state is State.PARKED:
                self._tell(dyno, "Unidling")
            self._tell(dyno, f"Starting process with command `{dyno.command}`")
            spec = boot.spec(app, dyno, release, slug)
            try:
                await self._engine.create(spec)
                if dyno.attached:
                    await self._switchboard.plug(dyno)
                sighting = await self._engine.start(dyno.id)
            except (errors.EngineFailed, errors.StackMissing) as error:
                await self._save(
                    dyno, plan.refuse(dyno, error.message, self._clock(), self._limits)
                )
                return
        now = self._clock()
        launched = replace(dyno.on(Event.LAUNCHED, now), address=sighting.address)
        if launched.port is None:
            launched = launched.on(Event.BOUND, now)
        await self._save(dyno, launched)
        self._watch(launched)

    async def _stop(self, dyno: Dyno, why: str) -> None:
        stopping = dyno.on(Event.STOP, self._clock())
        async with self._db.write() as tx:
            await dynos.update_dyno(tx, stopping)
            # From here on the router admits it no more, but it may have done so a moment ago.
            routed = await dynos.is_routed(tx, dyno.id)
            tx.ring(dyno.app_id)
        if why in TOLD:
            self._tell(dyno, TOLD[why])
        log.info("dyno.stopping", app=dyno.app_id, dyno=dyno.name, id=dyno.id, why=why)
        if not routed:
            # Nothing to wait for: the next look would only find that out.
            await self._terminate(stopping)

    async def _terminate(self, dyno: Dyno) -> None:
        self._tell(dyno, "Stopping all processes with SIGTERM")
        await self._engine.signal(dyno.id, signal.SIGTERM)
        await self._save(dyno, replace(dyno, signalled_at=self._clock()))

    async def _kill(self, dyno: Dyno, error: str) -> None:
        self._tell(dyno, error, "Stopping process with SIGKILL")
        # The reason is kept before the signal, so that it is there when the exit is noticed.
        reason = dyno.reason if dyno.state is State.STOPPING else error
        await self._save(dyno, replace(dyno, killed=True, reason=reason))
        await self._engine.signal(dyno.id, signal.SIGKILL)

    async def _freeze(self, dyno: Dyno) -> None:
        idle = dyno.on(Event.SLEPT, self._clock())
        # The record comes first: the router admits none that is idle, and whom it admitted stays up.
        async with self._db.write() as tx:
            if not await dynos.lay(tx, idle):
                return
        try:
            await self._engine.freeze(dyno.id)
        except errors.EngineFailed as error:
            # Somebody may be in it. The next look finds it going on, and it sleeps another time.
            log.warning("Cannot freeze", app=dyno.app_id, dyno=dyno.name, error=error.message)
            async with self._db.write() as tx:
                await idling.rouse(tx, [dyno.app_id], self._clock())
                tx.ring(dyno.app_id)
            return
        self._tell(idle, "Idling")
        self._told(dyno, idle)
        async with self._db.read() as tx:
            now = await dynos.get(tx, dyno.id)
        if now is not None and now.state is State.UP:
            # Somebody asked for it between the record and the deed.
            await self._engine.thaw(dyno.id)

    async def _thaw(self, dyno: Dyno) -> None:
        # Here the deed comes first: a request must not be sent to one that stands still.
        await self._engine.thaw(dyno.id)
        self._tell(dyno, "Unidling")
        await self._save(dyno, dyno.on(Event.WOKEN, self._clock()))

    async def _fail_release(self, wanted: Wanted, step: FailRelease) -> None:
        async with self._db.write() as tx:
            back = await ledger_actions.fail(
                tx, wanted.app, wanted.release, back_to=step.back_to, now=self._clock()
            )
        self._logs.append(
            wanted.app.id,
            [
                LogLine(
                    at=self._clock(),
                    source="app",
                    dyno="api",
                    text=f"Release {wanted.release.name} failed: {step.dyno.name} crashed during boot "
                    f"({step.dyno.cause}). {back.name} goes on serving",
                )
            ],
        )
        log.warning(
            "release.failed", app=wanted.app.id, release=wanted.release.name, back_to=back.name
        )

    async def _forget(self, dyno: Dyno) -> None:
        async with self._db.write() as tx:
            await dynos.delete_dyno(tx, dyno.id)
            tx.ring(dyno.app_id)
        self._supervisor.forget(dyno.id)

    # What is left of ended ones.

    async def _sweep(
        self, app_id: str, present: Sequence[Dyno], sightings: Mapping[str, Sighting]
    ) -> bool:
        """Removes containers that nobody needs; True if one must wait for its output to be read."""
        unread = False
        by_id = {dyno.id: dyno for dyno in present}
        for container_id, sighting in sightings.items():
            dyno = by_id.get(container_id)
            if dyno is not None and dyno.state not in GONE:
                continue
            if sighting.running or not await self._engine.output(
                container_id, self._logs.place(app_id, container_id)
            ):
                await self._engine.remove(container_id)
                self._logs.forget_dyno(app_id, container_id)
            else:
                unread = True
        return unread

    async def _clear(self, sightings: Mapping[str, Sighting]) -> None:
        """The app is destroyed: so is all that runs for it."""
        for container_id in sightings:
            self._supervisor.forget(container_id)
            await self._engine.remove(container_id)

    def _tell(self, dyno: Dyno, *texts: str) -> None:
        lines = [
            LogLine(at=self._clock(), source="heroku", dyno=dyno.name, text=text) for text in texts
        ]
        try:
            self._logs.append(dyno.app_id, lines)
        except errors.StoreFailed as error:
            # A full disk must not keep a dyno from starting, or from being stopped.
            log.error("Cannot tell the app's log", app=dyno.app_id, error=error.message)
