"""Which buildpacks there are, how a build's container runs them, and what they left behind; running
the container is the pipeline's.

The driver (`driver.sh`) speaks Heroku's buildpack API inside the container. Its argv, its volumes and
the files in its result folder are known here and there, and nowhere else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from deodar.engines.base import Volume
from deodar.model import errors, procfile

#: Built-in buildpacks in the order in which they are asked to detect.
ORDER = (
    "heroku/ruby",
    "heroku/nodejs",
    "heroku/python",
    "heroku/php",
    "heroku/go",
    "heroku/static",
    "heroku/procfile",
)

#: Heroku's own buildpacks by the addresses that people have in their apps.
REPOSITORY = re.compile(
    r"https://(?:www\.)?github\.com/heroku/heroku-buildpack-([a-z-]+?)(?:\.git)?/?(?:#.*)?"
)
ARCHIVE = re.compile(
    r"https://buildpack-registry\.s3\.amazonaws\.com/buildpacks/heroku/([a-z-]+)\.tgz"
)
ADDRESS = re.compile(r"(?:https?|git|ssh)://|[\w.-]+@[\w.-]+:")
URN = "urn:buildpack:"
OTHER_NAMES = {"node": "nodejs", "static-site": "static", "nginx": "static"}

BASE = "/tmp/deodar"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the buildpacks said of the app."""

    description: str  #: such as `Python`
    detected: str | None  #: the buildpack that detect chose; None when they were asked for
    process_types: Mapping[str, str]
    has_procfile: bool
    defaults: tuple[str, ...]  #: process types that the buildpack gave and the Procfile did not


def name(identifier: str) -> str:
    """The short name of a buildpack of ours, `heroku/python`, under whichever name it is asked for;
    any other identifier as it is."""
    text = identifier.removeprefix(URN)
    if match := REPOSITORY.fullmatch(text) or ARCHIVE.fullmatch(text):
        text = f"heroku/{match[1]}"
    owner, _, short = text.rpartition("/")
    candidate = f"heroku/{OTHER_NAMES.get(short, short)}"
    return candidate if owner in ("", "heroku") and candidate in ORDER else identifier


def builtin(identifier: str) -> Path | None:
    """The folder of a buildpack that ships with Deodar; None if it does not."""
    known = name(identifier)
    return _shipped() / known.removeprefix("heroku/") if known in ORDER else None


def located(identifier: str) -> Path | None:
    """Its folder; None for an address, which the driver fetches. Raises BuildFailed for a name that
    is neither built in nor an address."""
    if folder := builtin(identifier):
        return folder
    if ADDRESS.match(identifier):
        return None
    raise errors.BuildFailed(
        f"The buildpack {identifier} is not one of those that are built in: {', '.join(ORDER)}. "
        "Set one of them, or the address of a git repository: heroku buildpacks:set <name or URL>"
    )


def candidates() -> list[tuple[str, Path | None]]:
    """Those to detect among, in order, as `volumes` takes them."""
    return [(known, _shipped() / known.removeprefix("heroku/")) for known in ORDER]


def check(tree: Path) -> None:
    """Raises BuildFailed for a source that is to be built otherwise. Beside a Procfile a heroku.yml is
    passed over, as at Heroku on any stack but `container`."""
    if (tree / "heroku.yml").is_file() and not (tree / "Procfile").exists():
        raise errors.BuildFailed(
            "The app has a heroku.yml, which builds Docker images; Deodar builds with buildpacks only. "
            "Add a Procfile with the commands under `run` in heroku.yml."
        )


def command(asked: Sequence[str]) -> tuple[str, ...]:
    """What the build's container runs. None asked for means detect."""
    return ("bash", f"{BASE}/driver.sh", *(name(identifier) for identifier in asked))


def test_command(asked: Sequence[str]) -> tuple[str, ...]:
    """What a test run's container runs: Heroku's testpack API, with the same volumes as a build."""
    return ("bash", f"{BASE}/driver.sh", "--test", *(name(identifier) for identifier in asked))


