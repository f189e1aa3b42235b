"""The grammar of app.json: text in, a Manifest or all that is wrong with it out (devcenter:
app-json-schema). What is done with one is for the set-up.

Only what an app's first set-up needs is read. `environments`, `keywords`, `logo` and the like are
passed over, as is any key that nobody knows.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deodar.model import app as app_rules
from deodar.model import errors, formation
from deodar.model.app import ConfigVars
from deodar.model.formation import DEFAULT_SIZE

NAME = "app.json"
LIMIT = 256 * 1024  #: bytes of the file
TITLE_LIMIT = 30  #: characters of `name` (devcenter: app-json-schema)
HEROKUS = "heroku-"  #: what the names of Heroku's own stacks begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A config var that the app wants."""

    name: str
    value: str | None = None
    required: bool = True
    generated: bool = False  #: `generator: "secret"`: made for this app alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many dynos of a process type the app wants, and how large."""

    type: str
    quantity: int
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an app.json asks for."""

    stack: str | None = None
    env: tuple[Variable, ...] = ()
    buildpacks: tuple[str, ...] = ()
    formation: tuple[Scale, ...] = ()
    addons: tuple[str, ...] = ()
    postdeploy: str | None = None
    postdeploy_size: str = DEFAULT_SIZE
    success_url: str | None = None


def parse(text: str) -> Manifest:
    """Raises InvalidManifest with everything that is wrong, each with the key's path."""
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise errors.InvalidManifest([f"{NAME} is not valid JSON: {error}"]) from None
    if not isinstance(found, dict):
        raise errors.InvalidManifest([f"{NAME} must be a JSON object"])
    reader = _Reader()
    manifest = reader.manifest(found)
    if reader.problems:
        raise errors.InvalidManifest(reader.problems)
    return manifest


def config(
    manifest: Manifest, overrides: Mapping[str, str], *, secret: Callable[[], str]
) -> ConfigVars:
    """The config vars of a new app; `overrides` win, `secret` makes those that are generated.

    Raises InvalidManifest for those that nobody gives a value, and for what no config var may be.
    """
    given: dict[str, str] = {}
    problems = []
    for each in manifest.env:
        if each.name in overrides:
            continue
        if each.value is not None:
            given[each.name] = each.value
        elif each.generated:
            given[each.name] = secret()
        elif each.required:
            problems.append(f"env.{each.name}: config var {each.name} is required")
    if problems:
        raise errors.InvalidManifest(problems)
    try:
        return app_rules.merge_config({}, {**given, **overrides})
    except errors.InvalidParams as error:
        raise errors.InvalidManifest([f"env: {error.message}"]) from None


def stack(manifest: Manifest, known: frozenset[str], *, notes: list[str]) -> str:
    """The stack that a new app gets. One of Heroku's that is not here becomes the default, which is
    noted: its apps mostly run on any Debian. Raises InvalidManifest for another unknown one."""
    wanted = manifest.stack
    if wanted is None or wanted in known:
        return wanted or app_rules.DEFAULT_STACK
    if wanted.startswith(HEROKUS):
        notes.append(f"stack: {wanted} is not on this machine, {app_rules.DEFAULT_STACK} is used")
        return app_rules.DEFAULT_STACK
    raise errors.InvalidManifest(
        [f"stack: {wanted!r} is not available. There are: {', '.join(sorted(known))}"]
    )


def unmet(manifest: Manifest) -> list[str]:
    """What is passed over, for the owner to know."""
    return [
        f"addons[{index}]: {plan} was not added, since this platform has no add-ons. "
        "Give what it would have set with overrides.env or `heroku config:set`"
        for index, plan in enumerate(manifest.addons)
    ]


