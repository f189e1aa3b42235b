"""The commands about stacks: list, import, update, remove; the work is done by a process of its own."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from deodar import settings as settings_
from deodar.cli import client, disk, output, process
from deodar.model import disk as disk_words
from deodar.settings import Settings

WIDE = 1000  #: columns, where there is no terminal
SHOWN = 12  #: digits of a digest that tell it from others


@click.command("stacks")
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def list_(as_json: bool) -> None:
    """List the stacks on this machine, and the apps on them.

    \b
    Example:
      sudo deodar stacks
    """
    found = _look(settings_.read(os.environ))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("Name", "Digest", "Base", "Size", "Built", "Apps"):
        table.add_column(title)
    for each in found:
        apps = each["apps"]
        table.add_row(
            each["name"],
            each["digest"].removeprefix("SHA256:")[:SHOWN],
            each["base"],
            disk_words.words(each["size"]),
            f"{datetime.fromisoformat(each['built_at']).astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            "?" if apps is None else ", ".join(apps) or "none",
        )
    # A line a stack for a program; a person's terminal has its own width.
    width = None if sys.stdout.isatty() else WIDE
    Console(highlight=False, width=width).print(table)


def _look(settings: Settings) -> list[dict[str, Any]]:
    """Every complete stack; its apps are None while the API does not answer."""
    apps = _apps(settings)
    found = []
    for file in sorted(settings.paths.stacks.glob("[!.]*/stack.json")):
        facts = json.loads(file.read_bytes())
        suite, name = facts.get("suite"), facts["name"]
        found.append(
            {
                "name": name,
                "digest": facts["digest"],
                "base": f"Debian {suite}" if suite else f"OCI image {facts['image']}",
                # Stacks of before it was noted are measured.
                "size": facts.get("size") or disk.taken(file.parent),
                "built_at": facts["built_at"],
                "apps": None if apps is None else _on(name, apps),
            }
        )
    return found


def _apps(settings: Settings) -> list[dict[str, Any]] | None:
    if not client.client_file(settings.paths.data).exists():
        return None
    api = client.Api(client.variables(settings))
    found: list[dict[str, Any]] | None = api.get("/apps") if api.answers() else None
    return found


def _on(name: str, apps: Sequence[dict[str, Any]]) -> list[str]:
    """The apps that run on the stack, or will after their next build."""
    return sorted(
        app["name"] for app in apps if name in (app["stack"]["name"], app["build_stack"]["name"])
    )


@click.command("stacks:import")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    help="Another image, which builds see: with compilers.",
)
def import_(name: str, path: Path, build: Path | None) -> None:
    """Make a stack of an OCI image: a layout folder, or an archive of docker save.

    \b
    Example:
      sudo deodar stacks:import heroku-24 heroku-24.tar --build heroku-24-build.tar
    """
    also = () if build is None else ("--build", str(build.absolute()))
    _tell(_work("import", *also, "--", name, str(path.absolute())))


@click.command("stacks:update")
@click.argument("name", required=False)
def update(name: str | None) -> None:
    """Build the stacks that Deodar makes itself anew, from today's packages.

    \b
    Example:
      sudo deodar stacks:update
      sudo deodar stacks:update deodar-13
    """
    made = _work("update", *(("--", name) if name else ()))
    if not made:
        raise output.Failed("There is no stack to update.", "Build one: deodar stacks:update NAME")
    _tell(made)


def _tell(made: Sequence[dict[str, Any]]) -> None:
    for each in made:
        digest = each["digest"].removeprefix("SHA256:")[:SHOWN]
        if each["changed"]:
            click.echo(f"The stack {each['name']} is now {digest}.", err=True)
            click.echo(
                "Builds and new dynos use it; dynos that run do from their next restart on.",
                err=True,
            )
        else:
            click.echo(f"The stack {each['name']} is up to date: still {digest}.", err=True)


@click.command("stacks:remove")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if apps are on it: they start no dynos any more.")
def remove(name: str, force: bool) -> None:
    """Remove a stack that no app is on.

    \b
    Example:
      sudo deodar stacks:remove heroku-24
    """
    settings = settings_.read(os.environ)
    if not force:
        apps = _apps(settings)
        if apps is None:
            raise output.Failed(
                f"Whether apps are on the stack {name} is not known: the API does not answer.",
                "Start it: deodar up --detach. Or remove the stack all the same: --force",
            )
        if on := _on(name, apps):
            raise output.Failed(
                f"Apps are on the stack {name}: {', '.join(on)}.",
                "Give them another (heroku stack:set, then deploy), or use --force.",
            )
    _work("take-down", "--", name)
    click.echo(f"The stack {name} is removed; its files go when no dyno uses them.", err=True)


def _work(*arguments: str) -> list[dict[str, Any]]:
    """Runs it to its end, telling how far it is. Raises Failed with what it said."""
    with output.progress() as teller:
        work = process.StackWork(arguments)
        for step in work.steps():
            teller.tell(step.text, step.fraction)
    if work.status != 0:
        what = work.words.removeprefix("deodar: ")
        raise output.Failed(what or "It was ended before it was done.")
    return list(json.loads(work.answer or "[]"))
