"""What all of an engine's rooms stand on: where its things lie, how they are named, what this machine is."""

import hashlib
from pathlib import Path

from deodar import settings
from deodar.engines.local import cgroups, commands, images, mounts, network, records


class Ground:
    """Of one engine; what it says of the machine is known once the engine has looked."""

    def __init__(self, paths: settings.Paths, *, subnet: str) -> None:
        # two platforms on one machine share nothing: all that is not below the data directory is
        # named after it
        self.name = f"deodar-{hashlib.sha256(bytes(paths.data)).hexdigest()[:6]}"
        self.paths = paths
        # conmon's sockets are here since the path of a socket has room for 107 bytes only
        self.short = Path("/run") / self.name
        self.records = records.Records(paths.run / "containers")
        self.namespace = mounts.Namespace(paths.run / "ns" / "mnt")
        self.network = network.Network(
            name=self.name,
            subnet=subnet,
            folder=paths.run / "netns",
            namespace=self.namespace,
        )
        self.images = images.Images(
            slugs=paths.slugs, points=paths.run / "slugs", namespace=self.namespace
        )
        self.runtime = commands.Runtime(path="", root=self.short / "oci")
        self.boot = ""
        self.cgroups = cgroups.Cgroups(unified=None, legacy={}, hybrid=None)

    @property
    def cgroup(self) -> str:
        """Above all the containers'."""
        return f"/{self.name}"

    def cgroup_of(self, container_id: str) -> str:
        return f"{self.cgroup}/{container_id}"

    def log_of(self, container_id: str) -> Path:
        return self.records.folder(container_id) / "log"

    def is_here(self, record: records.Record) -> bool:
        """False after the machine started anew: files are all that is left of it."""
        return record.boot == self.boot
