"""Stacks: the commands that build one as values, what stands in their way as sentences, and a stack
that was built, looked into."""

import fcntl
import os
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deodar.adapters import stacks
from deodar.adapters.stacks import debian, places, shelf
from deodar.adapters.stacks.progress import Meter, Progress
from deodar.adapters.stacks.recipe import RECIPES, Recipe, fingerprint
from deodar.model import errors
from deodar.model.stack import Stack

RECIPE = Recipe(
    suite="bookworm",
    run=("bash", "tini"),
    build=("gcc",),
    backports=("golang-1.23-go",),
    node=">=24,<25",
    uv=">=0.9,<1",
)

FORMER = Stack(
    name="deodar-12",
    suite="bookworm",
    built_at=datetime(2026, 11, 25, tzinfo=UTC),
    digest="SHA256:0",
)


def test_the_run_image_is_made_by_mmdebstrap_from_its_own_mirror(tmp_path: Path) -> None:
    command = debian.bootstrap(tmp_path, RECIPE, {"Acquire::http::Proxy": "http://proxy:3142"})

    assert command == (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--verbose"),
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        '--aptopt=Acquire::http::Proxy "http://proxy:3142"',
        *("--include=bash,tini", "bookworm", str(tmp_path)),
    )


def test_backports_are_asked_only_where_there_is_something_to_take_from_them() -> None:
    with_backports = debian.compilers(RECIPE)
    without = debian.compilers(replace(RECIPE, suite="trixie", backports=()))

    assert "--target-release bookworm-backports golang-1.23-go\n" in with_backports
    assert "backports" not in without
    assert "apt-get install --yes --no-install-recommends gcc\n" in without
    assert without.endswith(debian.GO)


def test_the_build_variant_shares_usr_with_run_and_nothing_that_is_written_in_place(
    tmp_path: Path,
) -> None:
    run, build = tmp_path / "run", tmp_path / "build"
    for name in ("usr/bin/tool", "etc/passwd", "var/log/dpkg.log"):
        (run / name).parent.mkdir(parents=True)
        (run / name).write_text(name)
    (run / "bin").symlink_to("usr/bin")

    subprocess.run(debian.copy(run, build), check=True)

    shared = {
        name: (run / name).samefile(build / name)
        for name in ("usr/bin/tool", "etc/passwd", "var/log/dpkg.log")
    }
    assert shared == {"usr/bin/tool": True, "etc/passwd": False, "var/log/dpkg.log": False}
    assert os.readlink(build / "bin") == "usr/bin"


def test_progress_follows_the_lines_and_never_falls_back() -> None:
    told: list[Progress] = []
    meter = Meter(told.append)

    meter.begin("Installing the run image", until=0.5, lines=4)
    for line in (
        "Get:1 http://mirror/debian bookworm/main amd64 git amd64 1:2.39.5 [7256 kB]",
        "Reading package lists...",
        "Unpacking git (1:2.39.5) ...",
        "Setting up git (1:2.39.5) ...",
        "Setting up tini (0.19.0) ...",
        "Setting up more (1) ...",
    ):
        meter.line(line)
    meter.begin("Finishing", until=1.0, lines=1)

    assert told == [
        Progress("Installing the run image", 0.0),
        Progress("Downloading", 0.125),
        Progress("Installing the run image: git", 0.25),
        Progress("Installing the run image: git", 0.375),
        Progress("Installing the run image: tini", 0.5),
        Progress("Installing the run image: more", 0.5),
        Progress("Finishing", 1.0),
    ]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            "Reading lists\nW: Failed to fetch http://m/InRelease  Temporary failure resolving 'm'\nE: x",
            "Cannot download the parts of the stack deodar-12: W: Failed to fetch http://m/InRelease"
            "  Temporary failure resolving 'm' Check this machine's network, DNS and proxy, then run it again.",
        ),
        (
            "dpkg: error\ntar: write: No space left on device\n",
            "The disk is full: cannot build the stack deodar-12. Free some space, then run it again.",
        ),
        ("one\ntwo\nthree\nfour", "Cannot build the stack deodar-12: two three four"),
        ("", "Cannot build the stack deodar-12: no word of why"),
    ],
)
def test_a_build_that_failed_is_explained_in_a_sentence(output: str, sentence: str) -> None:
    assert debian.explain("deodar-12", output) == sentence


async def test_a_stack_without_a_recipe_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        errors.StackMissing, match=r"The stack heroku-24 is not on this machine\. Import it: deodar"
    ):
        await stacks.build(tmp_path, "heroku-24", on_progress=print)


async def test_too_little_disk_is_told_with_figures_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_root: None
) -> None:
    monkeypatch.setattr(debian, "SPACE", 10**18)

    with pytest.raises(
        errors.StackMissing, match=r"needs 1000000000\.0 GB in .*, where .* GB are free"
    ):
        await stacks.build(tmp_path, "deodar-12", on_progress=print)
    assert list(tmp_path.iterdir()) == []


