"""One build from source to release, told in order; which build comes next is the loop's to say."""

import asyncio
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta

from deodar.actions import builds as wishes
from deodar.adapters import slugs, stacks
from deodar.adapters.disk import Disk
from deodar.engines.base import Engine, Spec
from deodar.kit.clock import Clock
from deodar.kit.disk import taken
from deodar.loops.compiler import buildpack, phase, workshop
from deodar.loops.compiler.buildpack import Outcome
from deodar.loops.compiler.output import Output, megabytes
from deodar.loops.compiler.workshop import Workshop
from deodar.model import disk, errors, tuning
from deodar.model.app import App, ConfigVars
from deodar.model.build import Build
from deodar.model.dyno import Dyno, State
from deodar.model.formation import MB, DynoSize, ProcessType
from deodar.model.release import SLUG_LIMIT, Release, ReleaseStatus, Slug
from deodar.settings import Settings
from deodar.store import apps, builds, dynos, formations, releases
from deodar.store.db import Database

#: a build may use much memory and many processes, but its CPU weight is far below any dyno's
BUILD_SIZE = DynoSize(name="Build", memory=2048 * MB, pids=4096, shares=64)
SLACK = 5  #: seconds that a push waits beyond the time in which web dynos must bind
STRIDE = 0.05  #: how far a stack's building gets between two lines about it
WEIGHING = timedelta(seconds=5)  #: between looks at how much a build has written
PEEK = 0.03  #: seconds between looks at a running build's output, and at the dynos of its release


