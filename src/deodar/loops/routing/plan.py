"""What should the router do next for one app? Answers with steps; takes none itself.

Compares what the store says of the app (`Wanted`) with what HAProxy holds (`Slot`). Every dyno gets at
most one step, the first reason wins; servers without a dyno go. What is added comes first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from deodar.adapters.haproxy.table import Mode, Seen, Server, Slot, Table, Tuning
from deodar.model import tuning
from deodar.model.app import App
from deodar.model.certificate import Chosen
from deodar.model.dyno import Dyno, State
from deodar.model.formation import ProcessType
from deodar.model.release import Release
from deodar.model.route import Domain

FIRST_LOOK = 0.02  #: seconds until another look at a server that drains
LAST_LOOK = 0.5
RETRY = 0.1  #: seconds until another try to delete a server


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One app as the store has it."""

    app: App
    hosts: frozenset[str]
    release: Release | None
    web: ProcessType | None  #: its line of the formation
    dynos: tuple[Dyno, ...]  #: web only
    chosen: Mapping[str, Chosen] = field(default_factory=dict)  #: host → certificate, where one is

    @property
    def certificates(self) -> dict[str, Chosen | None]:
        """What each host is to be served with; None is a leaf of the platform's own authority."""
        return {host: self.chosen.get(host) for host in sorted(self.hosts)}


@dataclass(frozen=True, slots=True)
class AddHost:
    host: str


@dataclass(frozen=True, slots=True)
class RemoveHost:
    host: str


@dataclass(frozen=True, slots=True)
class Show:
    """Let this H code answer for the app; None lets its dynos."""

    code: str | None


@dataclass(frozen=True, slots=True)
class Tune:
    """Let the app have what it wishes of the router."""

    tuning: Tuning


@dataclass(frozen=True, slots=True)
class Add:
    """Send requests to this dyno, and say in the store that it is so."""

    dyno: Dyno
    server: Server


@dataclass(frozen=True, slots=True)
class Drain:
    """Nothing new to this server; what runs may end."""

    name: str


@dataclass(frozen=True, slots=True)
class Cut:
    """It had its time: end what still runs on it, and remove it."""

    name: str
    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing runs on it any more; `dyno` is whose it was, if the store knows and must be told."""

    name: str
    dyno: Dyno | None = None


@dataclass(frozen=True, slots=True)
class Free:
    """No server is left of this dyno: say so in the store."""

    dyno: Dyno


@dataclass(frozen=True, slots=True)
class Rouse:
    """The app is to sleep, but somebody asks for it: say in the store that it is to be awake."""


Step = AddHost | RemoveHost | Show | Tune | Add | Drain | Cut | Remove | Free | Rouse

#: the order of doing: what lets requests in, before what waits for some to end
ORDER: tuple[type, ...] = (Rouse, Tune, Add, AddHost, Show, RemoveHost, Free, Drain, Cut, Remove)


def wanted(
    app: App,
    *,
    domains: Iterable[Domain],
    types: Iterable[ProcessType],
    release: Release | None,
    dynos: Iterable[Dyno],
    domain: str,
) -> Wanted:
    """The app as the store has it, from all that is there of it."""
    named = {each.hostname: each.sni_endpoint for each in domains}
    return Wanted(
        app=app,
        hosts=hosts(app, named, domain=domain),
        release=release,
        web=next((each for each in types if each.type == "web"), None),
        dynos=tuple(dyno for dyno in dynos if dyno.is_web),
        chosen={host: chosen for host, chosen in named.items() if chosen is not None},
    )


def hosts(app: App, domains: Iterable[str], *, domain: str) -> frozenset[str]:
    """Every host that leads to the app: its custom domains, and the platform's own name for it."""
    return frozenset({f"{app.name}.{domain}", *domains})


def server_of(dyno: Dyno) -> Server:
    """What HAProxy is told of a dyno. The id tells two dynos of one name apart, one leaving."""
    assert dyno.address is not None
    assert dyno.port is not None
    return Server(name=server_name(dyno), address=dyno.address, port=dyno.port)


def server_name(dyno: Dyno) -> str:
    return f"{dyno.name}-{dyno.id[:8]}"


def dyno_name(server: str) -> str:
    """`web.1` of `web.1-1a2b3c4d`."""
    return server.rpartition("-")[0]


def serves(dyno: Dyno) -> bool:
    """Whether requests may be sent to it. A condemned dyno serves until the manifold stops it."""
    return dyno.state is State.UP and dyno.address is not None and dyno.port is not None


def code(wanted: Wanted, now: datetime) -> str | None:
    """The H code that answers instead of the app's dynos; None while they do, or soon will."""
    if wanted.app.maintenance:
        return "H80"
    if wanted.release is None or wanted.release.slug_id is None:
        return "H81"
    if wanted.web is None or wanted.web.quantity == 0:
        return "H14"
    if wanted.dynos and all(_rests(dyno, now) for dyno in wanted.dynos):
        return "H10"
    return None


def tuned(wanted: Wanted) -> Tuning:
    """What the app's config vars and features say to the router."""
    config = wanted.release.config if wanted.release is not None else {}
    common = Tuning()
    return Tuning(
        first=int(tuning.REQUEST_TIMEOUT.of(config, common.first)),
        idle=int(tuning.IDLE_TIMEOUT.of(config, common.idle)),
        concurrency=tuning.CONCURRENCY.of(config, common.concurrency),
        queue=tuning.QUEUE.of(config, common.queue),
        quarantine=int(tuning.QUARANTINE.of(config, common.quarantine)),
        least=tuning.BALANCE.of(config, default="random") == "least-connections",
        affinity=wanted.app.affinity,
        https_only=tuning.HTTPS_ONLY.of(config, default=False),
        error_page=tuning.ERROR_PAGE.of(config),
        maintenance_page=tuning.MAINTENANCE_PAGE.of(config),
    )


