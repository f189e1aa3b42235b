"""OCI images as stacks: how layers lie over each other, what cannot get out of them, and which images
are refused with which words."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deodar.adapters import stacks
from deodar.adapters.stacks import imported, layers, shelf
from deodar.model import errors
from deodar.model.stack import Stack
from tests import images
from tests.images import Layout, device, file, folder, layer, link

SYSTEM = layer(file("bin/bash", "bash", mode=0o755), file("etc/os-release", "ID=test\n"))


def tree(root: Path) -> dict[str, str]:
    """Every path below: a file's text, `-> target` of a link, `/` of an empty folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
        elif not any(path.iterdir()):
            found[name] = "/"
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("keeping files' owners needs root")
    (tmp_path / "outside").write_text("untouched")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def lay(root: Path, *data: bytes) -> None:
    for number, each in enumerate(data):
        tar = root.parent / f"{number}.tar"
        tar.write_bytes(each)
        layers.lay(root, tar)


@pytest.mark.parametrize(
    ("lower", "upper", "seen"),
    [
        pytest.param(
            [file("a", "1"), file("b", "1")],
            [file("a", "2")],
            {"a": "2", "b": "1"},
            id="a file over a file",
        ),
        pytest.param(
            [file("d/a"), file("d/b")], [file("d/.wh.a")], {"d/b": ""}, id="a hidden file"
        ),
        pytest.param([file("d/e/a")], [file("d/.wh.e")], {"d": "/"}, id="a hidden folder"),
        pytest.param(
            [file("d/old"), file("d/e/old")],
            [file("d/e/new"), file("d/new"), file("d/.wh..wh..opq")],
            {"d/new": "", "d/e/new": ""},
            id="an opaque folder hides what is lower only, wherever it is told",
        ),
        pytest.param(
            [file("a", "1")], [file("a", "2"), file(".wh.a")], {"a": "2"}, id="hidden and made anew"
        ),
        pytest.param([file("a/b")], [file("a", "f")], {"a": "f"}, id="a file over a folder"),
        pytest.param([file("a")], [folder("a")], {"a": "/"}, id="a folder over a file"),
        pytest.param(
            [file("usr/bin/a"), link("bin", "usr/bin")],
            [file("bin/b"), file("bin/.wh.a")],
            {"usr/bin/b": "", "bin": "-> usr/bin"},
            id="through a link to a folder",
        ),
        pytest.param(
            [file("a", "x")], [link("b", "a", hard=True)], {"a": "x", "b": "x"}, id="a hard link"
        ),
        pytest.param(
            [file("usr/a", "x"), link("lib", "/usr")],
            [link("b", "lib/a", hard=True)],
            {"usr/a": "x", "b": "x", "lib": "-> /usr"},
            id="a hard link through a link",
        ),
        pytest.param([], [device("dev/null"), file("a")], {"dev": "/", "a": ""}, id="a device"),
        pytest.param([], [file("./a"), file("/b"), folder("./")], {"a": "", "b": ""}, id="names"),
    ],
)
def test_layers_lie_over_each_other(
    root: Path, lower: list[images.Member], upper: list[images.Member], seen: dict[str, str]
) -> None:
    lay(root, layer(*lower), layer(*upper))

    assert tree(root) == seen


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param([file("../outside", "x")], id="a name with dots"),
        pytest.param([link("l", "../.."), file("l/outside", "x")], id="a link upwards"),
        pytest.param([link("l", "{parent}"), file("l/outside", "x")], id="an absolute link"),
        pytest.param([link("outside", "../outside"), file("outside", "x")], id="over a link"),
        pytest.param([link("l", ".."), file("l/.wh.outside")], id="hiding through a link"),
        pytest.param([link("l", "../outside"), link("k", "l"), file("k", "x")], id="two links"),
    ],
)
def test_nothing_of_a_layer_gets_out_of_it(root: Path, hostile: list[images.Member]) -> None:
    for member, _ in hostile:
        member.linkname = member.linkname.format(parent=root.parent)

    lay(root, *(layer(member) for member in hostile))

    there = {path.name for path in root.parent.iterdir()} - {"0.tar", "1.tar", "2.tar"}
    assert there == {"outside", "root"}
    assert (root.parent / "outside").read_text() == "untouched"


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        ([link("l", "../outside", hard=True)], "a link to what is no file of it: l to ../outside"),
        ([link("a", "b"), link("b", "a"), file("a/x")], "a link that leads to itself"),
        ([file("a"), file("a/b")], "a file for a folder: a"),
        ([file(".wh...")], "hides a file that cannot be"),
        ([link("./", "/etc")], "has a file for its root folder"),
    ],
)
def test_a_layer_that_makes_no_sense_is_refused(
    root: Path, hostile: list[images.Member], said: str
) -> None:
    with pytest.raises(errors.InvalidParams, match=said):
        lay(root, layer(*hostile))


def test_no_file_makes_another_user_of_anybody(root: Path) -> None:
    lay(root, layer(file("su", mode=0o6755), file("tmp", mode=0o1777)))

    assert [oct((root / name).stat().st_mode & 0o7777) for name in ("su", "tmp")] == [
        "0o755",
        "0o1777",
    ]


