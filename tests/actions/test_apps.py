import random
from typing import Any

import pytest

from deodar.actions import apps
from deodar.model import errors
from deodar.model.app import App
from deodar.store import apps as stored
from deodar.store import releases as ledger

Given = Any


async def create(ground: Given, name: str | None = "shop") -> App:
    async with ground.db.write() as tx:
        app, _ = await apps.create(
            tx,
            owner=ground.owner,
            name=name,
            stack="deodar-12",
            dice=random.Random(1),
            now=ground.now,
        )
    return app


async def test_a_new_app_is_stored_as_it_was_answered_with_its_first_releases(
    ground: Given,
) -> None:
    app = await create(ground)

    async with ground.db.read() as tx:
        assert await stored.find(tx, "shop") == app
        begun = await ledger.of_app(tx, app.id)
    assert [(release.version, release.description, release.current) for release in begun] == [
        (1, "Initial release", False),
        (2, "Enable Logplex", True),
    ]


async def test_each_app_has_a_slot_and_a_user_of_its_own_and_a_free_slot_is_taken_again(
    ground: Given,
) -> None:
    made = [await create(ground, name) for name in ("one", "two", "three")]
    async with ground.db.write() as tx:
        await apps.destroy(tx, made[1])

    four = await create(ground, "four")

    assert [(app.slot, app.uid) for app in (*made, four)] == [
        (0, 20_000),
        (1, 20_001),
        (2, 20_002),
        (1, 20_003),
    ]


async def test_a_random_name_that_is_taken_is_not_given_again(ground: Given) -> None:
    first = await create(ground, None)

    second = await create(ground, None)

    assert first.name != second.name


async def test_a_refused_app_leaves_nothing_behind(ground: Given) -> None:
    await create(ground)
    ground.rung.clear()

    with pytest.raises(errors.InvalidParams):
        await create(ground)

    async with ground.db.read() as tx:
        assert len(await stored.every(tx)) == 1
    assert ground.rung == []


async def test_setting_buildpacks_forgets_what_was_detected(ground: Given) -> None:
    app = await create(ground)

    async with ground.db.write() as tx:
        first = await apps.set_buildpacks(tx, app, ["heroku/go"], now=ground.now)
        second = await apps.set_buildpacks(tx, first, [], now=ground.now)

    assert (first.buildpacks, second.buildpacks, second.detected_buildpack) == (
        ("heroku/go",),
        (),
        None,
    )


@pytest.mark.parametrize("wrong", [[""], ["x" * 256], ["a\nb"], ["heroku/go"] * 101])
async def test_buildpacks_that_cannot_be_are_refused(ground: Given, wrong: list[str]) -> None:
    app = await create(ground)

    with pytest.raises(errors.InvalidParams):
        async with ground.db.write() as tx:
            await apps.set_buildpacks(tx, app, wrong, now=ground.now)
