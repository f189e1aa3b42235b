"""Serves a static site on $PORT: types, caching, ranges of none, and what static.json asks for.

Of static.json (Heroku's buildpack of that name) it knows `root`, `clean_urls`, `https_only`,
`error_page`, `routes`, `redirects` and `headers`. Files compressed at build time are sent as they are.
"""

import email.utils
import fnmatch
import json
import mimetypes
import os
import posixpath
import shutil
import signal
import sys
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: a file whose name carries a hash of its content never changes
HASHED = ("*[-.][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*.*",)

mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("application/wasm", ".wasm")
mimetypes.add_type("image/webp", ".webp")
mimetypes.add_type("font/woff2", ".woff2")


class Site:
    """What is where: paths of requests to files."""

    def __init__(self, root: Path, asked: dict[str, Any]) -> None:
        self.root = root.resolve()
        self.clean_urls = bool(asked.get("clean_urls"))
        self.https_only = bool(asked.get("https_only"))
        self.error_page = asked.get("error_page")
        self.routes = asked.get("routes") or {}
        self.redirects = asked.get("redirects") or {}
        self.headers = asked.get("headers") or {}

    def find(self, path: str) -> Path | None:
        """The file for a request's path, by name first, then by the routes."""
        found = self._file(path)
        if found is None and self.clean_urls and not path.endswith("/"):
            found = self._file(path + ".html")
        if found is None:
            for pattern, target in self.routes.items():
                if matches(path, pattern):
                    return self._file("/" + target.lstrip("/"))
        return found

    def failure(self) -> Path | None:
        return self._file("/" + self.error_page.lstrip("/")) if self.error_page else None

    def _file(self, path: str) -> Path | None:
        inner = posixpath.normpath("/" + urllib.parse.unquote(path)).lstrip("/")
        if "\0" in inner or any(
            part.startswith(".") and part != ".well-known" for part in inner.split("/")
        ):
            return None
        file = self.root / inner
        if file.is_dir():
            file = file / "index.html"
        if file.is_file() and file.resolve().is_relative_to(self.root):
            return file
        return None


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern of static.json covers a path: `/**` is everything below, `/*` one part."""
    if pattern.endswith("/**"):
        return path.startswith(pattern[:-2]) or path == pattern[:-3]
    return fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Deodar-Static"
    site: Site

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if self.site.https_only and self.headers.get("X-Forwarded-Proto") == "http":
            self._redirect(
                f"https://{self.headers.get('Host', '')}{self.path}", HTTPStatus.MOVED_PERMANENTLY
            )
        elif (redirect := self.site.redirects.get(path)) is not None:
            self._redirect(redirect["url"], HTTPStatus(redirect.get("status", 302)))
        elif (file := self.site.find(path)) is not None:
            # Without its slash, a folder's page would look for its parts one level too high.
            if file.name == "index.html" and self._is_folder_without_slash(path):
                self._redirect(path + "/", HTTPStatus.MOVED_PERMANENTLY)
            else:
                self._send(file, path, HTTPStatus.OK)
        elif (page := self.site.failure()) is not None:
            self._send(page, path, HTTPStatus.NOT_FOUND)
        else:
            self._say("404 Not Found\n", HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _is_folder_without_slash(self, path: str) -> bool:
        return (
            not path.endswith("/")
            and (self.site.root / urllib.parse.unquote(path).lstrip("/")).is_dir()
        )

    def _send(self, file: Path, path: str, status: HTTPStatus) -> None:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        packed = file.with_name(file.name + ".gz")
        has_packed = packed.is_file()
        sent = packed if has_packed and "gzip" in self.headers.get("Accept-Encoding", "") else file
        facts = sent.stat()
        tag = f'"{int(facts.st_mtime):x}-{facts.st_size:x}"'
        headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Cache-Control": "public, max-age=31536000, immutable"
            if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in HASHED)
            else "public, max-age=0, must-revalidate",
            "ETag": tag,
            "Last-Modified": email.utils.formatdate(facts.st_mtime, usegmt=True),
        }
        if has_packed:
            headers["Vary"] = "Accept-Encoding"
        if sent is packed:
            headers["Content-Encoding"] = "gzip"
        for pattern, extra in self.site.headers.items():
            if matches(path, pattern):
                headers |= extra
        if status is HTTPStatus.OK and tag in self.headers.get("If-None-Match", ""):
            self._begin(HTTPStatus.NOT_MODIFIED, headers)
            return
        self._begin(status, headers | {"Content-Length": str(facts.st_size)})
        if self.command == "GET":
            with sent.open("rb") as content:
                shutil.copyfileobj(content, self.wfile, 1 << 16)

    def _redirect(self, url: str, status: HTTPStatus) -> None:
        self._begin(status, {"Location": url, "Content-Length": "0"})

    def _say(self, text: str, status: HTTPStatus) -> None:
        body = text.encode()
        self._begin(
            status, {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
        )
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The router logs requests."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    app = HERE.parent.parent
    file = app / "static.json"
    asked = json.loads(file.read_text()) if file.exists() else {}
    Handler.site = Site(app / (HERE / "root").read_text().strip(), asked)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("0.0.0.0", int(os.environ["PORT"])), Handler) as server:
        print(f"Serving {Handler.site.root} on port {os.environ['PORT']}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
