"""The tables, as SQLAlchemy Core sees them; migrations make them so in a database."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

#: moments are stored as seconds since the epoch, UTC: the same in SQLite and PostgreSQL, and exact
#: to the microsecond
Moment = Float(53)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("email", String(255), nullable=False, unique=True),
    Column("name", String(255)),
    Column("token_hash", String(64), nullable=False, unique=True),  # SHA-256 of the API token
    Column("created_at", Moment, nullable=False),
)

apps = Table(
    "apps",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(30), nullable=False, unique=True),
    Column("owner_id", String(36), ForeignKey("accounts.id"), nullable=False),
    Column("stack", String(64), nullable=False),
    Column("build_stack", String(64), nullable=False),
    Column("maintenance", Boolean, nullable=False),
    Column("preboot", Boolean, nullable=False),
    Column("runtime_metrics", Boolean, nullable=False),
    Column("acm", Boolean, nullable=False, server_default=false()),
    Column("affinity", Boolean, nullable=False, server_default=false()),
    Column("buildpacks", JSON, nullable=False),
    Column("detected_buildpack", String(255)),
    Column("slot", Integer, nullable=False, unique=True),
    Column("uid", Integer, nullable=False, unique=True),
    Column("slug_size", Integer),
    Column("repo_size", Integer),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("released_at", Moment),
    Column("active_at", Moment),  # somebody asked for it; a minute late
    Column("asleep_since", Moment),  # null: awake
    Column("asleep_depth", String(16)),
    Column("asleep_workers", Boolean),
)


def _app(*, primary_key: bool = False, index: bool = False) -> Column[str]:
    return Column(
        "app_id",
        String(36),
        ForeignKey("apps.id", ondelete="CASCADE"),
        primary_key=primary_key,
        index=index or None,
        nullable=False,
    )


slugs = Table(
    "slugs",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(index=True),
    Column("checksum", String(80), nullable=False),
    Column("size", Integer, nullable=False),
    Column("stack", String(64), nullable=False),
    Column("commit", String(64)),
    Column("commit_description", Text),
    Column("buildpack_description", String(255)),
    Column("process_types", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(),
    Column("version", Integer, nullable=False),
    Column("slug_id", String(36), ForeignKey("slugs.id")),
    Column("description", Text, nullable=False),
    Column("user", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("current", Boolean, nullable=False),
    Column("command", Text),
    Column("config", LargeBinary, nullable=False),  # Fernet token of the JSON
    Column(
        "formation_before", JSON, nullable=False
    ),  # [type, quantity, size] each, for its failure
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("app_id", "version"),
)
Index(
    "one_current_release",
    releases.c.app_id,
    unique=True,
    sqlite_where=releases.c.current,
    postgresql_where=releases.c.current,
)

builds = Table(
    "builds",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(index=True),
    Column("user", String(255), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("stack", String(64), nullable=False),
    Column("commit", String(64)),
    Column("commit_description", Text),
    Column("buildpacks", JSON, nullable=False),
    Column("slug_id", String(36), ForeignKey("slugs.id")),
    Column("release_id", String(36), ForeignKey("releases.id")),
    Column("canceled_by", String(255)),
    Column("message", Text),
    Column("started_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

formations = Table(
    "formations",
    metadata,
    _app(primary_key=True),
    Column("type", String(128), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("size", String(32), nullable=False),
    Column("command", Text, nullable=False),
)

dynos = Table(
    "dynos",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(index=True),
    Column("type", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("size", String(32), nullable=False),
    Column("command", Text, nullable=False),
    Column("release_id", String(36), ForeignKey("releases.id"), nullable=False),
    Column("release_version", Integer, nullable=False),
    Column("slug_id", String(36)),
    Column("state", String(16), nullable=False),
    Column("state_since", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("address", String(45)),
    Column("port", Integer),
    Column("routed", Boolean, nullable=False),
    Column("condemned", String(32)),
    Column("signalled_at", Moment),
    Column("killed", Boolean, nullable=False),
    Column("exit_status", Integer),
    Column("reason", Text),
    Column("fate", Text),
    Column("crashes", Integer, nullable=False),
    Column("restart_at", Moment),
    Column("attached", Boolean, nullable=False),
    Column("tty", Boolean, nullable=False),
    Column("env", LargeBinary, nullable=False),  # Fernet token of the JSON
    Column("time_to_live", Integer),
)

sni_endpoints = Table(
    "sni_endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(),
    Column("name", String(30), nullable=False),
    Column("chain", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),  # Fernet token
    Column("names", JSON, nullable=False),
    Column("subject", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("starts_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("self_signed", Boolean, nullable=False),
    Column("ca_signed", Boolean, nullable=False),
    Column("acm", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("app_id", "name"),
)

domains = Table(
    "domains",
    metadata,
    Column("id", String(36), primary_key=True),
    _app(index=True),
    Column("hostname", String(253), nullable=False, unique=True),
    Column("sni_endpoint_id", String(36), ForeignKey("sni_endpoints.id")),
    Column("acm_status", String(16)),
    Column("acm_reason", Text),
    Column("acm_failures", Integer, nullable=False, server_default=text("0")),
    Column("acm_next_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

acme_accounts = Table(
    "acme_accounts",
    metadata,
    Column("directory", String(255), primary_key=True),
    Column("key", LargeBinary, nullable=False),  # Fernet token
    Column("url", Text),
)

acme_orders = Table(
    "acme_orders",
    metadata,
    Column("domain_id", String(36), ForeignKey("domains.id"), primary_key=True),
    _app(index=True),
    Column("hostname", String(253), nullable=False),
    Column("url", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),  # Fernet token
    Column("token", Text),
    Column("answer", Text),
    Column("routed", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
)

setups = Table(
    "setups",
    metadata,
    Column("id", String(36), primary_key=True),
    # No foreign key: a set-up that failed is told of when its app is gone.
    Column("app_id", String(36), nullable=False, index=True),
    Column("app_name", String(30), nullable=False),
    Column("user", String(255), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("source", LargeBinary, nullable=False),  # Fernet token of the JSON
    Column("stack", String(64)),
    Column("env", LargeBinary, nullable=False),  # Fernet token of the JSON
    Column("buildpacks", JSON(none_as_null=True)),
    Column("manifest", Text),
    Column("notes", JSON, nullable=False),
    Column("build_id", String(36)),
    Column("builds", Integer, nullable=False),
    Column("dyno_id", String(36)),
    Column("output", Text),
    Column("exit_code", Integer),
    Column("failure", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
