"""What the router should do next, as a table of situations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deodar.adapters.haproxy.table import Mode, Seen, Server, Slot, Table, Tuning
from deodar.loops.routing import plan
from deodar.loops.routing.plan import (
    Add,
    AddHost,
    Cut,
    Drain,
    Free,
    Remove,
    RemoveHost,
    Show,
    Step,
    Tune,
    Wanted,
)
from deodar.model.app import Account, App, AppId, ConfigVars
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import ProcessType
from deodar.model.release import Release

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DRAIN = timedelta(seconds=30)
APP = App(
    id=AppId("app-id"),
    name="one",
    owner=Account(id="owner", email="owner@example.com", created_at=NOW),
    slot=7,
    uid=20_000,
    created_at=NOW,
    updated_at=NOW,
)
RELEASE = Release(
    id="release-id",
    app_id=APP.id,
    version=2,
    slug_id="slug-id",
    description="Deploy",
    user="owner@example.com",
    current=True,
    config=ConfigVars(),
    created_at=NOW,
    updated_at=NOW,
)
WEB = ProcessType(type="web", quantity=1, command="serve")
DYNO = Dyno(
    id="11111111-2222",
    app_id=APP.id,
    type="web",
    number=1,
    kind=Kind.FORMATION,
    size="Basic",
    command="serve",
    release_id=RELEASE.id,
    release_version=2,
    slug_id="slug-id",
    state=State.UP,
    state_since=NOW,
    created_at=NOW,
    address="172.30.0.2",
    port=8000,
)
NAME = "web.1-11111111"
SERVER = Server(name=NAME, address="172.30.0.2", port=8000)


def wanted(*dynos: Dyno) -> Wanted:
    return Wanted(
        app=APP, hosts=frozenset({"one.localhost"}), release=RELEASE, web=WEB, dynos=dynos
    )


def dyno(state: State, *, since: float = 0, routed: bool = True) -> Dyno:
    return replace(DYNO, state=state, state_since=NOW - timedelta(seconds=since), routed=routed)


def seen(mode: Mode = Mode.READY, *, sessions: int = 0, server: Server = SERVER) -> Seen:
    return Seen(server=server, mode=mode, sessions=sessions)


@pytest.mark.parametrize(
    ("has", "server", "step"),
    [
        (dyno(State.PROVISIONING, routed=False), None, None),
        (dyno(State.STARTING, routed=False), None, None),
        (dyno(State.UP, routed=False), None, Add(dyno(State.UP, routed=False), SERVER)),
        (dyno(State.UP, routed=False), seen(), Add(dyno(State.UP, routed=False), SERVER)),
        (dyno(State.UP), None, Add(dyno(State.UP), SERVER)),
        (dyno(State.UP), seen(), None),
        (dyno(State.UP), seen(Mode.MAINT), Add(dyno(State.UP), SERVER)),
        (dyno(State.UP), seen(server=replace(SERVER, port=9000)), Remove(NAME)),
        (dyno(State.STOPPING), seen(), Drain(NAME)),
        (dyno(State.STOPPING), seen(Mode.DRAIN, sessions=1), None),
        (dyno(State.STOPPING), seen(Mode.DRAIN), Remove(NAME, dyno(State.STOPPING))),
        (
            dyno(State.STOPPING, since=30),
            seen(Mode.DRAIN, sessions=1),
            Cut(NAME, dyno(State.STOPPING, since=30)),
        ),
        (
            dyno(State.STOPPING, routed=False),
            seen(Mode.MAINT),
            Remove(NAME, dyno(State.STOPPING, routed=False)),
        ),
        (dyno(State.STOPPING), None, Free(dyno(State.STOPPING))),
        (dyno(State.STOPPING, routed=False), None, None),
        (dyno(State.CRASHED), seen(sessions=3), Remove(NAME, dyno(State.CRASHED))),
        (dyno(State.DOWN), seen(), Remove(NAME, dyno(State.DOWN))),
        (dyno(State.CRASHED), None, Free(dyno(State.CRASHED))),
    ],
)
def test_each_dyno_gets_one_verdict(has: Dyno, server: Seen | None, step: Step | None) -> None:
    assert plan.judge(has, server, NOW, drain=DRAIN) == step


def test_a_new_dyno_is_let_in_before_the_old_one_is_let_go() -> None:
    old = dyno(State.STOPPING)
    new = replace(DYNO, id="22222222-3333", address="172.30.0.6")
    slot = Slot(hosts=frozenset({"one.localhost"}), servers={NAME: seen()})

    assert plan.plan(wanted(old, new), slot, NOW, drain=DRAIN) == [
        Add(new, Server(name="web.1-22222222", address="172.30.0.6", port=8000)),
        Drain(NAME),
    ]


def test_a_first_dyno_is_let_in_before_the_page_goes_and_the_host_comes() -> None:
    up = dyno(State.UP, routed=False)

    assert plan.plan(wanted(up), Slot(code="H14"), NOW, drain=DRAIN) == [
        Add(up, SERVER),
        AddHost("one.localhost"),
        Show(None),
    ]


def test_what_an_app_wishes_comes_before_its_dynos() -> None:
    up = dyno(State.UP, routed=False)
    wishes = replace(wanted(up), release=replace(RELEASE, config=ConfigVars(DEODAR_QUEUE="5")))

    assert plan.plan(wishes, Slot(), NOW, drain=DRAIN) == [
        Tune(Tuning(queue=5)),
        Add(up, SERVER),
        AddHost("one.localhost"),
    ]


@pytest.mark.parametrize(
    ("config", "tuning"),
    [
        ({}, Tuning()),
        ({"DEODAR_REQUEST_TIMEOUT": "10"}, Tuning(first=10)),
        ({"DEODAR_IDLE_TIMEOUT": "600"}, Tuning(idle=600)),
        ({"DEODAR_QUARANTINE": "1"}, Tuning(quarantine=1)),
        ({"DEODAR_CONCURRENCY": "2"}, Tuning(concurrency=2)),
        ({"DEODAR_BALANCE": "least-connections"}, Tuning(least=True)),
        ({"DEODAR_HTTPS_ONLY": "on"}, Tuning(https_only=True)),
        ({"ERROR_PAGE_URL": "https://example.com"}, Tuning(error_page="https://example.com")),
        (
            {"MAINTENANCE_PAGE_URL": "https://example.com"},
            Tuning(maintenance_page="https://example.com"),
        ),
    ],
    ids=str,
)
def test_config_vars_tune_the_router(config: dict[str, str], tuning: Tuning) -> None:
    assert (
        plan.tuned(replace(wanted(), release=replace(RELEASE, config=ConfigVars(config)))) == tuning
    )


def test_a_feature_keeps_clients_with_their_dyno() -> None:
    assert plan.tuned(replace(wanted(), app=replace(APP, affinity=True))) == Tuning(affinity=True)


def test_what_the_store_does_not_know_goes() -> None:
    slot = Slot(
        hosts=frozenset({"one.localhost", "old.example.com"}), servers={"web.9-99999999": seen()}
    )

    assert plan.plan(wanted(dyno(State.STARTING, routed=False)), slot, NOW, drain=DRAIN) == [
        RemoveHost("old.example.com"),
        Remove("web.9-99999999"),
    ]


def test_nothing_is_left_of_an_app_that_is_destroyed() -> None:
    slot = Slot(hosts=frozenset({"one.localhost", "www.example.com"}), servers={NAME: seen()})

    assert plan.clear(slot) == [
        RemoveHost("one.localhost"),
        RemoveHost("www.example.com"),
        Remove(NAME),
    ]


@pytest.mark.parametrize(
    ("has", "code"),
    [
        (wanted(dyno(State.UP)), None),
        (wanted(), None),
        (wanted(dyno(State.STARTING)), None),
        (replace(wanted(dyno(State.UP)), app=replace(APP, maintenance=True)), "H80"),
        (replace(wanted(), release=None, web=None), "H81"),
        (replace(wanted(), release=replace(RELEASE, slug_id=None), web=None), "H81"),
        (replace(wanted(), web=None), "H14"),
        (replace(wanted(), web=replace(WEB, quantity=0)), "H14"),
        (wanted(dyno(State.CRASHED)), "H10"),
        (wanted(dyno(State.CRASHED), dyno(State.STARTING)), None),
        (wanted(replace(dyno(State.CRASHED), restart_at=NOW + timedelta(minutes=10))), "H10"),
        (wanted(replace(dyno(State.CRASHED), restart_at=NOW)), None),
    ],
    ids=[
        "up",
        "no dyno yet",
        "starting",
        "maintenance",
        "no release",
        "no slug",
        "no web type",
        "web=0",
        "crashed",
        "one crashed",
        "rests",
        "restarts at once",
    ],
)
def test_a_code_answers_when_no_dyno_will(has: Wanted, code: str | None) -> None:
    assert plan.code(has, NOW) == code


def test_a_fresh_haproxy_is_told_of_all_apps_at_once() -> None:
    unknown = replace(dyno(State.UP, routed=False), id="22222222-3333")
    awake = wanted(dyno(State.UP), dyno(State.STOPPING), unknown)
    asleep = replace(
        wanted(),
        app=replace(APP, name="two", slot=8),
        hosts=frozenset({"two.localhost"}),
        web=None,
    )

    assert plan.table([awake, asleep], NOW) == Table(
        hosts={"one.localhost": 7, "two.localhost": 8},
        states={8: "H14"},
        servers={7: (SERVER,), 8: ()},
    )


@pytest.mark.parametrize(
    ("has", "seconds"),
    [
        (dyno(State.UP), None),
        (dyno(State.STOPPING), 0.02),
        (dyno(State.STOPPING, since=1), 0.1),
        (dyno(State.STOPPING, since=20), 0.5),
        (replace(dyno(State.CRASHED), restart_at=NOW + timedelta(minutes=10)), 600.0),
    ],
)
def test_a_server_that_drains_is_looked_at_again_and_again(
    has: Dyno, seconds: float | None
) -> None:
    assert plan.next_look(wanted(has), {NAME: seen()}, NOW) == seconds


def test_an_app_has_its_own_name_and_its_domains() -> None:
    assert plan.hosts(APP, ["www.example.com"], domain="localhost") == {
        "one.localhost",
        "www.example.com",
    }


def test_a_servers_name_tells_the_dynos() -> None:
    assert plan.dyno_name(plan.server_name(DYNO)) == "web.1"
