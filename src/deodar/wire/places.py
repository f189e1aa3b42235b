"""Where people reach this platform: the URLs of an app, its repository, its terminals."""

from dataclasses import dataclass

from deodar.model.app import App


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    domain: str  #: apps are at `<name>.<domain>`
    https: int  #: the router's port
    host: str  #: of API, git and rendezvous
    git: int
    rendezvous: int

    def host_of(self, app: App) -> str:
        return f"{app.name}.{self.domain}"

    def web_url(self, app: App) -> str:
        return f"https://{self.host_of(app)}{_suffix(self.https)}/"

    def git_url(self, app: App) -> str:
        return f"https://{self.host}{_suffix(self.git)}/{app.name}.git"

    def attach_url(self, token: str) -> str:
        """The port is always named: clients have no default for it."""
        return f"rendezvous://{self.host}:{self.rendezvous}/{token}"


def _suffix(port: int) -> str:
    return "" if port == 443 else f":{port}"
