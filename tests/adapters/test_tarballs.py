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
