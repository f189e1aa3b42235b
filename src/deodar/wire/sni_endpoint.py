"""The shapes of certificates."""

from collections.abc import Iterable

import msgspec

from deodar.model.app import App
from deodar.model.certificate import SniEndpoint as SniEndpointNoun
from deodar.model.route import Domain
from deodar.wire.base import Named, Shape, derived_id, stamp


class SslCert(Shape):
    id: str
    acm: bool
    cert_domains: list[str]
    subject: str
    issuer: str
    starts_at: str
    expires_at: str
    ca_signed: bool = msgspec.field(name="ca_signed?")
    self_signed: bool = msgspec.field(name="self_signed?")


class SniEndpoint(Shape):
    id: str
    name: str
    app: Named
    certificate_chain: str
    domains: list[str]  #: ids of those that are served with it
    ssl_cert: SslCert
    created_at: str
    updated_at: str
    display_name: str | None = None


class SniEndpointWish(Shape):
    certificate_chain: str
    private_key: str


def present_endpoint(endpoint: SniEndpointNoun, app: App, domains: Iterable[Domain]) -> SniEndpoint:
    """`domains` are all of the app's; those that chose this certificate are named."""
    facts = endpoint.facts
    return SniEndpoint(
        id=endpoint.id,
        name=endpoint.name,
        app=Named(id=app.id, name=app.name),
        certificate_chain=endpoint.chain,
        domains=[
            domain.id
            for domain in domains
            if domain.sni_endpoint is not None and domain.sni_endpoint.id == endpoint.id
        ],
        ssl_cert=SslCert(
            id=derived_id("certificate", endpoint.id),
            acm=endpoint.acm,
            cert_domains=list(facts.names),
            subject=facts.subject,
            issuer=facts.issuer,
            starts_at=stamp(facts.starts_at),
            expires_at=stamp(facts.expires_at),
            ca_signed=facts.ca_signed,
            self_signed=facts.self_signed,
        ),
        created_at=stamp(endpoint.created_at),
        updated_at=stamp(endpoint.updated_at),
    )
