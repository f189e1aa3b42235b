"""The shapes of Heroku's exec manager, as the official CLI reads them; they are in no published schema."""

from deodar.wire.base import Shape


class Reservation(Shape):
    """A dyno that can be entered."""

    dyno_name: str


class KeyUpdate(Shape):
    client_key: str  #: an RSA key that the client made for this one command


class Entrance(Shape):
    """Where to go by SSH, and what to say there. The client knows the port: 80."""

    tunnel_host: str
    client_user: str
    proxy_public_key: str
    dyno_ip: str
