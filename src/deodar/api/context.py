"""What every door needs, built once by the daemon and handed over; and the secret URLs made with it."""

import random
from dataclasses import dataclass, field
from datetime import timedelta

from deodar.kit.clock import Clock
from deodar.kit.signing import Signer
from deodar.settings import Settings
from deodar.store.db import Database
from deodar.store.logs import Logs
from deodar.wire.places import Places

ATTACH = timedelta(minutes=10)  #: how long a one-off waits to be attached to
LOG_SESSION = timedelta(minutes=5)  #: to be opened within; it may last longer (devcenter: logging)
DOWNLOAD = timedelta(hours=24)  #: of a build's output or a slug
EXEC = timedelta(hours=24)  #: to open connections to a dyno; each of ps:forward's is a new one
UPLOAD = timedelta(hours=1)  #: of a source, and until a build asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """One signer for each kind of URL that is its own secret."""

    rendezvous: Signer  #: signs a dyno's id
    logs: Signer  #: signs what a log session shows
    build_output: Signer  #: signs `<app id>/<build id>`
    phase_output: Signer  #: signs `<app id>/<release id>`
    slug: Signer  #: signs a slug's checksum
    slug_upload: Signer  #: signs what a slug shall be
    source: Signer  #: signs an upload's id
    exec: Signer  #: signs a model.grant.Grant

    @classmethod
    def of(cls, key: bytes) -> "Signers":
        return cls(
            rendezvous=Signer(key, "rendezvous"),
            logs=Signer(key, "logs"),
            build_output=Signer(key, "build-output"),
            phase_output=Signer(key, "phase-output"),
            slug=Signer(key, "slug"),
            slug_upload=Signer(key, "slug-upload"),
            source=Signer(key, "source"),
            exec=Signer(key, "exec"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    db: Database
    logs: Logs
    clock: Clock
    settings: Settings
    signers: Signers
    dice: random.Random = field(default_factory=random.SystemRandom)

    @property
    def places(self) -> Places:
        """Where this platform's settings put it."""
        return Places(
            domain=self.settings.domain,
            https=self.settings.ports.https,
            host=self.settings.host,
            git=self.settings.ports.api_tls,
            rendezvous=self.settings.ports.rendezvous,
        )
