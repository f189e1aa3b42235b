import random
from dataclasses import replace
from typing import Any

import pytest

from deodar.actions import apps, dynos, releases
from deodar.actions.dynos import NUMBERS, ONE_OFF_LIMIT, OneOff
from deodar.model import errors
from deodar.model.app import App, AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.release import Slug
from deodar.store import dynos as stored
from deodar.store import releases as ledger

Given = Any
BASH = OneOff(command="bash", env={})


async def deployed(ground: Given) -> App:
    async with ground.db.write() as tx:
        app, _ = await apps.create(
            tx,
            owner=ground.owner,
            name="shop",
            stack="deodar-12",
            dice=random.Random(1),
            now=ground.now,
        )
        slug = Slug(
            id="slug",
            app_id=app.id,
            checksum="SHA256:00",
            size=1,
            stack="deodar-12",
            process_types={"web": "serve"},
            created_at=ground.now,
        )
        await ledger.insert_slug(tx, slug)
        await releases.deploy(
            tx, app, slug, description="Deploy", user=ground.owner.email, now=ground.now
        )
    return app


async def run(ground: Given, app: App) -> Dyno:
    async with ground.db.write() as tx:
        return await dynos.run(tx, app, BASH, dice=random.Random(1), now=ground.now)


async def test_a_one_off_runs_the_current_release_under_a_number_of_its_own(
    ground: Given,
) -> None:
    app = await deployed(ground)

    made = [await run(ground, app) for _ in range(3)]

    assert {dyno.release_version for dyno in made} == {3}
    assert len({dyno.number for dyno in made}) == 3


async def test_fifty_one_offs_at_once_are_enough_and_ended_ones_do_not_count(
    ground: Given,
) -> None:
    app = await deployed(ground)
    made = [await run(ground, app) for _ in range(ONE_OFF_LIMIT)]

    with pytest.raises(errors.InvalidParams) as caught:
        await run(ground, app)
    async with ground.db.write() as tx:
        await stored.update_dyno(tx, replace(made[0], state=State.COMPLETE))
    await run(ground, app)

    assert caught.value.message == "Cannot run more than 50 one-off dynos at once."


def test_the_last_free_number_is_found(ground: Given) -> None:
    blank = Dyno(
        id="x",
        app_id=AppId("shop"),
        type="run",
        number=0,
        kind=Kind.ONE_OFF,
        size="Basic",
        command="bash",
        release_id="r",
        release_version=1,
        slug_id=None,
        state_since=ground.now,
        created_at=ground.now,
    )
    taken = [replace(blank, number=number) for number in NUMBERS if number != 4711]

    assert dynos.free_number(taken, "run", random.Random(1)) == 4711
