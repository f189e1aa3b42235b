"""A page that shows what the platform gave this dyno."""

import os
import socket

from flask import Flask, Response

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    greeting = os.environ.get("GREETING", "Hello from Deodar")
    release = os.environ.get("HEROKU_RELEASE_VERSION", "no release")
    dyno = os.environ.get("DYNO", "no dyno")
    return Response(
        f"{greeting}\n{dyno} ({release}) on {socket.gethostname()}\n", mimetype="text/plain"
    )
