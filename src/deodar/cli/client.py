"""The API and the router as a client sees them: reached by the addresses that the daemon gave out."""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deodar.cli import output
from deodar.settings import Settings

#: no app may be called so (a leading dash), so its host is unknown to every router of ours
NOBODY = "-nobody"


@dataclass(frozen=True, slots=True)
class Variables:
    """What a client must set to talk to this platform; the daemon writes them when it is ready."""

    values: dict[str, str]

    @property
    def api(self) -> str:
        return self.values["HEROKU_HOST"]


def client_file(data: Path) -> Path:
    return data / "client.json"


def variables(settings: Settings) -> Variables:
    """Raises Failed where no platform has ever been ready."""
    file = client_file(settings.paths.data)
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise output.Failed(
            f"There is no platform at {settings.paths.data}.", "Start one: deodar up --detach"
        ) from None
    return Variables(json.loads(text))


class Api:
    """Asks the API as the owner."""

    def __init__(self, given: Variables) -> None:
        tls = ssl.create_default_context(cafile=given.values["NODE_EXTRA_CA_CERTS"])
        self._http = httpx.Client(
            base_url=given.api,
            verify=tls,
            timeout=10,
            # The platform is on this machine; a proxy of the environment could not reach it.
            trust_env=False,
            headers={
                "Accept": "application/vnd.heroku+json; version=3",
                "Authorization": f"Bearer {given.values['HEROKU_API_KEY']}",
            },
        )

    def get(self, path: str) -> Any:
        """The decoded answer. Raises Failed with the API's own message."""
        try:
            answer = self._http.get(path)
        except httpx.TransportError as error:
            raise output.Failed(
                f"The API does not answer at {self._http.base_url}: {error}.",
                "Start it: deodar up --detach",
            ) from error
        if answer.is_error:
            raise output.Failed(answer.json().get("message", answer.reason_phrase))
        return answer.json()

    def answers(self) -> bool:
        try:
            return self._http.get("/account").is_success
        except httpx.TransportError:
            return False


def router_answers(settings: Settings) -> bool:
    """Whether a request for nobody's host comes back as the router's own 404."""
    # Listening everywhere includes here.
    host = "127.0.0.1" if settings.listen in ("0.0.0.0", "::") else settings.listen
    connection = http.client.HTTPConnection(host, settings.ports.http, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": f"{NOBODY}.{settings.domain}"})
        return connection.getresponse().status == 404
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
