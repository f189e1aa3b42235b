"""What the Node.js buildpack does with versions, lock files and scripts, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.buildpacks.runner import Workshop, lay

MIME = {"mime": "4.0.7"}
IS_NUMBER = {"is-number": "7.0.0"}
BUILD = "node -e \"require('is-number'); require('fs').writeFileSync('made', process.env.WORD)\""


def test_the_build_script_sees_development_packages_and_config_vars_and_the_slug_has_neither(
    shop: Workshop, tmp_path: Path
) -> None:
    source = package(
        shop, tmp_path, scripts={"build": BUILD}, dependencies=MIME, devDependencies=IS_NUMBER
    )

    for offline in (False, True):
        built = shop.build(source, config={"WORD": "hello"}, offline=offline)

        assert built.status == 0, built.output
        assert (built.app / "made").read_text() == "hello"
        assert shop.run(built, "ls node_modules; env | grep -c WORD || true") == "mime\n0\n"


def test_heroku_s_scripts_come_first_and_last(shop: Workshop, tmp_path: Path) -> None:
    source = package(
        shop,
        tmp_path,
        scripts={
            "heroku-prebuild": "echo one",
            "postinstall": "echo two",
            "build": "echo never",
            "heroku-postbuild": "echo three",
        },
    )

    built = shop.build(source)

    assert [line.strip() for line in built.output.splitlines() if line.strip() in WORDS] == [
        *("one", "three"),
    ]
    assert "never" not in built.output


WORDS = ("one", "three")


def test_another_node_than_the_stack_s_comes_from_the_npm_registry_and_is_kept(
    shop: Workshop, tmp_path: Path
) -> None:
    source = package(shop, tmp_path, engines={"node": "22.x"}, dependencies=MIME)

    shop.build(source)
    built = shop.build(source, offline=True)

    assert "Using cached node 22." in built.output
    assert shop.run(built, "node --version | cut -d. -f1; which node") == (
        "v22\n/app/.heroku/node/bin/node\n"
    )


def test_a_failing_build_script_fails_the_build(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(package(shop, tmp_path, scripts={"build": "exit 7"}))

    assert built.output.splitlines()[-1] == (
        " !     The script build of package.json failed. The lines above say why."
    )
    assert built.status == 1


BERRY = "npx -y @yarnpkg/cli-dist@4 install --mode=skip-build; rm -rf node_modules .yarn .pnp*"


@pytest.mark.parametrize(
    ("manager", "lock", "files"),
    [
        ("yarn 1.", "npx -y yarn@1 install --silent --ignore-scripts; rm -r node_modules", {}),
        ("yarn 4.", BERRY, {".yarnrc.yml": "nodeLinker: node-modules\n"}),
        ("yarn 4.", BERRY, {".yarnrc.yml": "enableTelemetry: false\n"}),
        ("pnpm 10.", "npx -y pnpm@10 install --lockfile-only --silent", {}),
    ],
    ids=["yarn", "yarn-berry", "yarn-pnp", "pnpm"],
)
def test_other_managers_install_by_their_lock_drop_what_built_and_download_once(
    shop: Workshop, tmp_path: Path, manager: str, lock: str, files: dict[str, str]
) -> None:
    manifest = {
        "name": "n",
        "version": "1.0.0",
        "scripts": {"build": "node build.js", "start": "node start.js"},
        "dependencies": MIME,
        "devDependencies": IS_NUMBER,
    }
    source = lay(
        tmp_path / "app",
        files
        | {
            "package.json": json.dumps(manifest),
            "build.js": "require('is-number'); require('fs').writeFileSync('made', '')",
            "start.js": "for (const name of ['mime/lite', 'is-number']) {\n"
            "  try { require.resolve(name); console.log(name) } catch {}\n}",
        },
    )
    shop.inside(source, f"export YARN_GLOBAL_FOLDER=/tmp/yarn; {lock}")

    for offline in (False, True):
        built = shop.build(source, offline=offline)

        assert built.status == 0, built.output
        assert f"Using {manager}" in built.output
        assert (built.app / "made").exists()
        start = built.outcome.process_types["web"]
        assert "mime/lite\n" in (started := shop.run(built, f"HOME=/tmp {start}"))
        assert "is-number\n" not in started


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"package.json": "{"}, "Unable to parse package.json: it is not a JSON object."),
        (
            {"package.json": "{}", "package-lock.json": "{}", "yarn.lock": ""},
            "Two different lockfiles found: package-lock.json and yarn.lock.",
        ),
        (
            {"package.json": '{"engines": {"node": "999"}}'},
            "Cannot install Node.js 999, which engines.node of package.json asks for.",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_clear_words(
    shop: Workshop, tmp_path: Path, files: dict[str, str], words: str
) -> None:
    built = shop.build(lay(tmp_path / "app", files))

    assert f" !     {words}" in built.output.splitlines()
    assert built.status == 1


def package(shop: Workshop, tmp_path: Path, **fields: Any) -> Path:
    """An app with a package.json of these fields and the lock file that npm makes of it."""
    manifest = {"name": "n", "version": "1.0.0"} | fields
    source = lay(tmp_path / "app", {"package.json": json.dumps(manifest)})
    shop.inside(source, "npm install --package-lock-only --silent")
    return source
