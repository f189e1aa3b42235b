"""What every root file system must have for an engine to run something in it, whatever it was made of.

An engine mounts over these, and reads some from outside the container: so they are plain folders and
files, and no links, which could lead out of the root.
"""

from pathlib import Path

from deodar.adapters.stacks import within
from deodar.model import errors

FOLDERS = ("app", "tmp", "proc", "sys", "dev", "run")
FILES = ("etc/resolv.conf", "etc/hosts", "etc/hostname")
READ = ("etc/passwd", "etc/group")  #: an engine adds a line of its own
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def furnish(root: Path) -> None:
    """May be repeated. Raises InvalidParams for a root whose /etc is no folder."""
    etc = root / "etc"
    if etc.is_symlink() or not etc.is_dir():
        raise errors.InvalidParams("The image has no folder /etc: it is no system to run apps on.")
    for folder in FOLDERS:
        place = root / folder
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(exist_ok=True)
    for file in FILES:
        place = root / file
        # Unlinked first: the two variants must not share what an engine may write to.
        within.clear(place)
        place.write_text("127.0.0.1 localhost\n" if file == "etc/hosts" else "")
    for file in READ:
        place = root / file
        if place.is_symlink() or not place.is_file():
            within.clear(place)
            place.touch()
    certificates = within.parent(root, CERTIFICATES, make=True)
    if not within.follow(root, CERTIFICATES).is_file():
        within.clear(certificates)
        certificates.touch()
    (root / "app").chmod(0o755)
