"""What the PHP buildpack installs, refuses and serves."""

import json
from pathlib import Path

import pytest

from tests.buildpacks.runner import Workshop, lay

HELLO = {"index.php": "<?php echo 'Ahoy from ', PHP_SAPI, ' ', getenv('GREETING');"}


@pytest.fixture(autouse=True)
def php(shop: Workshop) -> None:
    if not (shop.stack / "build/usr/bin/composer").exists():
        pytest.skip("the stack was built before PHP was part of it: build it anew")


def test_an_index_php_is_enough(shop: Workshop, tmp_path: Path) -> None:
    built = shop.build(lay(tmp_path / "app", HELLO), offline=True)

    assert built.status == 0, built.output
    assert built.outcome.process_types == {"web": "heroku-php-apache2"}
    assert shop.serve(built, "/") == "Ahoy from fpm-fcgi Ahoy"
