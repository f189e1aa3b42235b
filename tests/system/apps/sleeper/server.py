"""A web process that knows which life it is in, gives back what it is sent, and echoes a WebSocket."""

import base64
import hashlib
import os
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIFE = uuid.uuid4().hex
GOODBYE = 8  #: the opcode
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.echo_frames()
        else:
            self.answer(LIFE.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(hashlib.sha256(body).hexdigest().encode())

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def echo_frames(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + MAGIC
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            data = bytes(
                byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(head[1] & 127))
            )
            self.wfile.write(bytes([head[0], len(data)]) + data)
            if head[0] & 15 == GOODBYE:
                break
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024

    def handle_error(self, request: object, client_address: object) -> None:
        """The router resets connections that it kept and needs no more."""


if __name__ == "__main__":
    if time.time() > float(os.environ.get("FAILS_AFTER", "inf")):
        sys.exit("this boot fails")
    Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
