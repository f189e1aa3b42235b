"""A web process of the standard library: says which dyno it is, and of which version."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

VERSION = "one"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/slow":
            time.sleep(float(parse_qs(asked.query)["seconds"][0]))
        if asked.path == "/headers":
            body = str(self.headers)
        elif asked.path == "/where":
            address, port = self.connection.getsockname()
            body = f"{address} {port}"
        else:
            body = f"{VERSION} {os.environ.get('GREETING', 'hello')} {os.environ['DYNO']}\n"
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    print(f"{VERSION} listens", flush=True)
    Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