class Pipeline:
    """Runs builds. Raises BuildFailed when the user's code is to blame."""

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        clock: Clock,
        settings: Settings,
        disk: Disk,
        web_url: Callable[[App], str],
    ) -> None:
        self._db = db
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._disk = disk
        self._web_url = web_url
        self._building_stack = asyncio.Lock()

    async def run(self, app: App, build: Build, out: Output) -> Build:
        """From the source that lies ready to a release that runs; answers the build as it then is."""
        shop = workshop.of(self._settings.paths, app.id, build.id)
        config = await self._config(app)
        self._disk.check()
        await self._ensure_stack(build.stack, out)
        with self._disk.filling():
            out.step(f"Building on the {build.stack} stack")
            await self._fetch(build, shop, out)
            await workshop.lay_out(shop, uid=app.uid, config=config)
            outcome = await self._compile(app, build, shop, out)
            slug = await self._pack(app, build, shop, outcome, out)
        return await self._release(app, build, slug, outcome, out)

    async def _ensure_stack(self, name: str, out: Output) -> None:
        """The first app that is built on a stack builds that, too: some minutes, told as they pass."""
        folder = self._settings.paths.stacks
        async with self._building_stack:
            if stacks.present(folder, name) is not None:
                return
            if name in stacks.RECIPES:
                out.step(f"Building the stack {name} (once)")
            due = 0.0

            def tell(progress: stacks.Progress) -> None:
                nonlocal due
                if progress.fraction >= due:
                    out.detail(f"{progress.fraction:4.0%} {progress.step}")
                    due = progress.fraction + STRIDE

            await stacks.build(folder, name, on_progress=tell)

    async def _config(self, app: App) -> ConfigVars:
        async with self._db.read() as tx:
            current = await releases.current(tx, app.id)
        return current.config if current else ConfigVars()

    async def _fetch(self, build: Build, shop: Workshop, out: Output) -> None:
        """The source lies ready afterwards; one that is elsewhere takes its time, and may be canceled."""
        if shop.address.exists():
            out.step("Fetching the source")
        fetching = asyncio.create_task(workshop.fetch(shop))
        try:
            while not (await asyncio.wait([fetching], timeout=1))[0]:
                await self._check_wanted(build)
                self._check_disk()
            fetching.result()
        finally:
            fetching.cancel()

    # Source to compiled tree.

    async def _compile(self, app: App, build: Build, shop: Workshop, out: Output) -> Outcome:
        buildpack.check(shop.tree)
        asked = build.buildpacks or ((app.detected_buildpack,) if app.detected_buildpack else ())
        status = await self._run(app, build, shop, asked, out)
        outcome = await asyncio.to_thread(buildpack.outcome, shop.result, shop.tree, status=status)
        discover(outcome, out)
        return outcome

    async def _run(
        self, app: App, build: Build, shop: Workshop, asked: tuple[str, ...], out: Output
    ) -> int:
        """Runs the driver in a build dyno, its output into `out`; answers its exit status."""
        folders = [(each, buildpack.located(each)) for each in asked] or buildpack.candidates()
        await self._engine.create(
            Spec(
                id=build.id,
                app_id=app.id,
                name="build",
                uid=app.uid,
                argv=buildpack.command(asked),
                env=ConfigVars(
                    buildpack.environment(
                        build.stack, request_id=build.id, source_version=build.commit
                    )
                ),
                stack=build.stack,
                build=True,
                volumes=buildpack.volumes(
                    folders, app=shop.tree, cache=shop.cache, env=shop.env, result=shop.result
                ),
                size=BUILD_SIZE,
            )
        )
        try:
            await self._engine.start(build.id)
            return await self._attend(build, shop, out)
        finally:
            await self._engine.remove(build.id)

    async def _attend(self, build: Build, shop: Workshop, out: Output) -> int:
        """Passes the build's output on until it ends, runs out of time or disk, or nobody wants it."""
        started = self._clock()
        limit = timedelta(seconds=self._settings.build_timeout)
        ended = asyncio.create_task(self._engine.wait(build.id))
        offset, looked, weighed = 0, started, started
        try:
            while True:
                over = ended.done()
                offset = await self._pass_on(build.id, offset, out)
                if over:
                    break
                await asyncio.wait([ended], timeout=PEEK)
                now = self._clock()
                if now - started > limit:
                    await self._engine.signal(build.id, signal.SIGKILL)
                    minutes = limit.total_seconds() / 60
                    raise errors.BuildFailed(
                        f"The build took longer than {minutes:g} minutes and was stopped."
                    )
                if now - looked > timedelta(seconds=1):
                    looked = now
                    await self._check_wanted(build)
                    self._check_disk()
                if now - weighed > WEIGHING:
                    weighed = now
                    await self._check_quota(build, shop)
        finally:
            ended.cancel()
        sighting = (await self._engine.sightings()).get(build.id)
        if sighting is None or sighting.exit_status is None:
            raise errors.EngineFailed(
                "The build dyno is gone; the machine may have restarted. Push again."
            )
        if sighting.oom_killed:
            raise errors.BuildFailed(
                f"The build used more than {BUILD_SIZE.memory // MB} MB of memory."
            )
        return sighting.exit_status

    async def _pass_on(self, build_id: str, offset: int, out: Output) -> int:
        while pieces := await self._engine.output(build_id, offset):
            out.raw(b"".join(piece.data + (b"" if piece.partial else b"\n") for piece in pieces))
            offset = pieces[-1].offset
        return offset

    async def _check_wanted(self, build: Build) -> None:
        async with self._db.read() as tx:
            check_wanted(await builds.find(tx, build.app_id, build.id))

    def _check_disk(self) -> None:
        """A build may write without end: it is stopped while the others have something left."""
        space = self._disk.space()
        if space.is_nearly_gone:
            raise errors.DiskFull(disk.full(space))

    async def _check_quota(self, build: Build, shop: Workshop) -> None:
        """What one build writes is bounded, however much there is: in its folders, its cache, its /tmp."""
        folders = await taken(shop.folder, shop.cache)
        own = (await self._engine.written()).get(build.id, 0)
        quota = self._settings.build_disk
        if sum(folders.values()) + own > quota:
            raise errors.BuildFailed(
                f"The build wrote more than {quota / 1000**3:g} GB and was stopped. "
                "Remove what it does not need, or clear its cache."
            )

    # Compiled tree to slug.

    async def _pack(
        self, app: App, build: Build, shop: Workshop, outcome: Outcome, out: Output
    ) -> Slug:
        out.line()
        out.step("Compressing...")
        # Before both, since it changes the tree: neither may read what the other does not.
        await asyncio.to_thread(slugs.inspect, shop.tree)
        packing = asyncio.create_task(self._engine.pack_slug(shop.tree, uid=app.uid))
        try:
            # The archive is what is stored and travels; the image is what this machine runs.
            archive = await slugs.pack(shop.tree, self._settings.paths.slugs)
            check_size(archive)
            await self._engine.keep_slug(await packing, checksum=archive.checksum, uid=app.uid)
        except BaseException:
            await workshop.discard(packing)
            raise
        out.detail(f"Done: {megabytes(archive.size)}")
        return Slug(
            id=str(uuid.uuid4()),
            app_id=app.id,
            checksum=archive.checksum,
            size=archive.size,
            stack=build.stack,
            commit=build.commit,
            commit_description=build.commit_description,
            buildpack_description=outcome.description,
            process_types=outcome.process_types,
            created_at=self._clock(),
        )

    # Slug to release.

    async def _release(
        self, app: App, build: Build, slug: Slug, outcome: Outcome, out: Output
    ) -> Build:
        out.step("Launching...")
        async with self._db.write() as tx:
            present = await apps.find(tx, app.id)
            check_wanted(await builds.find(tx, app.id, build.id))
            if present is None:
                raise errors.BuildFailed("The app was destroyed during the build.")
            build, release = await wishes.release(
                tx, present, build, slug, detected=pinned(build, outcome), now=self._clock()
            )
        if release.command is not None:
            out.error(phase.DECLARED)
        out.detail(f"Released {release.name}")
        out.detail(f"{self._web_url(present)} deployed to Deodar")
        out.line()
        if release.status is ReleaseStatus.PENDING:
            output = self._settings.paths.releases / app.id / f"{release.id}.log"
            if not await phase.show(self._db, release, output, out):
                out.line("Verifying deploy... failed.")
                return build
        await self._verify(release, out)
        return build

    async def _verify(self, release: Release, out: Output) -> None:
        """Waits until the release's web dynos serve, or will not."""
        out.raw(b"Verifying deploy...")
        boot = tuning.BOOT_TIMEOUT.of(release.config, self._settings.boot_timeout)
        deadline = self._clock() + timedelta(seconds=boot + SLACK)
        crashed: Dyno | None = None
        while self._clock() < deadline:
            async with self._db.read() as tx:
                formation = await formations.of_app(tx, release.app_id)
                present = await dynos.of_app(tx, release.app_id)
                known = await releases.get(tx, release.id)
            ours = [dyno for dyno in present if dyno.release_id == release.id and dyno.is_web]
            crashed = next((dyno for dyno in ours if dyno.state is State.CRASHED), crashed)
            failed = known is not None and known.status is ReleaseStatus.FAILED
            if crashed is not None and (failed or gave_up(crashed)):
                out.line(" failed.")
                out.error(tell_crash(crashed, failed=failed))
                return
            if known is None or not known.current or serves(ours, formation):
                break
            await asyncio.sleep(PEEK)
        out.line(" done.")