async def test_a_stack_that_another_process_builds_is_left_to_it(
    tmp_path: Path, as_root: None
) -> None:
    with (tmp_path / ".deodar-12.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(errors.StackMissing, match="Another process is building"):
            await stacks.build(tmp_path, "deodar-12", on_progress=print)


async def test_without_a_network_an_update_says_so_and_the_stack_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_root: None
) -> None:
    # A network namespace of its own, with nothing in it, is a machine whose cable is out.
    monkeypatch.setattr(debian, "ALONE", (*debian.ALONE, "--net"))
    monkeypatch.setattr(debian, "RECIPES", {"deodar-12": RECIPE})
    shelf.begin(tmp_path, "deodar-12")
    shelf.put(tmp_path, FORMER)
    before = (tmp_path / "deodar-12").resolve()
    (tmp_path / ".deodar-12.partial/run/left").mkdir(parents=True)

    with pytest.raises(errors.StackMissing, match="Cannot download the parts of the stack"):
        await stacks.update(tmp_path, "deodar-12", on_progress=print)
    assert not (tmp_path / ".deodar-12.partial/run/left").exists()
    assert stacks.present(tmp_path, "deodar-12") == FORMER
    assert (tmp_path / "deodar-12").resolve() == before


@pytest.mark.parametrize(
    ("recipe", "same", "changed"),
    [
        ("r1", True, False),
        ("r1", False, True),
        ("r0", True, True),
        (None, True, False),
        (None, False, True),
    ],
)
def test_a_stack_has_changed_if_its_packages_have_or_the_recipe_that_it_is_known_to_be_of(
    recipe: str | None, same: bool, changed: bool
) -> None:
    made = replace(FORMER, recipe="r1")
    former = replace(FORMER, recipe=recipe, digest=FORMER.digest if same else "SHA256:1")

    assert debian.differs(former, made) == changed


def test_a_stack_by_another_recipe_is_outdated_and_an_imported_one_never_is() -> None:
    known = fingerprint(RECIPES["deodar-12"])

    assert [
        stacks.is_outdated(stack)
        for stack in (
            FORMER,
            replace(FORMER, recipe="r0"),
            replace(FORMER, recipe=known),
            replace(FORMER, name="own"),
        )
    ] == [True, True, False, False]


def test_every_part_of_a_recipe_is_in_its_fingerprint() -> None:
    others = [
        replace(RECIPE, suite="other"),
        replace(RECIPE, run=("other",)),
        replace(RECIPE, build=("other",)),
        replace(RECIPE, backports=("other",)),
        replace(RECIPE, node="other"),
        replace(RECIPE, uv="other"),
    ]

    assert len({fingerprint(each) for each in (RECIPE, *others)}) == 1 + len(others)


async def test_an_imported_stack_is_not_updated_but_imported_again(tmp_path: Path) -> None:
    shelf.begin(tmp_path, "own")
    shelf.put(tmp_path, replace(FORMER, name="own", suite=None))

    with pytest.raises(errors.InvalidParams, match="Import it again: deodar stacks:import own"):
        await stacks.update(tmp_path, "own", on_progress=print)


def test_a_half_built_stack_is_not_present(tmp_path: Path) -> None:
    (tmp_path / "deodar-12/run").mkdir(parents=True)

    assert stacks.present(tmp_path, "deodar-12") is None
    assert stacks.list_present(tmp_path) == []


async def test_a_stack_that_is_there_is_left_as_it_is(built: Path) -> None:
    told: list[Progress] = []

    stack = await stacks.build(built, "deodar-12", on_progress=told.append)

    assert [stack] == [s for s in stacks.list_present(built) if s.name == "deodar-12"]
    assert told == []


def test_both_variants_have_the_places_that_engines_mount_over(built: Path) -> None:
    missing = [
        f"{variant}/{name}"
        for variant in ("run", "build")
        for name in (*places.FOLDERS, *places.FILES)
        if not (built / "deodar-12" / variant / name).exists()
    ]

    assert missing == []


def test_both_variants_have_the_same_versions(built: Path) -> None:
    stack = stacks.present(built, "deodar-12")

    assert stack is not None
    assert stack.packages.items() - stack.build_packages.items() == set()


def test_nothing_in_a_stack_makes_another_user_of_anybody(built: Path) -> None:
    found = [
        os.path.join(folder, name)
        for folder, _, names in os.walk((built / "deodar-12").resolve())
        for name in names
        if os.lstat(os.path.join(folder, name)).st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("variant", "script", "printed"),
    [
        ("run", "tini --version | cut -d' ' -f1", "tini"),
        ("run", "python3 -c 'print(1)'; node -p 2; ruby -e 'puts 3'", "1\n2\n3"),
        ("run", "bundle --version | cut -d' ' -f1; which puma rackup git curl convert", None),
        ("build", "uv --version | cut -d' ' -f1; gcc -dumpversion; go env GOOS", "uv\n12\nlinux"),
        ("build", "pkg-config --exists libpq libffi yaml-0.1 openssl zlib && echo yes", "yes"),
    ],
)
def test_what_a_stack_promises_runs_in_it(
    built: Path, variant: str, script: str, printed: str | None
) -> None:
    finished = subprocess.run(
        debian.inside(built / "deodar-12" / variant, script),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stderr) == (0, "")
    if printed is not None:
        assert finished.stdout.strip() == printed


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("building a stack needs root")


@pytest.fixture
def built(as_root: None) -> Path:
    folder = Path(os.environ.get("DEODAR_TEST_STACKS") or "/var/lib/deodar/stacks")
    if stacks.present(folder, "deodar-12") is None:
        pytest.skip(f"no stack deodar-12 in {folder}; set DEODAR_TEST_STACKS")
    return folder