def test_what_an_engine_reads_from_outside_is_no_link_afterwards(root: Path) -> None:
    lay(
        root,
        SYSTEM,
        layer(
            *(link(f"etc/{name}", "/etc/shadow") for name in ("passwd", "group", "hosts")),
            *(link(name, "/root") for name in ("app", "tmp", "usr/bin/tini")),
            link("etc/ssl/certs/ca-certificates.crt", "/etc/pki/none.pem"),
        ),
    )
    lender = root.parent / "lender"
    (lender / "usr/bin").mkdir(parents=True)
    (lender / imported.LENT).write_text("tini")

    imported.complete(root, lender=lender)

    assert tree(root) == {
        **dict.fromkeys(("app", "dev", "proc", "run", "sys", "tmp"), "/"),
        **dict.fromkeys(("etc/group", "etc/passwd", "etc/hostname", "etc/resolv.conf"), ""),
        "bin/bash": "bash",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/os-release": "ID=test\n",
        "etc/ssl/certs/ca-certificates.crt": "",
        "usr/bin/tini": "tini",
    }


# Whole images.


@pytest.fixture
def shelves(root: Path) -> Path:
    """A folder of stacks with a default one that lends its first process."""
    folder = root.parent / "stacks"
    lent = folder / "deodar-12/run" / imported.LENT
    lent.parent.mkdir(parents=True)
    lent.write_text("tini")
    return folder


def bring_in(shelves: Path, path: Path, *, name: str = "own", build: Path | None = None) -> Stack:
    stack, changed = asyncio.run(
        stacks.bring_in(shelves, name, path, build=build, on_progress=lambda _: None)
    )
    assert changed
    return stack


def test_a_layout_becomes_a_stack_with_its_manifests_digest(shelves: Path, tmp_path: Path) -> None:
    parts = (SYSTEM, layer(file("old"), file("a", "1")), layer(file(".wh.old")))
    path = images.layout(tmp_path / "image", *parts)
    named = json.loads((path / "index.json").read_text())["manifests"][0]["digest"]

    stack = bring_in(shelves, path)

    assert stack == stacks.present(shelves, "own")
    assert stack.digest == f"SHA256:{named.removeprefix('sha256:')}"
    assert (stack.suite, stack.image) == (None, str(path))
    assert (shelves / "own/run/a").read_text() == "1"
    assert not (shelves / "own/run/old").exists()
    assert (shelves / "own/build").resolve() == (shelves / "own/run").resolve()
    assert sorted(path.name for path in (shelves / "own").iterdir()) == [
        "build",
        "run",
        "stack.json",
    ]


def test_builds_see_another_image_if_there_is_one(shelves: Path, tmp_path: Path) -> None:
    path = images.layout(tmp_path / "run", SYSTEM)
    build = images.layout(tmp_path / "build", SYSTEM, layer(file("usr/bin/cc", "cc")))

    bring_in(shelves, path, build=build)

    seen = {
        variant: (shelves / "own" / variant / "usr/bin/cc").exists() for variant in ("run", "build")
    }
    assert seen == {"run": False, "build": True}


@pytest.mark.parametrize("make", [images.archive, "zipped", "saved"])
def test_archives_are_as_good_as_folders(
    shelves: Path, tmp_path: Path, make: str | Callable[[Path, Path], Path]
) -> None:
    parts = [SYSTEM, layer(file("a", "1")), SYSTEM]
    if make == "saved":
        path = images.saved(tmp_path / "image.tar", parts)
    else:
        path = images.archive(tmp_path / "image.tar", images.layout(tmp_path / "i", *parts))
    if make == "zipped":
        path.write_bytes(images.gzipped(path.read_bytes()))

    bring_in(shelves, path)

    assert (shelves / "own/run/a").read_text() == "1"


def test_of_an_index_of_indexes_the_image_for_this_machine_is_taken(
    shelves: Path, tmp_path: Path
) -> None:
    layout = Layout.at(tmp_path / "image")
    mine, other = (layer(file("bin/bash"), file("etc/which", name)) for name in ("mine", "other"))
    signature = layout.index() | {"artifactType": "application/vnd.example"}
    attestation = layout.image([(other, other)]) | {
        "platform": {"architecture": "unknown", "os": "unknown"}
    }
    inner = layout.index(
        layout.image([(other, other)], machine="s390x"),
        layout.image([(mine, mine)]),
        attestation,
        signature,
    )

    bring_in(shelves, layout.close(inner))

    assert (shelves / "own/run/etc/which").read_text() == "mine"


def test_the_same_image_again_changes_nothing_and_another_replaces_it(
    shelves: Path, tmp_path: Path
) -> None:
    first = images.layout(tmp_path / "1", SYSTEM)
    second = images.layout(tmp_path / "2", SYSTEM, layer(file("a")))
    bring_in(shelves, first)
    old = (shelves / "own/run").resolve()

    again = asyncio.run(
        stacks.bring_in(shelves, "own", first, build=None, on_progress=lambda _: None)
    )
    unmoved = (shelves / "own/run").resolve()
    replacement = bring_in(shelves, second)

    assert (again[1], unmoved) == (False, old)
    assert stacks.present(shelves, "own") == replacement
    assert stacks.former(shelves) == [old.parent]
    assert (old / "bin/bash").exists()


