"""Slug archives and sources: real trees, real tar and zstd."""

import hashlib
import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from deodar.adapters import slugs
from deodar.model import errors


async def test_a_slug_holds_the_tree_with_times_and_rights_and_belongs_to_root(
    tmp_path: Path,
) -> None:
    tree = lay(tmp_path / "tree", {"app.py": "print()", "bin/run": "#!/bin/sh"})
    (tree / "bin/run").chmod(0o755)
    (tree / "current").symlink_to("bin/run")
    os.utime(tree / "app.py", (1_700_000_000, 1_700_000_000))

    archive = await slugs.pack(tree, tmp_path / "slugs")

    assert (
        archive.path == tmp_path / "slugs" / f"{archive.checksum.removeprefix('SHA256:')}.tar.zst"
    )
    assert archive.size == archive.path.stat().st_size
    assert listing(archive.path) == {
        ".": (0o755, 0, ""),
        "./app.py": (0o644, 0, ""),
        "./bin": (0o755, 0, ""),
        "./bin/run": (0o755, 0, ""),
        "./current": (0o777, 0, "bin/run"),
    }
    assert time_of(archive.path, "./app.py") == 1_700_000_000


async def test_the_same_tree_twice_is_one_archive(tmp_path: Path) -> None:
    tree = lay(tmp_path / "tree", {f"{n}/file": "x" * n for n in range(200)})

    first = await slugs.pack(tree, tmp_path / "slugs")
    second = await slugs.pack(tree, tmp_path / "slugs")

    assert first == second
    assert list((tmp_path / "slugs").iterdir()) == [first.path]


async def test_the_checksum_is_the_archive_s(tmp_path: Path) -> None:
    archive = await slugs.pack(lay(tmp_path / "tree", {"a": "a"}), tmp_path / "slugs")

    digest = hashlib.sha256(archive.path.read_bytes()).hexdigest()
    assert archive.checksum == f"SHA256:{digest}"


def test_set_uid_bits_are_dropped(tmp_path: Path) -> None:
    tree = lay(tmp_path / "tree", {"su": ""})
    (tree / "su").chmod(0o6755)

    slugs.inspect(tree)

    assert stat.S_IMODE((tree / "su").stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_by_its_path(tmp_path: Path, kind: str) -> None:
    tree = lay(tmp_path / "tree", {"a": ""})
    (tree / "odd").mkdir()
    path = tree / "odd/one"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.close()
        case "device":
            if os.geteuid() != 0:
                pytest.skip("making a device needs root")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))

    with pytest.raises(errors.BuildFailed, match=r"^odd/one is a device, a pipe or a socket"):
        slugs.inspect(tree)


@pytest.mark.parametrize("target", ["../../etc/passwd", "/root/.ssh", "/app/../var/x"])
def test_a_link_that_leads_out_of_the_app_is_refused(tmp_path: Path, target: str) -> None:
    tree = lay(tmp_path / "tree", {"lib/a": ""})
    (tree / "lib/out").symlink_to(target)

    with pytest.raises(errors.BuildFailed, match=r"^lib/out is a link to"):
        slugs.inspect(tree)


@pytest.mark.parametrize("target", ["../a", "/app/a", "/usr/bin/python3", "../lib/../a"])
def test_a_link_into_the_app_or_the_stack_is_kept(tmp_path: Path, target: str) -> None:
    tree = lay(tmp_path / "tree", {"a": "", "lib/b": ""})
    (tree / "lib/in").symlink_to(target)

    slugs.inspect(tree)

    assert os.readlink(tree / "lib/in") == target


async def test_nothing_is_left_of_a_pack_that_failed(tmp_path: Path) -> None:
    (tmp_path / "slugs").mkdir()

    with pytest.raises(errors.Unavailable, match="Cannot pack the slug"):
        await slugs.pack(tmp_path / "there is no such tree", tmp_path / "slugs")
    assert list((tmp_path / "slugs").iterdir()) == []


def test_slugignore_removes_what_it_names_and_git_s_files(tmp_path: Path) -> None:
    tree = lay(
        tmp_path / "tree",
        {
            "app.py": "",
            "notes.psd": "",
            "docs/guide.md": "",
            "spec/unit/a.py": "",
            "deep/er/x.psd": "",
            ".git/HEAD": "",
            "vendor/.git/HEAD": "",
            "keep.log": "",
        },
    )

    slugs.apply_slugignore(tree, "# comment\n*.psd\n/docs\nspec/\n*.log\n!keep.log\n")

    assert files(tree) == ["app.py", "vendor/.git/HEAD"]


