"""A disk that is nearly full, as somebody who pushes meets it: a real file system of 64 MB for builds."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import HEROKU, STACKS
from tests.system.harness import APPS, Platform, Repo, eventually

PAUSED = "The disk of this machine is nearly full"


@pytest.fixture(scope="module")
def small() -> Iterator[Platform]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if not (STACKS / "deodar-12/stack.json").exists() or not HEROKU.exists():
        pytest.skip("no stack or no official CLI: make test provides both")
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir=os.environ.get("DEODAR_TEST_DATA")))
    folder.chmod(0o711)
    made = Platform.at(folder, stacks=STACKS, heroku=HEROKU)
    made.settings |= {"DEODAR_DISK_FLOOR": "16 MB", "DEODAR_DYNO_DISK": "20 MB"}
    builds = made.data / "builds"
    builds.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m,mode=711", "deodar-test", str(builds))
    try:
        made.up()
        yield made
    finally:
        made.deodar("down")
        subprocess.run(("umount", str(builds)), check=True)
        shutil.rmtree(folder)


def mount(*arguments: str) -> None:
    subprocess.run(("mount", *arguments), check=True)


@pytest.fixture(scope="module")
def shop(small: Platform, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    repo = small.deploy("shop", APPS / "hello", tmp_path_factory.mktemp("shop"))
    small.settle("shop", "web.1")
    small.api(
        "POST", "/apps/shop/dynos", {"command": "head -c 30000000 /dev/zero > big; sleep 900"}
    )
    return repo


@pytest.fixture
def ballast(small: Platform, shop: Repo) -> Iterator[Path]:
    """So much that 8 MB are left; not named as anything that is collected."""
    file = small.data / "builds" / "ballast.log"
    free = shutil.disk_usage(file.parent).free
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, free - 8_000_000)
    yield file
    file.unlink(missing_ok=True)


def test_a_push_is_refused_while_the_disk_is_nearly_full_and_dynos_run_on(
    small: Platform, shop: Repo, ballast: Path
) -> None:
    dynos = small.dyno_ids("shop")
    shop.commit("Change something")

    refused = shop.push()
    answer = small.get("shop.localhost")
    ballast.unlink()
    taken = shop.push()

    assert refused.status == 1
    assert (
        "remote:  !     The disk of this machine is nearly full (8 MB free): builds are paused. "
        "Free some space: deodar status" in refused.stderr
    )
    assert sorted(path.suffix for path in (small.data / "builds").iterdir()) == [".log"] * 2
    assert answer.status == 200
    assert taken.status == 0, taken.all
    assert small.dyno_ids("shop") != dynos


def test_the_api_refuses_sources_and_builds_with_the_same_word(
    small: Platform, shop: Repo, ballast: Path
) -> None:
    for path in ("/sources", "/apps/shop/builds"):
        with pytest.raises(AssertionError, match=f"503.*service_unavailable.*{PAUSED}"):
            small.api("POST", path, {"source_blob": {"url": "https://example.test/source"}})


def test_a_build_that_fills_the_disk_is_stopped_and_leaves_nothing(
    small: Platform, shop: Repo, tmp_path: Path
) -> None:
    shutil.copytree(APPS / "nothing", tmp_path / "glutton")
    (tmp_path / "glutton/Procfile").write_text("web: node\n")
    (tmp_path / "glutton/package.json").write_text(
        '{"name": "glutton", "scripts": {"build": "head -c 61000000 /dev/zero > big; sleep 60"}}'
    )
    small.create("glutton")
    repo = Repo.of(tmp_path / "glutton", tmp_path / "work", small, app="glutton")

    pushed = repo.push()

    assert pushed.status == 1
    assert f"remote:  !     {PAUSED}" in pushed.stderr
    assert small.get("shop.localhost").status == 200
    eventually(lambda: not any(path.is_dir() for path in (small.data / "builds").iterdir()))


def test_a_dyno_that_writes_too_much_is_told_and_ended(small: Platform, shop: Repo) -> None:
    """It began with the module, since dynos are measured once a minute."""
    told = eventually(
        lambda: re.search(r"heroku\[(run\.\d+)\]: Disk.*", small.logs("shop")), within=90
    )

    assert told is not None
    assert told[0] == (
        f"heroku[{told[1]}]: Disk quota exceeded: 30 MB written, 20 MB allowed. "
        "Restarting with an empty disk"
    )
    small.settle("shop", "web.1")