def damaged(layout: Path, what: str) -> Path:
    """The same layout with one blob changed, or gone."""
    biggest = max((layout / "blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    if what == "missing":
        biggest.unlink()
    else:
        biggest.write_bytes(biggest.read_bytes()[:-1] + b"!")
    return layout


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda at: at, "There is no file or folder", id="nothing"),
        pytest.param(
            lambda at: at.mkdir() or at, "is not an OCI image: it has neither", id="folder"
        ),
        pytest.param(
            lambda at: at.write_text("x") and at,
            "is not an OCI image: Cannot read it as a tar archive",
            id="file",
        ),
        pytest.param(
            lambda at: damaged(images.layout(at, SYSTEM), "changed"),
            "The image is damaged: a part of it should be sha256:",
            id="damaged",
        ),
        pytest.param(
            lambda at: damaged(images.layout(at, SYSTEM), "missing"),
            "The image is not complete: sha256:.* is missing",
            id="incomplete",
        ),
        pytest.param(
            lambda at: images.layout(at, SYSTEM, machine="s390x"),
            "The image is not for linux/.*, which this machine is. It is for: linux/s390x",
            id="another machine",
        ),
        pytest.param(
            lambda at: images.layout(at, layer(file("etc/a"))), "has no /bin/bash", id="no bash"
        ),
        pytest.param(
            lambda at: images.layout(at, layer(file("bin/bash"))), "has no folder /etc", id="no etc"
        ),
        pytest.param(
            lambda at: images.saved(at, [SYSTEM], tags=("a:1", "b:2")),
            "There are 2 images in it: keep one. a:1, b:2",
            id="two images",
        ),
        pytest.param(
            lambda at: Layout.at(at).close({"digest": "sha256:../../../../etc/passwd"}),
            "names a digest that is not of SHA-256",
            id="a digest that leads elsewhere",
        ),
    ],
)
def test_what_cannot_be_a_stack_is_refused_with_a_sentence_and_leaves_nothing(
    shelves: Path, tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(errors.InvalidParams, match=said):
        bring_in(shelves, make(tmp_path / "image"))

    assert sorted(path.name for path in shelves.iterdir()) == [".own.lock", "deodar-12"]


def test_without_a_first_process_to_lend_it_is_said_what_to_do(root: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.StackMissing, match="Build that first: deodar up"):
        bring_in(tmp_path / "stacks", images.layout(tmp_path / "image", SYSTEM))


@pytest.mark.parametrize("name", ["deodar-14", "container", "Heroku", "a/b", "..", "x" * 31, ""])
def test_a_name_that_is_not_free_or_none_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.InvalidParams, match=r"cannot be called|is not free"):
        bring_in(tmp_path / "stacks", tmp_path, name=name)


# On the shelf.


def edition(shelves: Path, stack: Stack, text: str) -> None:
    half = shelf.begin(shelves, stack.name)
    for variant in ("run", "build"):
        (half / variant).mkdir()
        (half / variant / "text").write_text(text)
    shelf.put(shelves, stack)


def test_a_folder_from_before_there_were_editions_gives_way_to_one(shelves: Path) -> None:
    old = shelves / "deodar-12"
    inside = (old / "run").stat().st_ino
    made = images.stack("deodar-12")

    edition(shelves, made, "new")

    assert old.is_symlink()
    assert (old / "run/text").read_text() == "new"
    assert stacks.present(shelves, "deodar-12") == made
    assert [(each / "run").stat().st_ino for each in stacks.former(shelves)] == [inside]


def test_a_former_edition_is_discarded_but_for_one_that_is_worked_on_or_is_the_stack(
    shelves: Path,
) -> None:
    edition(shelves, images.stack("own"), "1")
    first = (shelves / "own").resolve()
    edition(shelves, images.stack("own", minute=1), "2")
    second = (shelves / "own").resolve()

    with stacks.only_one(shelves, "own"):
        busy = stacks.discard(first)

    assert (busy, stacks.discard(second), stacks.discard(first)) == (False, False, True)
    assert (first.exists(), (shelves / "own/run/text").read_text()) == (False, "2")


def test_what_was_begun_and_never_done_is_discarded_unless_somebody_is_at_it(
    shelves: Path,
) -> None:
    half = shelf.begin(shelves, "own")

    with stacks.only_one(shelves, "own"):
        busy = stacks.discard(half)

    assert (stacks.former(shelves), busy, stacks.discard(half)) == ([half], False, True)
    assert not half.exists()


def test_a_stack_that_is_taken_down_is_gone_and_its_files_are_not(shelves: Path) -> None:
    edition(shelves, images.stack("own"), "1")
    stays = (shelves / "own").resolve()

    stacks.take_down(shelves, "own")
    stacks.take_down(shelves, "deodar-12")

    assert stacks.list_present(shelves) == []
    assert len(stacks.former(shelves)) == 2
    assert (stays / "run/text").read_text() == "1"