def test_git_s_files_go_without_a_slugignore(tmp_path: Path) -> None:
    tree = lay(tmp_path / "tree", {"app.py": "", ".git/HEAD": ""})

    slugs.apply_slugignore(tree, "")

    assert files(tree) == ["app.py"]


def test_slugignore_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    other = lay(tmp_path / "other", {"precious": ""})
    tree = lay(tmp_path / "tree", {"a": ""})
    (tree / "docs").symlink_to(other)

    slugs.apply_slugignore(tree, "docs")

    assert (files(tree), files(other)) == (["a"], ["precious"])


def test_size_counts_files_and_not_what_links_lead_to(tmp_path: Path) -> None:
    tree = lay(tmp_path / "tree", {"a": "12345", "b/c": "123"})
    (tree / "a2").symlink_to("/etc/passwd")

    assert slugs.size_of(tree) == 8


async def test_a_git_archive_is_unpacked_with_links_rights_and_times(tmp_path: Path) -> None:
    work = lay(tmp_path / "work", {"app.py": "print()", "bin/run": "#!/bin/sh", "π.txt": "π"})
    (work / "bin/run").chmod(0o755)
    (work / "link").symlink_to("bin/run")
    committed = archive_by_git(work, tmp_path / "source.tar")

    into = tmp_path / "into"
    into.mkdir()
    await slugs.unpack_source(tmp_path / "source.tar", into)

    assert files(into) == ["app.py", "bin/run", "link", "π.txt"]
    assert (into / "app.py").read_text() == "print()"
    assert os.readlink(into / "link") == "bin/run"
    assert stat.S_IMODE((into / "bin/run").stat().st_mode) == 0o755
    assert (into / "app.py").stat().st_mtime == committed


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
async def test_a_file_that_would_land_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    source = write_tar(tmp_path / "source.tar", [(name, b"x")])

    with pytest.raises(errors.BuildFailed, match="lies outside"):
        await slugs.unpack_source(source, into(tmp_path))
    assert not (tmp_path / "evil").exists()


async def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = lay(tmp_path / "outside", {})
    source = write_tar(
        tmp_path / "source.tar",
        [("a", str(outside)), ("a/evil", b"x"), ("b", str(outside)), ("b/c", "/etc/passwd")],
    )

    await slugs.unpack_source(source, into(tmp_path))

    assert files(outside) == []
    assert files(tmp_path / "into") == ["a/evil", "b/c"]


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("SOURCE_BYTES", 10, "larger than"), ("SOURCE_FILES", 1, "more than 1 files")],
)
async def test_a_source_beyond_the_limits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, words: str
) -> None:
    monkeypatch.setattr(slugs, limit, value)
    source = write_tar(tmp_path / "source.tar", [("a", b"123456"), ("b", b"123456")])

    with pytest.raises(errors.BuildFailed, match=words):
        await slugs.unpack_source(source, into(tmp_path))


async def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("bomb")
    bomb.size = 20 * slugs.SOURCE_BYTES
    (tmp_path / "source.tar").write_bytes(bomb.tobuf() + bytes(10_240))

    with pytest.raises(errors.BuildFailed, match="larger than 1000 MB"):
        await slugs.unpack_source(tmp_path / "source.tar", into(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x1f\x8b\x08broken gzip"])
async def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source.tar").write_bytes(content)

    with pytest.raises(errors.BuildFailed, match="not a tar archive, or it is broken"):
        await slugs.unpack_source(tmp_path / "source.tar", into(tmp_path))


async def test_a_tar_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", [("a", b"x" * 10_000)])
    (tmp_path / "source.tar").write_bytes(whole.read_bytes()[:5_000])

    with pytest.raises(errors.BuildFailed, match="broken"):
        await slugs.unpack_source(tmp_path / "source.tar", into(tmp_path))


def lay(folder: Path, contents: dict[str, str]) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def archive_by_git(work: Path, into: Path) -> int:
    """Commits all of `work` and archives it; answers with the commit's time."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=work, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-qm", "one")
    git("archive", "--format=tar", "-o", str(into), "HEAD")
    return int(git("log", "-1", "--format=%ct"))


def files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


def write_tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    """Bytes are a file's content, text is where a link leads to."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def opened(archive: Path) -> tarfile.TarFile:
    plain = subprocess.run(["zstd", "-dcq", archive], capture_output=True, check=True).stdout
    return tarfile.open(fileobj=io.BytesIO(plain))


def listing(archive: Path) -> dict[str, tuple[int, int, str]]:
    return {
        member.name: (member.mode, member.uid + member.gid, member.linkname)
        for member in opened(archive)
    }


def time_of(archive: Path, name: str) -> float:
    return opened(archive).getmember(name).mtime
