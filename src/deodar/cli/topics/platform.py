"""The commands about the platform itself: up, down, status, env. Apps are the Heroku CLI's matter."""

import json
import os
import re
import shlex
import time
from collections import Counter
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from deodar import settings as settings_
from deodar.cli import client, disk, output, process, swap
from deodar.model import disk as disk_words
from deodar.settings import Settings

#: the daemon's word of how far the stack is, such as `Building the stack: 42% Installing git`
FRACTION = re.compile(r"^Building .* (\d+)%")
NOTE = "Note: "  #: how a line of its log begins that is for a person
NOTED = 200  #: lines of log that a start may take
POLL = 0.1  #: seconds between two looks at a platform that starts
ANSWER_SECONDS = 30  #: how long after ready the first answer may take


def _settings() -> Settings:
    return settings_.read(os.environ)


@click.command()
@click.option("--detach", is_flag=True, help="Return once it is up; it runs on in the background.")
def up(detach: bool) -> None:
    """Start the platform; the first time, build its stack.

    \b
    Example:
      sudo deodar up --detach
    """
    if not detach:
        process.run_here()
    settings = _settings()
    files = process.Files(settings.paths.data)
    child = None if process.running(files) else process.start(files)
    with output.progress() as teller:
        teller.tell("Starting the platform")
        _wait_until_ready(settings, files, child, teller)
        _wait_for_answers(settings, files, teller)
    if child is not None:
        for word in process.last_words(files, since=child.log_start, lines=NOTED):
            if word.startswith(NOTE):
                click.echo(word, err=True)
    click.echo(f"Deodar is up. API: {client.variables(settings).api}", err=True)
    click.echo('Point the Heroku CLI at it: eval "$(deodar env)"', err=True)


def _wait_until_ready(
    settings: Settings,
    files: process.Files,
    child: process.Child | None,
    teller: output.Teller,
) -> None:
    """Returns when the daemon says so; how long it takes is the stack's matter, which may be minutes.

    Raises Failed with its last words if it ends before.
    """
    since = child.log_start if child else process.log_size(files)
    marker = client.client_file(settings.paths.data)
    # The file of an earlier run may lie there: only a newer one means ready.
    while not (
        marker.exists() and (child is None or marker.stat().st_mtime_ns >= child.started_at)
    ):
        words = process.last_words(files, since=since)
        if child is not None and child.process.poll() is not None:
            raise output.Failed(
                "\n".join(["The platform did not start. Its last words:", *words]),
                f"All of its log: {files.log}",
            )
        if child is None and process.running(files) is None:
            raise output.Failed("The platform ended meanwhile.", f"Its log: {files.log}")
        # Of all that it logs, only what takes long is worth a person's while.
        if words and (percent := FRACTION.search(words[-1])):
            teller.tell(words[-1], int(percent[1]) / 100)
        time.sleep(POLL)


def _wait_for_answers(settings: Settings, files: process.Files, teller: output.Teller) -> None:
    """Returns when a request went through the API and one through the router."""
    teller.tell("Waiting for API and router to answer")
    api = client.Api(client.variables(settings))
    patience = time.monotonic() + ANSWER_SECONDS
    while not (api.answers() and client.router_answers(settings)):
        if time.monotonic() > patience:
            silent = "router" if api.answers() else "API"
            raise output.Failed(
                f"The platform runs, but its {silent} has not answered for {ANSWER_SECONDS} seconds.",
                f"Its log says more: {files.log}",
            )
        time.sleep(POLL)


@click.command()
@click.option("--purge", is_flag=True, help="Delete all data too: apps, slugs, logs, the stack.")
def down(purge: bool) -> None:
    """Stop the platform and everything it runs.

    \b
    Example:
      sudo deodar down
      sudo deodar down --purge
    """
    settings = _settings()
    files = process.Files(settings.paths.data)
    if not files.data.exists():
        click.echo(f"There is no platform at {files.data}.", err=True)
        return
    # Somebody may have given a folder that held other things before.
    if purge and (strangers := disk.strangers(settings.paths)):
        raise output.Failed(
            f"{files.data} holds what is not Deodar's: {', '.join(strangers[:5])}.",
            "Nothing was stopped or deleted. Move it away, or use deodar down without --purge.",
        )
    with output.progress() as teller:
        teller.tell("Stopping the control plane")
        process.stop(files)
    status = process.take_down(purge=purge)
    if status != 0:
        raise output.Failed("Not everything could be stopped: see above.", "Try again: deodar down")
    click.echo(
        f"Deodar is down, and {files.data} is gone." if purge else "Deodar is down.", err=True
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def status(as_json: bool) -> None:
    """Say whether the platform is up, and what it holds. Exits 1 when it is not.

    \b
    Example:
      sudo deodar status --json
    """
    settings = _settings()
    facts = _look(settings)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)
    if not (facts["api"] and facts["router"]):
        raise SystemExit(1)


