"""What the PHP buildpack installs, refuses and serves."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.buildpacks.conftest import Shelf
from tests.buildpacks.runner import Workshop, lay

HELLO = "<?php echo 'Ahoy from ', PHP_SAPI, ' ', getenv('GREETING');"


@pytest.fixture(autouse=True)
def php(shop: Workshop) -> None:
    if not (shop.stack / "build/usr/bin/composer").exists():
        pytest.skip("the stack was built before PHP was part of it: build it anew")


def test_an_index_php_is_enough(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(lay(tmp_path / "app", {"index.php": HELLO}), offline=True)

    assert built.status == 0, built.output
    assert built.output.splitlines()[:6] == [
        "-----> PHP app detected",
        " !     WARNING: No 'composer.json' found.",
        " !     ",
        " !     Using 'index.php' to declare app type as PHP is considered legacy",
        " !     functionality and may lead to unexpected behavior.",
        "-----> Installing platform packages...",
    ]
    assert built.outcome.process_types == {"web": "heroku-php-apache2"}
    assert shop.serve(built, "/") == "Ahoy from fpm-fcgi Ahoy"


def test_a_package_beside_the_app_is_installed_and_its_classes_are_found(
    shop: Workshop, tmp_path: Path
) -> None:
    source = lay(
        tmp_path / "app",
        {
            "composer.json": manifest(
                require={"acme/word": "*", "php": "^8.1", "ext-mbstring": "*"},
                repositories=[{"type": "path", "url": "packages/word"}, {"packagist.org": False}],
                scripts={"compile": "echo compiled > made"},
            ),
            "packages/word/composer.json": manifest(
                name="acme/word", version="1.0.0", autoload={"psr-4": {"Acme\\": ""}}
            ),
            "packages/word/Word.php": "<?php namespace Acme; class Word { const IT = 'beside'; }",
            "public/index.php": "<?php require '../vendor/autoload.php'; echo Acme\\Word::IT, ' Ahoy';",
            "Procfile": "web: vendor/bin/heroku-php-nginx public/",
        },
    )
    shop.inside(source, "composer update --no-install --quiet")

    built = shop.build(source, offline=True)

    assert built.status == 0, built.output
    assert "Generating optimized autoload files" in built.output
    assert (built.app / "made").read_text() == "compiled\n"
    assert shop.serve(built, "/") == "beside Ahoy"


def test_a_second_build_downloads_nothing(shop: Workshop, tmp_path: Path, shelf: Shelf) -> None:
    with zipfile.ZipFile(shelf.folder / "word.zip", "w") as package:
        package.writestr("word/word.php", "<?php const WORD = 'downloaded';")
    word = {
        "name": "acme/word",
        "version": "1.0.0",
        "dist": {"type": "zip", "url": f"{shelf.url}/word.zip"},
        "autoload": {"files": ["word.php"]},
    }
    (shelf.folder / "packages.json").write_text(
        json.dumps({"packages": {"acme/word": {"1.0.0": word}}})
    )
    source = lay(
        tmp_path / "app",
        {
            "composer.json": manifest(
                require={"acme/word": "1.0.0"},
                repositories=[{"type": "composer", "url": shelf.url}, {"packagist.org": False}],
                config={"secure-http": False},
            ),
            "index.php": "<?php require 'vendor/autoload.php'; echo WORD;",
        },
    )
    shop.inside(source, "composer update --no-install --quiet")

    cut = shop.build(source, offline=True)
    first = shop.build(source)
    again = shop.build(source, offline=True)

    assert (cut.status, first.status, again.status) == (1, 0, 0), again.output
    assert " !     ERROR: Dependency installation failed!" in cut.output.splitlines()
    assert shop.run(again, "php index.php") == "downloaded"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"composer.json": "["},
            " !     ERROR: Basic validation of 'composer.json' failed: it is not a JSON object.",
        ),
        (
            {"composer.json": '{"require": {"acme/word": "*"}}'},
            " !     ERROR: No 'composer.lock' found!",
        ),
        (
            {"composer.json": '{"require": {"php": "^7.4"}}'},
            " !     - composer.json requires php ^7.4",
        ),
        (
            {"composer.json": '{"require": {"ext-swoole": "*", "ext-mysqlnd": "^8"}}'},
            " !     - composer.json requires ext-swoole *",
        ),
        (
            {
                "composer.json": '{"require": {"php": ">=7.4 <9"}}',
                "composer.lock": '{"packages": [{"name": "a/b", "require": {"php": "~5.6"}}]}',
            },
            " !     - a/b requires php ~5.6",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_clear_words(
    shop: Workshop, tmp_path: Path, files: dict[str, str], words: str
) -> None:
    built = shop.build(lay(tmp_path / "app", files), offline=True)

    assert words in built.output.splitlines()
    assert built.status == 1


def test_a_polyfill_stands_for_an_extension(shop: Workshop, tmp_path: Path) -> None:
    lock = {"packages": [{"name": "a/polyfill", "provide": {"ext-swoole": "*"}}]}
    source = lay(
        tmp_path / "app",
        {"composer.json": manifest(require={"ext-swoole": "*"}), "composer.lock": json.dumps(lock)},
    )

    built = shop.build(source, offline=True)

    # Composer itself may refuse such a lock file for other reasons.
    assert "requires ext-swoole" not in built.output.split("Installing dependencies")[0]


@pytest.mark.parametrize("server", ["apache2", "nginx"])
def test_a_server_hides_what_is_not_the_web_s_and_says_what_happened(
    shop: Workshop, tmp_path: Path, server: str
) -> None:
    built = shop.build(
        lay(
            tmp_path / "app",
            {
                "public/index.php": "<?php error_log('said'); echo $_SERVER['PATH_INFO'] ?? '-', "
                "$_SERVER['HTTPS'] ?? '-', ini_get('memory_limit');",
                "public/.user.ini": "memory_limit = 64M",
                "public/page.txt": "page",
                "index.php": "",
                "include.conf": "add_header X-Ours yes;\nlocation / { index index.php; }"
                if server == "nginx"
                else "Header set X-Ours yes",
                "Procfile": f"web: heroku-php-{server} -C include.conf public/",
            },
        ),
        offline=True,
    )

    told = shop.visit(
        built,
        "for path in page.txt .user.ini nothing nothing.php; do "
        "curl -so /dev/null -w '%{http_code} ' $url/$path; done; "
        "curl -s -H 'X-Forwarded-Proto: https' $url/index.php/a/b; "
        "curl -si $url/ | grep -io '^x-ours: yes' | tr -d '\\n'",
    )

    assert told.answers.lower() == "200 403 404 404 /a/bon64mx-ours: yes"
    assert told.status == 143
    for line in ("DOCUMENT_ROOT changed to 'public/'", "8 processes at 64MB memory limit."):
        assert line in told.log.splitlines()
    assert "] said" in told.log.replace(" UTC", "")
    assert '"GET /page.txt HTTP/1.1" 200' in told.log


def test_a_request_under_way_is_answered_before_the_end(shop: Workshop, tmp_path: Path) -> None:
    wait = "<?php file_put_contents('/tmp/begun', ''); while (!is_file('/tmp/go')) { usleep(9000); clearstatcache(); } echo 'whole';"
    built = shop.build(lay(tmp_path / "app", {"index.php": "", "wait.php": wait}), offline=True)

    told = shop.visit(
        built,
        "curl -s $url/wait.php & until [ -e /tmp/begun ]; do sleep 0.02; done; "
        "kill -TERM $web; until grep -q SIGWINCH /tmp/log; do sleep 0.02; done; touch /tmp/go; wait $!",
    )

    assert (told.answers, told.status) == ("whole", 143)


def manifest(**fields: Any) -> str:
    return json.dumps(fields)
