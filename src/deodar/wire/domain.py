"""The shapes of domains."""

from deodar.model.app import App
from deodar.model.route import Domain as DomainNoun
from deodar.model.route import DomainKind
from deodar.wire.base import Named, Shape, derived_id, stamp
from deodar.wire.places import Places


class Domain(Shape):
    id: str
    app: Named
    hostname: str
    kind: str
    cname: str | None  #: what a custom domain's DNS record should point to
    status: str
    created_at: str
    updated_at: str
    acm_status: str | None = None
    acm_status_reason: str | None = None
    sni_endpoint: Named | None = None


class DomainCreate(Shape):
    hostname: str
    sni_endpoint: str | None = None


class DomainUpdate(Shape):
    sni_endpoint: str | None  #: must be said: without a word, the domain would lose its certificate


def present_domain(domain: DomainNoun, app: App, places: Places) -> Domain:
    return Domain(
        id=domain.id,
        app=Named(id=app.id, name=app.name),
        hostname=domain.hostname,
        kind=domain.kind,
        cname=places.host_of(app),
        status="none",  # nothing to wait for: it is routed at once
        created_at=stamp(domain.created_at),
        updated_at=stamp(domain.updated_at),
        acm_status=domain.acm.status,
        acm_status_reason=domain.acm.reason,
        sni_endpoint=(
            Named(id=domain.sni_endpoint.id, name=domain.sni_endpoint.name)
            if domain.sni_endpoint
            else None
        ),
    )


def present_own_domain(app: App, places: Places) -> Domain:
    """The name that the platform gives an app."""
    return Domain(
        id=derived_id("domain", app.id),
        app=Named(id=app.id, name=app.name),
        hostname=places.host_of(app),
        kind=DomainKind.HEROKU,
        cname=None,
        status="none",
        created_at=stamp(app.created_at),
        updated_at=stamp(app.updated_at),
    )
