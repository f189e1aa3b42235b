"""/account and /users/~: who one is, and what belongs to a person."""

from starlette.responses import Response

from deodar.api.call import Call, answer
from deodar.model import errors
from deodar.wire import account as wire

RATE_LIMIT = (
    4500  #: calls an hour, as Heroku tells them. Nobody is counted: it is their own machine
)

CLI = "Heroku CLI"


async def info(call: Call) -> Response:
    return answer(wire.present_account(call.account))


async def rate_limits(call: Call) -> Response:
    return answer(wire.RateLimit(remaining=RATE_LIMIT))


async def nothing(call: Call) -> Response:
    """Lists that are empty on a machine with one owner: SSH keys, teams."""
    return answer([])


async def authorizations(call: Call) -> Response:
    return answer([wire.present_authorization(call.account, call.token, description=CLI)])


async def authorize(call: Call) -> Response:
    """A login with the token as the password; the answer is that token."""
    wish = await call.body(wire.AuthorizationCreate)
    description = wish.description or CLI
    return answer(
        wire.present_authorization(call.account, call.token, description=description), status=201
    )


async def no_authorization(call: Call) -> Response:
    """The owner's token lies on the machine; it is not revoked from afar."""
    raise errors.NotFound("authorization")


async def no_session(call: Call) -> Response:
    raise errors.NotFound("session")


TABLE = (
    ("GET", "/account", info),
    ("GET", "/users/~", info),
    ("GET", "/account/rate-limits", rate_limits),
    ("GET", "/account/keys", nothing),
    ("GET", "/teams", nothing),
    ("GET", "/oauth/authorizations", authorizations),
    ("POST", "/oauth/authorizations", authorize),
    ("GET", "/oauth/authorizations/{authorization}", no_authorization),
    ("DELETE", "/oauth/authorizations/{authorization}", no_authorization),
    ("DELETE", "/oauth/sessions/{session}", no_session),
)