def check_wanted(build: Build | None) -> None:
    """Raises BuildFailed for a build that nobody waits for any more."""
    if build is None:
        raise errors.BuildFailed("The app was destroyed during the build.")
    if build.canceled_by is not None:
        raise errors.BuildFailed(wishes.told_canceled(build))


def check_size(archive: slugs.Archive) -> None:
    if archive.size > SLUG_LIMIT:
        raise errors.BuildFailed(
            f"Compiled slug size: {megabytes(archive.size)} is too large "
            f"(max is {SLUG_LIMIT // 1_000_000}M). Add what is not needed at run time to .slugignore."
        )


def pinned(build: Build, outcome: Outcome) -> str | None:
    """The buildpack that later builds use without asking; one that was asked for is set already.

    The one for a bare Procfile takes what no other knows: it must not keep a real one from an app that
    gets, say, a requirements.txt later.
    """
    if build.buildpacks or outcome.detected == "heroku/procfile":
        return None
    return outcome.detected


def discover(outcome: Outcome, out: Output) -> None:
    """Tells which process types there are, as the slug compiler does."""
    out.step("Discovering process types")
    own = [kind for kind in outcome.process_types if kind not in outcome.defaults]
    out.detail(f"Procfile declares types     -> {', '.join(own) or '(none)'}")
    if outcome.defaults:
        title = f"Default types for {outcome.description}"
        out.detail(f"{title:<27} -> {', '.join(outcome.defaults)}")


def serves(ours: list[Dyno], formation: list[ProcessType]) -> bool:
    """Whether as many web dynos as are wished take requests."""
    wished = sum(each.quantity for each in formation if each.type == "web")
    return sum(dyno.state is State.UP and dyno.routed for dyno in ours) >= wished


def gave_up(dyno: Dyno) -> bool:
    """Whether a crashed dyno will not start again soon."""
    return dyno.killed or dyno.crashes > 1


def tell_crash(dyno: Dyno, *, failed: bool) -> str:
    after = (
        f"The release v{dyno.release_version} failed; the one before it goes on serving.\n"
        if failed
        else ""
    )
    return f"{dyno.name} crashed: {dyno.cause}\n{after}See what it wrote: heroku logs --tail"
