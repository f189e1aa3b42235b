"""What the shapes say that Heroku's schema does not ask for; whole answers are held against it in
tests/api."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from deodar.model.app import Account, App, AppId
from deodar.wire import app as app_wire
from deodar.wire import formation as formation_wire
from deodar.wire.account import person
from deodar.wire.base import derived_id, stamp
from deodar.wire.places import Places

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ADA = Account(id="ada-id", email="ada@example.com", created_at=NOW)
SHOP = App(
    id=AppId("shop-id"), name="shop", owner=ADA, slot=0, uid=1, created_at=NOW, updated_at=NOW
)


def test_a_moment_is_written_in_utc_to_the_second() -> None:
    berlin = timezone(timedelta(hours=1))

    written = stamp(datetime(2030, 1, 1, 0, 30, 15, 999_999, tzinfo=berlin))

    assert written == "2029-12-31T23:30:15Z"


def test_a_derived_id_is_the_same_always_and_another_for_other_parts() -> None:
    assert derived_id("stack", "deodar-12") == "44e204b5-bd9b-518a-a93d-16c28bf33ea4"
    assert derived_id("a", "bc") != derived_id("ab", "c")


@pytest.mark.parametrize(
    ("port", "web", "git"),
    [
        (443, "https://shop.paas.test/", "https://paas.test/shop.git"),
        (8443, "https://shop.paas.test:8443/", "https://paas.test:8443/shop.git"),
    ],
)
def test_urls_name_their_port_unless_it_is_the_usual_one(port: int, web: str, git: str) -> None:
    places = Places(domain="paas.test", https=port, host="paas.test", git=port, rendezvous=443)

    assert (places.web_url(SHOP), places.git_url(SHOP), places.attach_url("tok")) == (
        web,
        git,
        "rendezvous://paas.test:443/tok",
    )


@pytest.mark.parametrize(
    ("identifier", "url", "name"),
    [
        ("heroku/go", "urn:buildpack:heroku/go", "heroku/go"),
        ("urn:buildpack:heroku/go", "urn:buildpack:heroku/go", "heroku/go"),
        ("https://example.com/x.git", "https://example.com/x.git", "https://example.com/x.git"),
    ],
)
def test_a_buildpack_is_shown_by_url_and_name(identifier: str, url: str, name: str) -> None:
    assert app_wire.present_buildpack(identifier) == app_wire.Buildpack(url=url, name=name)


def test_who_is_not_the_owner_has_an_id_of_his_own_too() -> None:
    assert person("ada@example.com", SHOP).id == "ada-id"
    assert person("bob@example.com", SHOP).id == person("bob@example.com", SHOP).id != "ada-id"


@pytest.mark.parametrize(
    ("update", "size"),
    [
        ({}, None),
        ({"size": "basic"}, "basic"),
        ({"dyno_size": "eco"}, "eco"),
        ({"dyno_size": {"name": "eco"}, "size": "basic"}, "eco"),
    ],
)
def test_a_wished_size_is_read_wherever_it_stands(
    update: dict[str, object], size: str | None
) -> None:
    assert msgspec.convert(update, formation_wire.FormationUpdate).wished_size == size
