"""What an app.json may say, and what is said to one that says something else."""

import json
from typing import Any

import pytest

from deodar.model import errors, manifest
from deodar.model.app import ConfigVars
from deodar.model.manifest import Manifest, Scale, Variable

WHOLE = {
    "name": "A small shop",
    "description": "Passed over, as is whatever nobody knows",
    "stack": "deodar-13",
    "success_url": "/welcome",
    "env": {
        "GREETING": "hello",
        "COLOUR": {"description": "of the door", "value": "green"},
        "KEY": {"generator": "secret"},
        "HINT": {"required": False},
        "TOKEN": {"description": "from your account"},
    },
    "buildpacks": [{"url": "heroku/nodejs"}, {"url": "https://example.com/pack.git"}],
    "formation": {"web": {"quantity": 2, "size": "standard-1x"}, "worker": {}},
    "addons": ["heroku-postgresql:mini", {"plan": "heroku-redis", "as": "CACHE"}],
    "scripts": {"postdeploy": "python seed.py", "test": "pytest"},
    "environments": {"test": {"formation": 7}},
}


def test_a_whole_manifest_is_read() -> None:
    assert manifest.parse(json.dumps(WHOLE)) == Manifest(
        stack="deodar-13",
        env=(
            Variable(name="GREETING", value="hello"),
            Variable(name="COLOUR", value="green"),
            Variable(name="KEY", generated=True),
            Variable(name="HINT", required=False),
            Variable(name="TOKEN"),
        ),
        buildpacks=("heroku/nodejs", "https://example.com/pack.git"),
        formation=(
            Scale(type="web", quantity=2, size="Standard-1X"),
            Scale(type="worker", quantity=1, size="Basic"),
        ),
        addons=("heroku-postgresql:mini", "heroku-redis"),
        postdeploy="python seed.py",
        success_url="/welcome",
    )


def test_an_empty_manifest_asks_for_nothing() -> None:
    assert manifest.parse("\ufeff{}") == Manifest()


def test_a_postdeploy_command_may_have_a_size() -> None:
    text = '{"scripts": {"postdeploy": {"command": "seed", "size": "standard-2x"}}}'

    assert manifest.parse(text) == Manifest(postdeploy="seed", postdeploy_size="Standard-2X")


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ([], ("app.json must be a JSON object",)),
        ({"name": "x" * 31}, ("name: is over 30 characters",)),
        ({"name": 5, "stack": []}, ("name: must be a text", "stack: must be a text")),
        ({"env": ["A"]}, ("env: must be an object",)),
        ({"env": {"A": 5}}, ("env.A: must be an object",)),
        ({"env": {"A": {"value": 5}}}, ("env.A.value: must be a text",)),
        ({"env": {"A": {"required": "no"}}}, ("env.A.required: must be true or false",)),
        ({"env": {"A": {"generator": "dice"}}}, ('env.A.generator: must be "secret"',)),
        ({"buildpacks": {"url": "x"}}, ("buildpacks: must be a list",)),
        ({"buildpacks": ["x"]}, ("buildpacks[0]: must be an object", "buildpacks[0].url: is missing")),
        ({"buildpacks": [{"url": "x"}, {}]}, ("buildpacks[1].url: is missing",)),
        ({"formation": {"web": 2}}, ("formation.web: must be an object",)),
        (
            {"formation": {"web": {"quantity": "2"}}},
            ("formation.web.quantity: must be a number from 0 to 100",),
        ),
        (
            {"formation": {"web": {"quantity": True}}},
            ("formation.web.quantity: must be a number from 0 to 100",),
        ),
        ({"formation": {"a b": {}}}, ("formation.a b: is not a valid process type",)),
        ({"addons": [{}]}, ("addons[0].plan: is missing",)),
        ({"scripts": {"postdeploy": " "}}, ("scripts.postdeploy: is empty",)),
        ({"scripts": {"postdeploy": ["a"]}}, ("scripts.postdeploy: must be a text",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_path(found: Any, problems: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.parse(json.dumps(found))

    assert refused.value.problems == problems


def test_a_size_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.parse('{"formation": {"web": {"size": "huge"}}}')

    [problem] = refused.value.problems
    assert problem.startswith(
        "formation.web.size: Couldn't find the dyno size 'huge'. There are: Eco, Basic,"
    )


@pytest.mark.parametrize("text", ["{", "", '{"a": 1,}', "[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.parse(text)

    [problem] = refused.value.problems
    assert problem.startswith("app.json is not valid JSON: ")


def test_config_vars_are_given_overridden_generated_or_left_out() -> None:
    wanted = manifest.parse(json.dumps(WHOLE))

    config = manifest.config(
        wanted, {"TOKEN": "t", "COLOUR": "red", "MORE": "1"}, secret=lambda: "random"
    )

    assert config == ConfigVars(GREETING="hello", KEY="random", TOKEN="t", COLOUR="red", MORE="1")


def test_every_config_var_without_a_value_is_told() -> None:
    wanted = manifest.parse('{"env": {"A": {}, "B": {"required": true}, "C": {"value": "c"}}}')

    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.config(wanted, {}, secret=lambda: "random")

    assert refused.value.problems == (
        "env.A: config var A is required",
        "env.B: config var B is required",
    )


def test_a_config_var_that_is_the_platforms_own_is_told() -> None:
    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.config(manifest.parse('{"env": {"PORT": "80"}}'), {}, secret=lambda: "random")

    assert refused.value.problems == (
        "env: Config var PORT is set by the platform; choose another name.",
    )


KNOWN = frozenset({"deodar-12", "deodar-13"})


@pytest.mark.parametrize(
    ("wanted", "stack", "notes"),
    [
        (None, "deodar-12", []),
        ("deodar-13", "deodar-13", []),
        ("heroku-24", "deodar-12", ["stack: heroku-24 is not on this machine, deodar-12 is used"]),
    ],
)
def test_a_stack_of_herokus_that_is_not_here_becomes_the_default(
    wanted: str | None, stack: str, notes: list[str]
) -> None:
    told: list[str] = []

    assert manifest.stack(Manifest(stack=wanted), KNOWN, notes=told) == stack
    assert told == notes


def test_a_stack_that_nobody_knows_is_refused() -> None:
    with pytest.raises(errors.InvalidManifest) as refused:
        manifest.stack(Manifest(stack="container"), KNOWN, notes=[])

    assert refused.value.problems == (
        "stack: 'container' is not available. There are: deodar-12, deodar-13",
    )


def test_addons_are_told_to_be_passed_over() -> None:
    assert manifest.unmet(Manifest(addons=("heroku-redis",))) == [
        "addons[0]: heroku-redis was not added, since this platform has no add-ons. Give what it "
        "would have set with overrides.env or `heroku config:set`"
    ]
