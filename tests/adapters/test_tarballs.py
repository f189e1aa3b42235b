"""Slugs in Heroku's form, with real tar, gzip and zstd."""

import io
import tarfile
from pathlib import Path

import pytest

from deodar.adapters import slugs, tarballs
from deodar.model import errors


def a_tarball(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """Files have bytes, links the text of where they lead."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return path


def scratch(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def test_what_was_taken_in_is_given_out_again(tmp_path: Path) -> None:
    given = a_tarball(
        tmp_path / "in.tgz", ("./app/bin/serve", b"#!/bin/sh"), ("./app/current", "bin/serve")
    )

    archive = await tarballs.take_in(given, tmp_path / "slugs", scratch=scratch(tmp_path / "a"))
    out = await tarballs.give_out(archive.path, scratch=scratch(tmp_path / "b"))

    with tarfile.open(out, "r:gz") as tar:
        assert {each.name: (each.mode, each.linkname) for each in tar} == {
            "./app": (0o755, ""),
            "./app/bin": (0o755, ""),
            "./app/bin/serve": (0o755, ""),
            "./app/current": (0o777, "bin/serve"),
        }
    assert list((tmp_path / "b").iterdir()) == [out]


async def test_hard_links_lead_where_they_led(tmp_path: Path) -> None:
    tree = scratch(tmp_path / "tree")
    (tree / "one").write_text("same")
    (tree / "two").hardlink_to(tree / "one")
    archive = await slugs.pack(tree, tmp_path / "slugs")

    out = await tarballs.give_out(archive.path, scratch=scratch(tmp_path / "b"))

    with tarfile.open(out) as tar:
        assert tar.getmember("./app/two").linkname == "./app/one"


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ([("./bin/serve", b"")], "has no folder ./app"),
        ([("./app", "/etc")], "has no folder ./app"),
        ([("./app/../../escaped", b"")], "lies outside"),
        ([("./app/secrets", "../../../etc/shadow")], "not a part of the app"),
    ],
)
async def test_what_no_slug_can_hold_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes | str]], word: str
) -> None:
    given = a_tarball(tmp_path / "in.tgz", *members)

    with pytest.raises(errors.BuildFailed, match=word):
        await tarballs.take_in(given, tmp_path / "slugs", scratch=scratch(tmp_path / "a"))

    assert not list(tmp_path.glob("slugs/*"))


async def test_an_archive_that_is_broken_is_no_refusal_but_a_failure_of_ours(
    tmp_path: Path,
) -> None:
    archive = tmp_path / "broken.tar.zst"
    archive.write_bytes(b"no zstd")

    with pytest.raises(errors.Unavailable, match="Cannot read the slug's archive"):
        await tarballs.give_out(archive, scratch=scratch(tmp_path / "b"))


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["Procfile", "lib/a.py"], ["Procfile", "lib/a.py"]),
        (["./Procfile", "./lib/a.py"], ["./Procfile", "./lib/a.py"]),
        (["shop-1a2b/Procfile", "shop-1a2b/lib/a.py"], ["Procfile", "lib/a.py"]),
        (["./shop/Procfile", "./shop/lib/a.py"], ["Procfile", "lib/a.py"]),
        (["one/a", "two/b"], ["one/a", "two/b"]),
        (["Procfile"], ["Procfile"]),
    ],
)
async def test_the_one_folder_that_a_source_lies_in_is_taken_away(
    tmp_path: Path, given: list[str], taken: list[str]
) -> None:
    tarball = a_tarball(tmp_path / "in.tgz", *((name, b"x") for name in given))

    await tarballs.take_source(tarball, tmp_path / "source.tar")

    assert names(tmp_path / "source.tar") == taken


async def test_links_inside_a_lifted_source_lead_where_they_led(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        folder = tarfile.TarInfo("shop")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        first = tarfile.TarInfo("shop/a")
        first.size = 1
        tar.addfile(first, io.BytesIO(b"x"))
        for name, kind, target in (
            ("hard", tarfile.LNKTYPE, "shop/a"),
            ("soft", tarfile.SYMTYPE, "a"),
        ):
            link = tarfile.TarInfo(f"shop/{name}")
            link.type, link.linkname = kind, target
            tar.addfile(link)

    await tarballs.take_source(tmp_path / "in.tar", tmp_path / "source.tar")
    (tmp_path / "tree").mkdir()
    await slugs.unpack_source(tmp_path / "source.tar", tmp_path / "tree")

    tree = tmp_path / "tree"
    assert {path.name: path.read_text() for path in tree.iterdir()} == {
        "a": "x",
        "hard": "x",
        "soft": "x",
    }
    assert (tree / "soft").readlink() == Path("a")


async def test_what_is_no_tar_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"<html>not found</html>")

    with pytest.raises(errors.BuildFailed) as failed:
        await tarballs.take_source(tmp_path / "in", tmp_path / "source.tar")

    assert failed.value.message.startswith("The source is not a tar archive, or it is broken:")


async def test_a_file_of_a_source_is_read_within_bounds(tmp_path: Path) -> None:
    tarball = a_tarball(tmp_path / "in.tgz", ("./app.json", b"{}"), ("sub/x.json", b"\xff"))

    assert await tarballs.text_of(tarball, "app.json", limit=2) == "{}"
    assert await tarballs.text_of(tarball, "none.json", limit=2) is None
    with pytest.raises(errors.BuildFailed) as large:
        await tarballs.text_of(tarball, "app.json", limit=1)
    with pytest.raises(errors.BuildFailed) as binary:
        await tarballs.text_of(tarball, "sub/x.json", limit=2)
    assert (large.value.message, binary.value.message) == (
        "app.json is over 1 bytes.",
        "sub/x.json is not UTF-8.",
    )
