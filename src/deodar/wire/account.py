"""The shapes of an account and of what belongs to a person: authorizations, collaborations, limits."""

from deodar.model.app import Account as AccountNoun
from deodar.model.app import App as AppNoun
from deodar.wire.base import Id, Named, Person, Shape, derived_id, stamp


class Account(Shape):
    id: str
    email: str
    name: str | None
    created_at: str
    updated_at: str
    verified: bool = True
    allow_tracking: bool = False
    beta: bool = False
    federated: bool = False
    two_factor_authentication: bool = False
    identity_provider: Named | None = None
    last_login: str | None = None
    sms_number: str | None = None
    suspended_at: str | None = None
    delinquent_at: str | None = None
    country_of_residence: str | None = None
    default_organization: Named | None = None
    default_team: Named | None = None


def present_account(account: AccountNoun) -> Account:
    created_at = stamp(account.created_at)
    return Account(
        id=account.id,
        email=account.email,
        name=account.name,
        created_at=created_at,
        updated_at=created_at,
    )


class Member(Person):
    federated: bool = False


class Permission(Shape):
    name: str
    description: str


class Collaborator(Shape):
    id: str
    app: Named
    user: Member
    role: str | None
    permissions: list[Permission]
    created_at: str
    updated_at: str


def present_owner(app: AppNoun) -> Collaborator:
    """The owner as the API lists them among an app's collaborators."""
    created_at = stamp(app.created_at)
    return Collaborator(
        id=derived_id("collaborator", app.id, app.owner.id),
        app=Named(id=app.id, name=app.name),
        user=Member(id=app.owner.id, email=app.owner.email),
        role="owner",
        permissions=[],
        created_at=created_at,
        updated_at=created_at,
    )


def person(email: str, app: AppNoun) -> Person:
    """Who did something to `app`; the ledger knows people by their email."""
    known = app.owner.email == email
    return Person(id=app.owner.id if known else derived_id("user", email), email=email)


class AccessToken(Shape):
    id: str
    token: str
    expires_in: int | None = None


class AuthorizationUser(Person):
    full_name: str | None


class Client(Named):
    redirect_uri: str


class Authorization(Shape):
    id: str
    description: str
    scope: list[str]
    access_token: AccessToken
    user: AuthorizationUser
    created_at: str
    updated_at: str
    client: Client | None = None
    grant: Id | None = None
    refresh_token: AccessToken | None = None
    session: Id | None = None


class AuthorizationCreate(Shape):
    description: str | None = None


def present_authorization(account: AccountNoun, token: str, *, description: str) -> Authorization:
    """The one authorization that an account has: the token it is using."""
    created_at = stamp(account.created_at)
    return Authorization(
        id=derived_id("authorization", account.id),
        description=description,
        scope=["global"],
        access_token=AccessToken(id=derived_id("access-token", account.id), token=token),
        user=AuthorizationUser(id=account.id, email=account.email, full_name=account.name),
        created_at=created_at,
        updated_at=created_at,
    )


class RateLimit(Shape):
    remaining: int
