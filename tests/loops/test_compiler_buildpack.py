"""Names of buildpacks, the container's command and volumes, and what is read from its result."""

from pathlib import Path

import pytest

from deodar.engines.base import Volume
from deodar.loops.compiler import buildpack
from deodar.model import errors


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("heroku/python", "heroku/python"),
        ("urn:buildpack:heroku/python", "heroku/python"),
        ("python", "heroku/python"),
        ("https://github.com/heroku/heroku-buildpack-python", "heroku/python"),
        ("https://github.com/heroku/heroku-buildpack-python.git", "heroku/python"),
        ("https://github.com/heroku/heroku-buildpack-nodejs.git#v200", "heroku/nodejs"),
        (
            "https://buildpack-registry.s3.amazonaws.com/buildpacks/heroku/go.tgz",
            "heroku/go",
        ),
        ("heroku/node", "heroku/nodejs"),
        ("heroku/php", "heroku/php"),
        ("someone/python", "someone/python"),
        (
            "https://github.com/someone/heroku-buildpack-python",
            "https://github.com/someone/heroku-buildpack-python",
        ),
    ],
)
def test_a_buildpack_of_ours_answers_to_all_of_its_names(asked: str, known: str) -> None:
    assert buildpack.name(asked) == known


def test_every_buildpack_of_ours_has_what_heroku_s_api_asks_for() -> None:
    missing = [
        f"{identifier}: {script}"
        for identifier, folder in buildpack.candidates()
        for script in ("detect", "compile", "release")
        if folder is None or not (folder / "bin" / script).is_file()
    ]

    assert missing == []


def test_a_buildpack_of_others_is_not_built_in() -> None:
    assert buildpack.builtin("https://github.com/someone/heroku-buildpack-python") is None


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/someone/pack",
        "git@example.com:someone/pack.git",
        "ssh://git@example.com/x",
    ],
)
def test_an_address_is_left_to_the_driver(address: str) -> None:
    assert buildpack.located(address) is None


@pytest.mark.parametrize("name", ["heroku/java", "someone/else", ""])
def test_a_name_that_nobody_has_is_refused(name: str) -> None:
    with pytest.raises(errors.BuildFailed, match="is not one of those that are built in"):
        buildpack.located(name)


def test_the_command_names_the_buildpacks_asked_for() -> None:
    asked = ("https://github.com/heroku/heroku-buildpack-nodejs", "https://example.com/mine.git")

    assert buildpack.command(asked) == (
        *("bash", "/tmp/deodar/driver.sh"),
        *("heroku/nodejs", "https://example.com/mine.git"),
    )


def test_only_the_app_its_cache_and_the_result_can_be_written(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    volumes = buildpack.volumes(
        [("heroku/nodejs", tmp_path), ("https://e.com/fetched.git", None), ("a/mine", mine)],
        app=tmp_path / "app",
        cache=tmp_path / "cache",
        env=tmp_path / "env",
        result=tmp_path / "result",
    )
    scripts = Path(buildpack.__file__).parent
    shipped = scripts.parents[1] / "buildpacks"

    assert volumes == (
        Volume(tmp_path / "app", "/app", writable=True),
        Volume(scripts / "driver.sh", "/tmp/deodar/driver.sh"),
        Volume(shipped / "lib.sh", "/tmp/deodar/buildpacks/lib.sh"),
        Volume(tmp_path, "/tmp/deodar/buildpacks/00-nodejs"),
        Volume(mine, "/tmp/deodar/buildpacks/02-a_mine"),
        Volume(tmp_path / "cache", "/tmp/deodar/cache", writable=True),
        Volume(tmp_path / "env", "/tmp/deodar/env"),
        Volume(tmp_path / "result", "/tmp/deodar/result", writable=True),
    )


def test_the_procfile_comes_before_the_buildpack_s_process_types() -> None:
    types = buildpack.process_types(
        "worker: python worker.py\nweb: gunicorn app:app\n",
        {"web": "npm start", "console": "irb"},
    )

    assert list(types.items()) == [
        ("worker", "python worker.py"),
        ("web", "gunicorn app:app"),
        ("console", "irb"),
    ]


@pytest.mark.parametrize(
    ("release", "types"),
    [
        ("", {}),
        ("--- {}", {}),
        ("---\ndefault_process_types:\n", {}),
        ("---\naddons: []\ndefault_process_types:\n  web: bin/web\n", {"web": "bin/web"}),
    ],
)
def test_default_process_types_are_read_from_bin_release(
    release: str, types: dict[str, str]
) -> None:
    assert buildpack.default_process_types(release) == types


@pytest.mark.parametrize(
    "release",
    ["web: : :", "default_process_types: [web]", "default_process_types: {web: {a: b}}", "a: {"],
)
def test_a_bin_release_that_makes_no_sense_fails_the_build(release: str) -> None:
    with pytest.raises(errors.BuildFailed, match="buildpack's"):
        buildpack.default_process_types(release)


def test_an_outcome_is_read_from_the_result_and_the_tree(tmp_path: Path) -> None:
    lay(tmp_path / "app", {"Procfile": "web: gunicorn app:app\n"})
    lay(
        tmp_path / "result",
        {
            "name": "Python\n",
            "detected": "heroku/python\n",
            "release.yml": "default_process_types: {web: ./serve, rake: rake}",
        },
    )

    assert buildpack.outcome(tmp_path / "result", tmp_path / "app", status=0) == buildpack.Outcome(
        description="Python",
        detected="heroku/python",
        process_types={"web": "gunicorn app:app", "rake": "rake"},
        has_procfile=True,
        defaults=("rake",),
    )


def test_a_failed_build_says_the_driver_s_last_words(tmp_path: Path) -> None:
    lay(tmp_path, {"failure": "Push rejected, failed to compile Python app.\n"})

    with pytest.raises(
        errors.BuildFailed, match=r"^Push rejected, failed to compile Python app\.$"
    ):
        buildpack.outcome(tmp_path, tmp_path, status=1)


def test_a_build_that_was_killed_says_its_status(tmp_path: Path) -> None:
    with pytest.raises(errors.BuildFailed, match="status 137"):
        buildpack.outcome(tmp_path, tmp_path, status=137)


def test_a_link_in_the_place_of_a_procfile_is_not_followed(tmp_path: Path) -> None:
    lay(tmp_path / "host", {"secret": "web: cat /etc/shadow\n"})
    lay(tmp_path / "app", {})
    (tmp_path / "app/Procfile").symlink_to(tmp_path / "host/secret")

    assert buildpack.outcome(tmp_path / "result", tmp_path / "app", status=0).process_types == {}


def lay(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