def _rests(dyno: Dyno, now: datetime) -> bool:
    """Crashed, and not to be started again at once: then a request is worth holding."""
    return dyno.state is State.CRASHED and (dyno.restart_at is None or dyno.restart_at > now)


def plan(
    wanted: Wanted, slot: Slot, now: datetime, *, drain: timedelta, asked: bool = False
) -> list[Step]:
    """`asked` is whether somebody asked for the app that the store does not know of."""
    steps: list[Step] = [
        *(AddHost(host) for host in sorted(wanted.hosts - slot.hosts)),
        *(RemoveHost(host) for host in sorted(slot.hosts - wanted.hosts)),
    ]
    wishes = tuned(wanted)
    if wishes != slot.tuning:
        steps.append(Tune(wishes))
    shown = code(wanted, now)
    if shown != slot.code:
        steps.append(Show(shown))
    asked = asked or any(_kept(dyno, slot) for dyno in wanted.dynos)
    if wanted.app.sleep is not None and asked:
        steps.append(Rouse())
    names = {server_name(dyno) for dyno in wanted.dynos}
    steps += [Remove(name) for name in slot.servers if name not in names]
    for dyno in wanted.dynos:
        seen = slot.servers.get(server_name(dyno))
        if wanted.app.sleep is not None and serves(dyno):
            step = None if asked else _lull(dyno, seen)
        else:
            step = judge(dyno, seen, now, drain=drain)
        if step is not None:
            steps.append(step)
    return sorted(steps, key=lambda step: ORDER.index(type(step)))


def judge(dyno: Dyno, seen: Seen | None, now: datetime, *, drain: timedelta) -> Step | None:
    """The next step for one dyno, whose server HAProxy has as `seen`; None when all is as it should."""
    if serves(dyno):
        return _admit(dyno, seen)
    if seen is None:
        return Free(dyno) if dyno.routed else None
    if dyno.state is State.STOPPING:
        return _let_go(dyno, seen, now, drain=drain)
    return Remove(seen.server.name, dyno)


def _admit(dyno: Dyno, seen: Seen | None) -> Step | None:
    server = server_of(dyno)
    if seen is None:
        return Add(dyno, server)
    if seen.server != server:
        # It was started again elsewhere; the server can be added once the old one is gone.
        return Remove(server.name)
    if seen.mode is not Mode.READY or not dyno.routed:
        return Add(dyno, server)
    return None


def _kept(dyno: Dyno, slot: Slot) -> bool:
    """Whether somebody is still on a dyno which is let go."""
    seen = slot.servers.get(server_name(dyno))
    return serves(dyno) and seen is not None and seen.mode is Mode.DRAIN and seen.sessions > 0


def _lull(dyno: Dyno, seen: Seen | None) -> Step | None:
    """The next step for one whose app is to sleep: nobody is sent to it, and if nobody is there, it
    is the manifold's to freeze or stop."""
    if seen is None:
        return Free(dyno) if dyno.routed else None
    return Drain(seen.server.name) if seen.mode is Mode.READY else Remove(seen.server.name, dyno)


def _let_go(dyno: Dyno, seen: Seen, now: datetime, *, drain: timedelta) -> Step | None:
    if seen.mode is Mode.READY:
        return Drain(seen.server.name)
    if not seen.sessions:
        return Remove(seen.server.name, dyno)
    if now - dyno.state_since >= drain:
        return Cut(seen.server.name, dyno)
    return None


def table(every: Iterable[Wanted], now: datetime) -> Table:
    """What a fresh HAProxy must know to route all apps at once; certificates are not decided here.

    Only dynos that the store calls routed: the manifold may stop any other without a word to us.
    """
    every = tuple(every)
    return Table(
        hosts={host: wanted.app.slot for wanted in every for host in sorted(wanted.hosts)},
        states={
            wanted.app.slot: shown for wanted in every if (shown := code(wanted, now)) is not None
        },
        servers={
            wanted.app.slot: tuple(
                server_of(dyno) for dyno in wanted.dynos if dyno.routed and serves(dyno)
            )
            for wanted in every
            if wanted.app.sleep is None
        },
        tunings={
            wanted.app.slot: wishes for wanted in every if (wishes := tuned(wanted)) != Tuning()
        },
    )


def clear(slot: Slot) -> list[Step]:
    """Everything that HAProxy holds for an app that is no more."""
    return [
        *(RemoveHost(host) for host in sorted(slot.hosts)),
        *(Remove(name) for name in slot.servers),
    ]


def next_look(wanted: Wanted, servers: Mapping[str, Seen], now: datetime) -> float | None:
    """Seconds until something must be looked at again; None when only a bell can bring news."""
    looks = []
    for dyno in wanted.dynos:
        if wanted.app.sleep is not None and serves(dyno) and server_name(dyno) in servers:
            looks.append(FIRST_LOOK)
        elif dyno.state is State.STOPPING and server_name(dyno) in servers:
            waited = (now - dyno.state_since).total_seconds()
            looks.append(min(max(waited / 10, FIRST_LOOK), LAST_LOOK))
        elif dyno.state is State.CRASHED and dyno.restart_at is not None and dyno.restart_at > now:
            looks.append((dyno.restart_at - now).total_seconds())
    return min(looks, default=None)
