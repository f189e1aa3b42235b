"""A web process that takes as much memory as it is asked to: itself, or by a child; and writes."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MB = 1024 * 1024
eaten: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        count = int(parse_qs(asked.query).get("mb", ["0"])[0])
        match asked.path:
            case "/eat":
                eaten.append(b"x" * (count * MB))
            case "/child" if os.fork() == 0:
                eaten.append(b"x" * (count * MB))
                time.sleep(3600)
            case "/write":
                with open("/app/large", "wb") as file:
                    for _ in range(count):
                        file.write(b"x" * MB)
        body = f"{os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
