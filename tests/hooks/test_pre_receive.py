"""What a push of which refs asks for; the talk with the platform is met in tests/api/test_git.py."""

import io

import pytest

from deodar.hooks import pre_receive
from deodar.hooks.pre_receive import (
    ABSENT,
    SKIPPED,
    Build,
    Refuse,
    Refused,
    Store,
    Update,
    decide,
    objection,
    parse,
    relay,
)

A, B = "a" * 40, "b" * 40


def update(branch: str, new: str = B) -> Update:
    return Update(A, new, f"refs/heads/{branch}")


UNDELETABLE = Refuse((" !     The branch main is what is deployed: it cannot be deleted.",))


@pytest.mark.parametrize(
    ("updates", "decision"),
    [
        ([update("main")], Build(update("main"))),
        ([update("master")], Build(update("master"))),
        ([update("master"), update("main")], Build(update("main"))),
        ([update("feature"), update("master")], Build(update("master"))),
        ([update("feature")], Store(SKIPPED)),
        ([update("main/feature")], Store(SKIPPED)),
        ([Update(ABSENT, B, "refs/tags/main")], Store(SKIPPED)),
        ([update("feature", ABSENT)], Store(())),
        ([update("feature", ABSENT), update("other")], Store(SKIPPED)),
        ([update("main", ABSENT)], UNDELETABLE),
        ([update("master"), update("main", ABSENT)], UNDELETABLE),
        ([update("main", "0" * 64)], UNDELETABLE),
    ],
)
def test_what_a_push_asks_for(updates: list[Update], decision: Build | Store | Refuse) -> None:
    assert decide(updates) == decision


def test_updates_are_read_as_git_tells_them() -> None:
    lines = io.StringIO(f"{A} {B} refs/heads/main\n{ABSENT} {B} refs/heads/x\n")

    assert parse(lines) == [update("main"), Update(ABSENT, B, "refs/heads/x")]


@pytest.mark.parametrize(
    ("tree", "begins"),
    [
        (b"100644 blob 0123\tProcfile\n", None),
        (b"100644 blob 0123\tdir/160000 commit\n", None),
        (b"", " !     This commit has no files"),
        (
            b"100644 blob 0123\ta\n160000 commit 0123\tvendor/a\n160000 commit 0123\tvendor/b\n",
            " !     Submodules are not fetched: vendor/a, vendor/b.",
        ),
    ],
)
def test_a_commit_that_cannot_be_built_is_told_why(tree: bytes, begins: str | None) -> None:
    why = objection(tree)

    assert why is None if begins is None else why is not None and why.startswith(begins)


def test_output_is_passed_on_as_it_is_and_the_end_is_the_answer() -> None:
    said: list[bytes] = []
    incoming = io.BytesIO(b"output\t5\na\nb\n\noutput\t4\n\xff\x00cdend\t1\n")

    status = relay(incoming, said.append)

    assert (status, said) == (1, [b"a\nb\n\n", b"\xff\x00cd"])


@pytest.mark.parametrize("cut", [b"", b"out", b"output\t5\n", b"output\t5\nab"])
def test_a_platform_that_falls_silent_is_noticed(cut: bytes) -> None:
    with pytest.raises(EOFError):
        relay(io.BytesIO(cut), lambda _: None)


def test_the_platform_may_refuse() -> None:
    with pytest.raises(Refused, match=r"No such app\."):
        pre_receive.receive(io.BytesIO(b"refuse\tNo such app.\n"), "build")
