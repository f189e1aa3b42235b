"""What may go from the disk, and in which order? Answers with names; deletes nothing itself."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from deodar.model.build import Build, BuildStatus
from deodar.model.dyno import Dyno, State
from deodar.model.release import Entry

HALF_MADE = timedelta(hours=1)  #: what is half written and older than this was given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How much may be kept; each is a setting where people differ."""

    slugs_kept: int = 20  #: releases of an app (devcenter: slug-compiler)
    slug_age: timedelta = timedelta(days=30)
    cache_limit: int = 2 * 1000**3  #: bytes, of one app
    caches_limit: int = 20 * 1000**3  #: of all
    cache_age: timedelta = timedelta(days=30)  #: since the app's last build
    outputs_kept: int = 50  #: builds of an app whose output can be read
    upload_age: timedelta = timedelta(days=1)
    dyno_disk: int = 4 * 1000**3  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What buildpacks keep for one app."""

    app_id: str
    size: int  #: bytes
    used_at: datetime  #: when the app was last built


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A file or folder that is named after what it belongs to."""

    name: str  #: a build's or an upload's id
    written_at: datetime


def expired(
    entries: Sequence[Entry],
    slugs: Mapping[str, datetime],
    *,
    held: Collection[str],
    rules: Rules,
    now: datetime,
) -> set[str]:
    """Of one app's slugs, id and birth, those to be collected; `held` are those of its dynos.

    Kept is the slug of the current release, of each of the newest releases, and of each that is young.
    """
    newest = sorted(entries, key=lambda entry: entry.version, reverse=True)[: rules.slugs_kept]
    young = [entry for entry in entries if now - entry.created_at < rules.slug_age]
    current = [entry for entry in entries if entry.current]
    kept = {entry.slug_id for entry in (*newest, *young, *current)}
    born = {slug_id for slug_id, at in slugs.items() if now - at < rules.slug_age}
    return slugs.keys() - kept - born - set(held)


def spent_caches(caches: Sequence[Cache], *, rules: Rules, now: datetime) -> list[Cache]:
    """The caches to be emptied: the overgrown, the forgotten, and the longest unused while all are too
    large together."""
    overgrown = [
        cache
        for cache in caches
        if cache.size > rules.cache_limit or now - cache.used_at >= rules.cache_age
    ]
    rest = sorted(
        (cache for cache in caches if cache not in overgrown), key=lambda cache: cache.used_at
    )
    excess = sum(cache.size for cache in rest) - rules.caches_limit
    return overgrown + first_of(rest, excess)


def caches_for(caches: Sequence[Cache], missing: int) -> list[Cache]:
    """The fewest caches that make so many bytes free, if all of them do."""
    return first_of(sorted(caches, key=lambda cache: cache.size, reverse=True), missing)


def first_of(caches: Iterable[Cache], missing: int) -> list[Cache]:
    """The first caches, as many as it takes to have `missing` bytes together."""
    taken: list[Cache] = []
    for cache in caches:
        if missing <= 0:
            break
        taken.append(cache)
        missing -= cache.size
    return taken


def spent_outputs(
    files: Iterable[Leftover], builds: Iterable[Build], *, rules: Rules, now: datetime
) -> list[str]:
    """Ids of builds whose output nobody reads any more: not among their app's newest, or of no app."""
    of_app: dict[str, list[Build]] = {}
    for build in sorted(builds, key=lambda build: build.created_at, reverse=True):
        of_app.setdefault(build.app_id, []).append(build)
    kept = {build.id for each in of_app.values() for build in each[: rules.outputs_kept]}
    return given_up(files, kept | _pending(builds), now)


def left_folders(
    folders: Iterable[Leftover], builds: Iterable[Build], *, now: datetime
) -> list[str]:
    """Ids of builds whose folder is of no use any more; that of a build to come has no build yet."""
    return given_up(folders, _pending(builds), now)


def given_up(found: Iterable[Leftover], needed: Collection[str], now: datetime) -> list[str]:
    return [
        each.name
        for each in found
        if each.name not in needed and now - each.written_at >= HALF_MADE
    ]


def _pending(builds: Iterable[Build]) -> set[str]:
    return {build.id for build in builds if build.status is BuildStatus.PENDING}


def greedy(dynos: Iterable[Dyno], written: Mapping[str, int], rules: Rules) -> list[Dyno]:
    """The dynos that have written more than they may, and that nobody has condemned yet."""
    return [
        dyno
        for dyno in dynos
        if dyno.state in (State.STARTING, State.UP)
        and dyno.condemned is None
        and written.get(dyno.id, 0) > rules.dyno_disk
    ]
