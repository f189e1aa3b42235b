"""Every error the platform raises on purpose; which door shows it, and how, is the door's matter.

PlatformError                 base; never raised itself
├─ Refused                    the user can mend it; answered, logged at info, no traceback
│  ├─ BadRequest   Unauthorized   Forbidden   NotFound   Conflict
│  ├─ InvalidParams   ConfirmationRequired   RateLimited
│  │  └─ InvalidManifest
│  └─ TooLarge   RangeNotSatisfiable
├─ BuildFailed                the user's code failed to build; ends the Build, told in its stream
└─ Unavailable                something below us failed; carries its cause; loops retry, the API says 503
   └─ EngineFailed   StoreFailed   RouterFailed   StackMissing   DiskFull
IllegalTransition             a bug of ours; nobody catches it

A class's docstring is its default message. `id` and `status` are Heroku's (devcenter: Platform API,
"Error responses"). H10, R14 and L10 are not errors of ours but facts about requests and dynos.
"""

from collections.abc import Sequence
from typing import ClassVar


class PlatformError(Exception):
    """Something went wrong."""

    id: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").split("\n", 1)[0]
        super().__init__(self.message)


class Refused(PlatformError):
    """The request cannot be done as it stands."""

    id = "bad_request"
    status = 400


class BadRequest(Refused):
    """The request was not understood. Check its syntax."""


class Unauthorized(Refused):
    """Invalid credentials provided."""

    id = "unauthorized"
    status = 401


class Forbidden(Refused):
    """You do not have access to that."""

    id = "forbidden"
    status = 403


class NotFound(Refused):
    """Couldn't find that. `resource` is the noun that is missing, as Heroku spells it."""

    id = "not_found"
    status = 404

    def __init__(self, resource: str, message: str | None = None) -> None:
        super().__init__(message or f"Couldn't find that {resource.replace('_', ' ')}.")
        self.resource = resource


class Conflict(Refused):
    """That cannot be done in the present state. Try again in a moment."""

    id = "conflict"
    status = 409


class TooLarge(Refused):
    """The request is too large."""

    id = "payload_too_large"
    status = 413


class RangeNotSatisfiable(Refused):
    """The requested range is not available."""

    id = "requested_range_not_satisfiable"
    status = 416


class InvalidParams(Refused):
    """The parameters are not valid."""

    id = "invalid_params"
    status = 422


class InvalidManifest(InvalidParams):
    """The app.json is not valid. `problems` says why, each with the path of its key."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"Invalid app.json: {'; '.join(problems)}")
        self.problems = tuple(problems)


class ConfirmationRequired(Refused):
    """This needs a confirmation."""

    id = "confirmation_required"
    status = 423


class RateLimited(Refused):
    """Your account reached the API rate limit. Please wait a few minutes before making new requests."""

    id = "rate_limit"
    status = 429


class BuildFailed(PlatformError):
    """The build failed. Its output says why."""

    id = "build_failed"
    status = 422


class Unavailable(PlatformError):
    """A part of the platform cannot answer at the moment. Try again in a moment."""

    id = "service_unavailable"
    status = 503


class EngineFailed(Unavailable):
    """The engine that runs dynos failed."""


class StoreFailed(Unavailable):
    """The store failed."""


class RouterFailed(Unavailable):
    """The router failed."""


class StackMissing(Unavailable):
    """The stack is not built on this machine."""


class DiskFull(Unavailable):
    """The disk of this machine is nearly full: builds are paused."""


class IllegalTransition(Exception):
    """A state was asked to make a move that its table does not have: a bug of ours."""