@dataclass
class _Reader:
    """Reads one app.json and remembers what it stumbled over."""

    problems: list[str] = field(default_factory=list)

    def manifest(self, found: Mapping[str, Any]) -> Manifest:
        title = self._text("name", found.get("name"))
        if title is not None and len(title) > TITLE_LIMIT:
            self._complain("name", f"is over {TITLE_LIMIT} characters")
        command, size = self._postdeploy(self._object("scripts", found.get("scripts")))
        return Manifest(
            stack=self._text("stack", found.get("stack")),
            env=self._env(self._object("env", found.get("env"))),
            buildpacks=self._buildpacks(found.get("buildpacks")),
            formation=self._formation(self._object("formation", found.get("formation"))),
            addons=self._addons(found.get("addons")),
            postdeploy=command,
            postdeploy_size=size,
            success_url=self._text("success_url", found.get("success_url")),
        )

    def _env(self, found: Mapping[str, Any]) -> tuple[Variable, ...]:
        return tuple(self._variable(f"env.{name}", name, value) for name, value in found.items())

    def _variable(self, path: str, name: str, value: Any) -> Variable:
        if isinstance(value, str):
            return Variable(name=name, value=value)
        about = self._object(path, value)
        generator = self._text(f"{path}.generator", about.get("generator"))
        if generator not in (None, "secret"):
            self._complain(f"{path}.generator", 'must be "secret"')
        required = about.get("required", True)
        if not isinstance(required, bool):
            self._complain(f"{path}.required", "must be true or false")
        return Variable(
            name=name,
            value=self._text(f"{path}.value", about.get("value")),
            required=required is not False,
            generated=generator is not None,
        )

    def _buildpacks(self, found: Any) -> tuple[str, ...]:
        urls = []
        for index, each in enumerate(self._list("buildpacks", found)):
            path = f"buildpacks[{index}]"
            url = self._text(f"{path}.url", self._object(path, each).get("url"))
            if url:
                urls.append(url)
            else:
                self._complain(f"{path}.url", "is missing")
        return tuple(urls)

    def _formation(self, found: Mapping[str, Any]) -> tuple[Scale, ...]:
        scales = []
        for name, value in found.items():
            path = f"formation.{name}"
            about = self._object(path, value)
            if not formation.TYPE.fullmatch(name):
                self._complain(path, "is not a valid process type")
            quantity = about.get("quantity", 1)
            limit = formation.QUANTITY_LIMIT
            # True is an int to Python, but no quantity.
            if type(quantity) is not int or not 0 <= quantity <= limit:
                self._complain(f"{path}.quantity", f"must be a number from 0 to {limit}")
                quantity = 0
            size = self._size(f"{path}.size", about.get("size"))
            scales.append(Scale(type=name, quantity=quantity, size=size))
        return tuple(scales)

    def _addons(self, found: Any) -> tuple[str, ...]:
        plans = []
        for index, each in enumerate(self._list("addons", found)):
            path = f"addons[{index}]"
            about = {"plan": each} if isinstance(each, str) else self._object(path, each)
            plan = self._text(f"{path}.plan", about.get("plan"))
            if plan:
                plans.append(plan)
            else:
                self._complain(f"{path}.plan", "is missing")
        return tuple(plans)

    def _postdeploy(self, scripts: Mapping[str, Any]) -> tuple[str | None, str]:
        path, found = "scripts.postdeploy", scripts.get("postdeploy")
        if isinstance(found, dict):
            command = self._text(f"{path}.command", found.get("command"))
            size = self._size(f"{path}.size", found.get("size"))
        else:
            command, size = self._text(path, found), DEFAULT_SIZE
        if found is not None and command is not None and not command.strip():
            self._complain(path, "is empty")
        return command, size

    def _size(self, path: str, found: Any) -> str:
        name = self._text(path, found)
        if name is None:
            return DEFAULT_SIZE
        try:
            return formation.size_of(name).name
        except errors.InvalidParams as error:
            self._complain(path, error.message)
            return DEFAULT_SIZE

    def _text(self, path: str, found: Any) -> str | None:
        if found is None or isinstance(found, str):
            return found
        self._complain(path, "must be a text")
        return None

    def _object(self, path: str, found: Any) -> Mapping[str, Any]:
        if found is None:
            return {}
        if isinstance(found, dict):
            return found
        self._complain(path, "must be an object")
        return {}

    def _list(self, path: str, found: Any) -> list[Any]:
        if found is None:
            return []
        if isinstance(found, list):
            return found
        self._complain(path, "must be a list")
        return []

    def _complain(self, path: str, why: str) -> None:
        self.problems.append(f"{path}: {why}")
