"""Release phases: begins one as a one-off of the pending release, and says what its end means for the
ledger. Running it is the manifold's; when to begin and how it ended, the releasing loop's.
"""

import random
import uuid
from datetime import datetime

from deodar.actions import dynos as one_offs
from deodar.actions import releases as ledger
from deodar.model import errors
from deodar.model.app import App
from deodar.model.dyno import Dyno, Kind
from deodar.model.formation import DEFAULT_SIZE, ProcessType
from deodar.model.release import PHASE, Release
from deodar.store import dynos, formations, releases
from deodar.store.db import Tx


async def begin(
    tx: Tx, app: App, release: Release, *, lasts: int, dice: random.Random, now: datetime
) -> Dyno:
    """Wishes for the one-off `release.NNNN`, which is stopped after `lasts` seconds.

    From here on the app has a `release` process type, whatever becomes of this: it can be tried again.
    """
    if release.command is None:
        raise errors.StoreFailed(f"The release {release.name} of {app.name} has no release phase.")
    types = await formations.of_app(tx, app.id)
    known = next((each for each in types if each.type == PHASE), None)
    if known is None:
        kept = ProcessType(type=PHASE, quantity=0, command=release.command)
        await formations.replace(tx, app.id, [*types, kept])
    dyno = Dyno(
        id=str(uuid.uuid4()),
        app_id=app.id,
        type=PHASE,
        number=one_offs.free_number(await dynos.of_app(tx, app.id), PHASE, dice),
        kind=Kind.ONE_OFF,
        size=known.size if known else DEFAULT_SIZE,
        command=release.command,
        release_id=release.id,
        release_version=release.version,
        slug_id=release.slug_id,
        state_since=now,
        created_at=now,
        time_to_live=lasts,
    )
    await dynos.insert_dyno(tx, dyno)
    tx.ring(app.id)
    return dyno


async def succeed(tx: Tx, app: App, release: Release, *, now: datetime) -> None:
    """The pending `release` is current now, and the formation is that of its slug."""
    slug = await releases.slug(tx, release.slug_id)
    present = await formations.of_app(tx, app.id)
    await releases.stand(tx, release, formation_before=present, now=now)
    await ledger.put_to_work(tx, app, slug, now=now)


async def fail(tx: Tx, release: Release, *, now: datetime) -> None:
    """The pending `release` has failed: what was current goes on, its config vars with it."""
    await releases.give_up(tx, release, now=now)
    tx.ring(release.app_id)
