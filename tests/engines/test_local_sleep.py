"""Standing still, and memory pushed out of RAM: the files of both cgroup versions as values, zram for real."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deodar.engines.local import sleep, swap
from deodar.engines.local.cgroups import Cgroups
from deodar.kit import subprocess
from deodar.model import errors
from tests.contracts.test_engine import until, until_async
from tests.engines.test_local import DEADLINE, Ground, bash, cleared, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

MB = 1024 * 1024
EATEN = 100 * MB
SERVER = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=5000)"
#: bytes of which about half are compressible, as those of most programs
EATER = (
    f"import os, time; x = os.urandom({EATEN // 2}) + b'ab' * {EATEN // 4}; print('up', flush=True)"
)


@pytest.fixture
def unified(tmp_path: Path) -> Cgroups:
    group = tmp_path / "deodar" / "one"
    group.mkdir(parents=True)
    for name, text in {
        "cgroup.freeze": "0\n",
        "cgroup.events": "populated 1\nfrozen 0\n",
        "memory.current": "98304\n",
        "memory.reclaim": "",
    }.items():
        (group / name).write_text(text)
    return Cgroups(unified=tmp_path, legacy={}, hybrid=None)


@pytest.fixture
def legacy(tmp_path: Path) -> Cgroups:
    roots = {name: tmp_path / name for name in ("freezer", "memory")}
    for name, file in (("freezer", "freezer.state"), ("memory", "memory.force_empty")):
        group = roots[name] / "deodar" / "one"
        group.mkdir(parents=True)
        (group / file).write_text("THAWED\n")
    return Cgroups(unified=None, legacy=roots, hybrid=None)


GROUP = "/deodar/one"


async def test_version_2_is_frozen_when_the_kernel_says_that_all_stand_still(
    unified: Cgroups, tmp_path: Path
) -> None:
    group = tmp_path / GROUP[1:]
    freezing = asyncio.create_task(sleep.freeze(unified, GROUP))
    await until(lambda: (group / "cgroup.freeze").read_text() == "1")
    before = freezing.done()

    (group / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    await freezing

    assert before is False


async def test_version_2_is_thawed_by_a_zero(unified: Cgroups, tmp_path: Path) -> None:
    (tmp_path / GROUP[1:] / "cgroup.freeze").write_text("1")

    sleep.thaw(unified, GROUP)

    assert (tmp_path / GROUP[1:] / "cgroup.freeze").read_text() == "0"


async def test_whoever_thaws_what_is_being_frozen_ends_the_waiting(unified: Cgroups) -> None:
    freezing = asyncio.create_task(sleep.freeze(unified, GROUP))
    await asyncio.sleep(0)

    sleep.thaw(unified, GROUP)

    async with asyncio.timeout(DEADLINE):
        await freezing


async def test_what_does_not_come_to_a_stand_is_thawed_again_and_told(
    unified: Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleep, "STILL_TIMEOUT", 0.01)

    with pytest.raises(errors.EngineFailed, match=r"does not stand still within 0\.01 s"):
        await sleep.freeze(unified, GROUP)

    assert (tmp_path / GROUP[1:] / "cgroup.freeze").read_text() == "0"


async def test_version_2_is_asked_to_give_all_that_it_has(unified: Cgroups, tmp_path: Path) -> None:
    await sleep.reclaim(unified, GROUP)

    assert (tmp_path / GROUP[1:] / "memory.reclaim").read_text() == "98304\n"


async def test_version_1_is_frozen_thawed_and_emptied_by_files_of_two_hierarchies(
    legacy: Cgroups, tmp_path: Path
) -> None:
    state = tmp_path / "freezer" / GROUP[1:] / "freezer.state"
    await sleep.freeze(legacy, GROUP)
    frozen = state.read_text()
    await sleep.reclaim(legacy, GROUP)

    sleep.thaw(legacy, GROUP)

    assert (frozen, state.read_text()) == ("FROZEN", "THAWED")
    assert (tmp_path / "memory" / GROUP[1:] / "memory.force_empty").read_text() == "0\n"


@pytest.mark.parametrize(
    ("text", "frozen"),
    [
        *(("1\n", True), ("0\n", False)),
        *(("FROZEN\n", True), ("FREEZING\n", True), ("THAWED\n", False)),
        ("", False),  # it is gone
    ],
)
async def test_what_was_on_its_way_to_be_frozen_is_frozen(text: str, frozen: bool) -> None:
    assert sleep.wished(text) is frozen


async def test_what_is_gone_can_be_frozen_and_thawed(unified: Cgroups, legacy: Cgroups) -> None:
    for groups in (unified, legacy):
        await sleep.freeze(groups, "/gone")
        sleep.thaw(groups, "/gone")
        assert not sleep.is_frozen(groups, "/gone")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("[lzo-rle] lzo lz4", "lz4"),
        ("lzo [lzo-rle] zstd", "lzo-rle"),
        ("lzo lz4 [zstd]", "lz4"),
        ("deflate [842]", "842"),
    ],
)
async def test_the_quickest_compression_that_the_kernel_has_is_taken(
    offered: str, chosen: str
) -> None:
    assert swap.algorithm(offered) == chosen


async def test_a_kernel_without_zram_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "CONTROL", tmp_path / "none")
    monkeypatch.setattr(swap, "active", lambda: ())
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(errors.EngineFailed, match="this kernel has no zram"):
        await swap.Zram(tmp_path / "mark", size=MB).prepare()


# for real


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ground(
    stack_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    async with cleared(Ground(tmp_path_factory.mktemp("sleep") / "data", stack_root)) as ground:
        yield ground


@pytest_asyncio.fixture(loop_scope="module")
async def zram(tmp_path: Path) -> AsyncIterator[swap.Zram]:
    """A device of our own, for as long as the test takes."""
    if os.geteuid() != 0 or not swap.CONTROL.exists():
        pytest.skip("zram needs root, and a kernel that has it")
    if swap.active():
        pytest.skip("this machine has swap already")
    device = swap.Zram(tmp_path / "zram", size=256 * MB)
    try:
        await device.prepare()
        yield device
    finally:
        await device.destroy()


async def test_a_request_to_a_frozen_dyno_is_held_and_answered_when_it_is_thawed(
    ground: Ground,
) -> None:
    spec = bash(f'exec python3 -c "{SERVER}"', port=5000)
    address = (await run(ground.engine, spec)).address
    await until_async(lambda: ground.engine.ready(spec.id, 5000))
    await ground.engine.freeze(spec.id)
    reader, writer = await asyncio.open_connection(address, 5000)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answering = asyncio.create_task(reader.readline())
    await asyncio.sleep(0.05)
    early = answering.done()

    await ground.engine.thaw(spec.id)

    async with asyncio.timeout(DEADLINE):
        answer = await answering
    writer.close()
    await ground.engine.remove(spec.id)
    assert (early, answer) == (False, b"HTTP/1.0 200 OK\r\n")


async def test_a_thaw_cuts_a_reclaim_short(ground: Ground) -> None:
    spec = bash("sleep 1000")
    await run(ground.engine, spec)
    await ground.engine.freeze(spec.id)
    reclaiming = asyncio.create_task(ground.engine.reclaim(spec.id))
    await asyncio.sleep(0)

    await ground.engine.thaw(spec.id)

    async with asyncio.timeout(DEADLINE):
        await reclaiming
    await ground.engine.remove(spec.id)


async def test_swap_in_ram_is_made_once_whoever_asks_and_leaves_nothing(
    zram: swap.Zram, tmp_path: Path
) -> None:
    made = swap.active()
    await zram.prepare()
    await swap.Zram(tmp_path / "zram", size=256 * MB).prepare()
    after = swap.active()

    await zram.destroy()
    await zram.destroy()

    device = made[0].zram
    assert (len(made), after) == (1, made)
    assert (swap.active(), device and (swap.BLOCKS / device).exists()) == ((), False)


async def test_a_start_that_was_killed_on_the_way_to_swap_is_carried_on(
    zram: swap.Zram, tmp_path: Path
) -> None:
    made = swap.active()
    await subprocess.run("swapoff", made[0].path)

    await swap.Zram(tmp_path / "zram", size=256 * MB).prepare()

    assert swap.active() == made


async def test_nobody_adds_to_swap_of_the_owners(zram: swap.Zram, tmp_path: Path) -> None:
    before = swap.active()

    await swap.Zram(tmp_path / "another", size=256 * MB).prepare()

    assert swap.active() == before


async def test_a_sleeping_dynos_memory_leaves_ram_and_counts_against_its_quota_as_before(
    zram: swap.Zram, ground: Ground
) -> None:
    spec = bash(f'exec python3 -c "{EATER}\nwhile True: time.sleep(0.01)"')
    await run(ground.engine, spec)
    await until_async(lambda: _has_spoken(ground, spec.id))
    awake = (await ground.engine.usage([spec.id]))[spec.id]
    await ground.engine.freeze(spec.id)

    await ground.engine.reclaim(spec.id)

    asleep = (await ground.engine.usage([spec.id]))[spec.id]
    await ground.engine.thaw(spec.id)
    woken = (await ground.engine.usage([spec.id]))[spec.id]
    await ground.engine.remove(spec.id)
    assert awake.rss > EATEN
    assert (asleep.rss + asleep.cache) / awake.rss < 0.03
    for later in (asleep, woken):
        assert (later.rss + later.swap) / awake.rss == pytest.approx(1, abs=0.03)


async def _has_spoken(ground: Ground, container_id: str) -> bool:
    return bool(await ground.engine.output(container_id, 0))