def _look(settings: Settings) -> dict[str, Any]:
    files = process.Files(settings.paths.data)
    pid = process.running(files)
    router = client.router_answers(settings)
    space = disk.space(settings)
    facts: dict[str, Any] = {
        "data": str(settings.paths.data),
        "control_plane": pid,
        "api": False,
        "router": router,
        "apps": None,
        "dynos": None,
        "stacks": sorted(
            file.parent.name for file in settings.paths.stacks.glob("[!.]*/stack.json")
        ),
        "disk": dict(disk.usage(settings.paths)),
        "space": {"free": space.free, "total": space.total, "floor": space.floor},
        "swap": swap.usage(),
    }
    if pid is None:
        return facts
    api = client.Api(client.variables(settings))
    if not api.answers():
        return facts
    apps = api.get("/apps")
    dynos = Counter(dyno["state"] for app in apps for dyno in api.get(f"/apps/{app['id']}/dynos"))
    return facts | {"api": True, "apps": len(apps), "dynos": dict(sorted(dynos.items()))}


def _show(facts: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    pid = facts["control_plane"]
    table.add_row("Control plane", "down" if pid is None else f"up (pid {pid})")
    table.add_row("API", "up" if facts["api"] else "down")
    table.add_row("Router", "up" if facts["router"] else "down")
    if facts["apps"] is not None:
        dynos = ", ".join(f"{count} {state}" for state, count in facts["dynos"].items())
        table.add_row("Apps", str(facts["apps"]))
        table.add_row("Dynos", dynos or "none")
    table.add_row("Stacks", ", ".join(facts["stacks"]) or "none built yet")
    table.add_row("Data", facts["data"])
    for kind, taken in facts["disk"].items():
        note = " (emptied when space runs short)" if kind in disk.COLLECTABLE else ""
        table.add_row(f"  {kind}", disk_words.words(taken) + note)
    table.add_row("  free", _free(**facts["space"]))
    table.add_row("Swap", _asleep(**facts["swap"]))
    Console(highlight=False).print(table)


def _asleep(*, used: int, total: int, ram: int) -> str:
    if total == 0:
        return "none: what dynos sleep with stays in RAM (see DEODAR_ZRAM)"
    told = f"{disk_words.words(used)} of {disk_words.words(total)} used"
    return f"{told}; it takes {disk_words.words(ram)} of RAM" if ram else told


def _free(*, free: int, total: int, floor: int) -> str:
    told = f"{disk_words.words(free)} of {disk_words.words(total)}"
    if free < floor:
        return f"{told}: too little, builds are paused below {disk_words.words(floor)}"
    return f"{told}; builds pause below {disk_words.words(floor)}"


@click.command()
@click.option(
    "--shell",
    type=click.Choice(["posix", "fish", "json"]),
    default="posix",
    show_default=True,
    help="For bash, zsh and sh; for fish; or for a program.",
)
def env(shell: str) -> None:
    """Print the variables that point the official Heroku CLI at this platform.

    \b
    Example:
      eval "$(sudo deodar env)"
      sudo deodar env --shell fish | source
    """
    values = client.variables(_settings()).values
    match shell:
        case "json":
            click.echo(json.dumps(values, indent=2))
        case "fish":
            for name, value in values.items():
                quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                click.echo(f"set -gx {name} '{quoted}'")
        case _:
            for name, value in values.items():
                click.echo(f"export {name}={_posix(value)}")


def _posix(value: str) -> str:
    """In single quotes always: what is pasted into a shell should look like it was meant."""
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{quoted}'"
