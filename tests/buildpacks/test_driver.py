"""The driver keeps Heroku's buildpack API; shown with small buildpacks of the tests' own."""

from pathlib import Path

import pytest

from deodar.model import errors
from tests.buildpacks.runner import Workshop, lay


def test_nothing_detected_says_what_can_be(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(lay(tmp_path / "app", {"README.md": "hello"}))

    assert built.output.startswith(
        " !     No default language could be detected for this app.\n"
        " !     HINT: This occurs when Deodar cannot detect the buildpack"
    )
    with pytest.raises(errors.BuildFailed, match="No default language could be detected"):
        _ = built.outcome


def test_a_dockerfile_alone_is_refused_with_what_to_do_instead(
    shop: Workshop, tmp_path: Path
) -> None:
    built = shop.build(lay(tmp_path / "app", {"Dockerfile": "FROM scratch"}))

    assert " !     There is a Dockerfile, but Deodar builds with buildpacks only." in built.output
    assert built.status == 1


def test_a_procfile_alone_is_enough(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(lay(tmp_path / "app", {"Procfile": "web: ./run\nworker: ./work"}))

    assert built.output == (
        "-----> Procfile app detected\n       Nothing to compile; the Procfile says what runs.\n"
    )
    assert built.outcome.process_types == {"web": "./run", "worker": "./work"}
    assert built.outcome.detected == "heroku/procfile"


def test_a_cache_that_has_outgrown_its_use_is_begun_anew(shop: Workshop, tmp_path: Path) -> None:
    source = lay(tmp_path / "app", {"Procfile": "web: ./run"})
    shop.cache.mkdir(parents=True)
    (shop.cache / "kept").mkdir()
    (shop.cache / "small").write_text("")
    shop.build(source)
    small_stayed = (shop.cache / "small").exists()
    with (shop.cache / "kept/large").open("w") as large:
        large.truncate(5 * 1000**3)

    built = shop.build(source)

    assert small_stayed
    assert built.output.splitlines()[0] == (
        "-----> Clearing the build cache, which has grown to 5001 MB (max is 4000 MB)"
    )
    assert list(shop.cache.iterdir()) == []


def test_buildpacks_run_in_order_and_each_sees_the_exports_of_those_before(
    shop: Workshop, tmp_path: Path
) -> None:
    first = lay(
        tmp_path / "first",
        {
            "bin/detect": "#!/bin/sh\necho First",
            "bin/compile": '#!/bin/sh\necho "first in $PWD"\n'
            'echo "export PATH=/app/first:\\$PATH" > "$(dirname "$0")/../export"',
            "bin/release": "#!/bin/sh\necho 'default_process_types: {web: first}'",
            "bin/report": "#!/bin/sh\necho 'version: 1'",
        },
    )
    second = lay(
        tmp_path / "second",
        {
            "bin/detect": "#!/bin/sh\nexit 1",
            "bin/compile": '#!/bin/sh\necho "second with ${PATH%%:*}"',
            "bin/release": "#!/bin/sh\necho 'default_process_types: {web: second}'",
        },
    )

    built = shop.build(
        lay(tmp_path / "app", {"a": ""}),
        asked=("https://example.com/first.git", "someone/second"),
        others={"https://example.com/first.git": first, "someone/second": second},
    )

    assert built.output == (
        "-----> Using buildpack: https://example.com/first.git\n"
        "-----> First app detected\n"
        "first in /app\n"
        "-----> Using buildpack: someone/second\n"
        "second with /app/first\n"
    )
    assert built.outcome.process_types == {"web": "second"}
    assert built.outcome.detected is None
    assert (built.result / "report-00").read_text() == "version: 1\n"


def test_a_buildpack_gets_config_vars_as_files_and_not_in_its_environment(
    shop: Workshop, tmp_path: Path
) -> None:
    pack = lay(
        tmp_path / "pack",
        {
            "bin/compile": '#!/bin/bash\necho "$1 $2 $3"; cat "$3/SECRET"; echo; env | cut -d= -f1 | grep -v OLDPWD | sort'
            '\nid -u; touch "$1/made" "$2/kept"; touch "$3/x" 2> /dev/null || echo "read-only"',
        },
    )

    built = shop.build(
        lay(tmp_path / "app", {"a": ""}),
        asked=("a/pack",),
        others={"a/pack": pack},
        config={"SECRET": "s3cr3t"},
    )

    assert built.output.splitlines() == [
        "-----> Using buildpack: a/pack",
        "/app /tmp/deodar/cache /tmp/deodar/env",
        "s3cr3t",
        *("HOME", "LANG", "NODE_EXTRA_CA_CERTS", "PATH", "PIP_CERT", "PWD", "REQUESTS_CA_BUNDLE"),
        *("REQUEST_ID", "SHLVL", "SOURCE_VERSION", "SSL_CERT_FILE", "STACK", "_"),
        "31234",
        "read-only",
    ]
    assert (built.app / "made").exists()
    assert (shop.cache / "kept").exists()


def test_a_buildpack_that_fails_ends_the_build_with_its_name(
    shop: Workshop, tmp_path: Path
) -> None:
    pack = lay(
        tmp_path / "pack",
        {"bin/detect": "#!/bin/sh\necho Odd", "bin/compile": "#!/bin/sh\necho no >&2; exit 3"},
    )

    built = shop.build(lay(tmp_path / "app", {"a": ""}), asked=("a/pack",), others={"a/pack": pack})

    assert built.output.splitlines()[-1] == "no"
    with pytest.raises(errors.BuildFailed, match=r"^Push rejected, failed to compile Odd app\.$"):
        _ = built.outcome


def test_a_folder_without_compile_is_no_buildpack(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(
        lay(tmp_path / "app", {"a": ""}),
        asked=("a/pack",),
        others={"a/pack": lay(tmp_path / "pack", {"README": ""})},
    )

    assert built.output.splitlines()[-1] == (
        " !     a/pack has no bin/compile, so it is not a buildpack."
    )
    with pytest.raises(errors.BuildFailed, match="a/pack is not a buildpack"):
        _ = built.outcome


@pytest.mark.parametrize("ref", ["", "#old"])
def test_a_buildpack_of_others_is_fetched_inside_the_build(
    shop: Workshop, tmp_path: Path, ref: str
) -> None:
    source = lay(tmp_path / "app", {"pack/bin/compile": "#!/bin/sh\necho old"})
    git = "git -C pack -c user.name=n -c user.email=e@example.com"
    shop.inside(
        source,
        f"git init -q pack && git -C pack add . && {git} commit -qm 1 && git -C pack branch old && "
        f"printf '#!/bin/sh\necho new' > pack/bin/compile && {git} commit -qam 2",
    )

    built = shop.build(source, asked=(f"file:///app/pack{ref}",))

    assert built.output.splitlines() == [
        f"-----> Using buildpack: file:///app/pack{ref}",
        "old" if ref else "new",
    ]


def test_a_buildpack_that_cannot_be_fetched_fails_the_build_and_keeps_its_password(
    shop: Workshop, tmp_path: Path
) -> None:
    built = shop.build(
        lay(tmp_path / "app", {"a": ""}),
        asked=("https://me:hush@localhost/pack.git",),
        offline=True,
    )

    assert built.output.splitlines()[0] == "-----> Using buildpack: https://localhost/pack.git"
    assert "hush" not in built.output
    with pytest.raises(errors.BuildFailed, match=r"cannot fetch the buildpack localhost/pack\.git"):
        _ = built.outcome