def environment(stack: str, *, request_id: str, source_version: str | None) -> dict[str, str]:
    """All that buildpacks find in their environment; config vars are in files."""
    return {
        "STACK": stack,
        "PATH": PATH,
        "HOME": "/app",
        "LANG": "C.UTF-8",
        "REQUEST_ID": request_id,
        "SOURCE_VERSION": source_version or "",
        # Tools that carry their own list of authorities use the stack's, which has the host's.
        "SSL_CERT_FILE": CERTIFICATES,
        "NODE_EXTRA_CA_CERTS": CERTIFICATES,
        "PIP_CERT": CERTIFICATES,
        "REQUESTS_CA_BUNDLE": CERTIFICATES,
    }


def volumes(
    buildpacks: Sequence[tuple[str, Path | None]],
    *,
    app: Path,
    cache: Path,
    env: Path,
    result: Path,
) -> tuple[Volume, ...]:
    """What the container sees: identifiers and folders (`located`) of the buildpacks to run, or of
    those to detect among (`candidates`); the source, the app's cache, its config vars as files, and an empty folder."""
    return (
        Volume(app, "/app", writable=True),
        Volume(Path(str(resources.files(__package__) / "driver.sh")), f"{BASE}/driver.sh"),
        Volume(_shipped() / "lib.sh", f"{BASE}/buildpacks/lib.sh"),
        *(
            Volume(folder, f"{BASE}/buildpacks/{number:02d}-{_word(identifier)}")
            for number, (identifier, folder) in enumerate(buildpacks)
            if folder is not None
        ),
        Volume(cache, f"{BASE}/cache", writable=True),
        Volume(env, f"{BASE}/env"),
        Volume(result, f"{BASE}/result", writable=True),
    )


def outcome(result: Path, tree: Path, *, status: int) -> Outcome:
    """Reads what the driver left. Raises BuildFailed with its last words if it failed."""
    if status != 0:
        raise errors.BuildFailed(
            _text(result / "failure") or f"Push rejected, the build ended with status {status}."
        )
    written = _text(tree / "Procfile", whole=True)
    defaults = default_process_types(_text(result / "release.yml", whole=True) or "")
    types = process_types(written, defaults)
    return Outcome(
        description=_text(result / "name") or "",
        detected=_text(result / "detected"),
        process_types=types,
        has_procfile=written is not None,
        defaults=tuple(kind for kind in types if kind not in procfile.parse(written or "")),
    )


def process_types(written: str | None, defaults: Mapping[str, str]) -> dict[str, str]:
    """The Procfile's process types, then those of the buildpack's that it does not name."""
    types = procfile.parse(written or "")
    return types | {kind: line for kind, line in defaults.items() if kind not in types}


def default_process_types(release: str) -> dict[str, str]:
    """What `bin/release` says they are. Raises BuildFailed if that is no YAML of the right shape."""
    try:
        document: Any = yaml.safe_load(release)
    except yaml.YAMLError as error:
        raise errors.BuildFailed(
            f"The buildpack's bin/release printed no valid YAML: {error}"
        ) from error
    given = document.get("default_process_types") if isinstance(document, dict) else None
    types = {} if given is None else given
    if not isinstance(types, dict) or not all(
        isinstance(word, str) for pair in types.items() for word in pair
    ):
        raise errors.BuildFailed(
            "The buildpack's default_process_types are not names with a command each."
        )
    return types


def _shipped() -> Path:
    return Path(str(resources.files("deodar") / "buildpacks"))


def _word(identifier: str) -> str:
    """A folder's name for it; the driver turns that of a built-in one back into its identifier."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name(identifier).removeprefix("heroku/"))[:60]


def _text(file: Path, *, whole: bool = False) -> str | None:
    # Written by code of the app: it may be a link to elsewhere, or anything.
    if file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as opened:
        text = opened.read(256 * 1024).decode(errors="replace")
    return text if whole else text.strip() or None
