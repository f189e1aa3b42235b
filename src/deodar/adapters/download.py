"""Fetches one file over HTTP, within bounds; what is in it is not looked at."""

import asyncio
import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from deodar.model import errors

LIMIT = 1024 * 1024 * 1024  #: bytes, as of an upload
TIMEOUT = 10 * 60.0  #: seconds for the whole of it
SILENCE = 30.0  #: seconds in which nothing comes
REDIRECTS = 5


async def fetch(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT,
) -> None:
    """The file at `url`, whole under the name `target` or not at all; `checksum` is `SHA256:<hex>`.

    Raises BuildFailed where the server does not give it: it is the user's URL. No query and no password
    of the URL comes back in the message.
    """
    if not is_address(url):
        raise errors.BuildFailed("The source's URL must begin with http:// or https://.")
    half = target.with_name(f"{target.name}.part")
    try:
        async with asyncio.timeout(timeout):
            actual = await _receive(url, half, limit)
        if checksum is not None and actual.lower() != checksum.lower():
            raise errors.BuildFailed(f"The source's checksum is {actual}, not {checksum}.")
        half.rename(target)
    except TimeoutError as error:
        raise errors.BuildFailed(
            f"The source {bare(url)} did not come within {timeout:g} seconds."
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise errors.BuildFailed(
            f"The source {bare(url)} cannot be fetched: {type(error).__name__}."
        ) from error
    finally:
        half.unlink(missing_ok=True)


async def _receive(url: str, target: Path, limit: int) -> str:
    """Answers the checksum of what came."""
    async with (
        httpx.AsyncClient(
            follow_redirects=True, max_redirects=REDIRECTS, timeout=SILENCE
        ) as client,
        # Else some servers would pack what is packed already.
        client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        if not answer.is_success:
            raise errors.BuildFailed(f"The source {bare(url)} answered {answer.status_code}.")
        size, digest = 0, hashlib.sha256()
        with target.open("wb") as file:
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > limit:
                    raise errors.BuildFailed(f"The source {bare(url)} is over {limit} bytes.")
                digest.update(chunk)
                file.write(chunk)
    return f"SHA256:{digest.hexdigest()}"


def is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        return False


def bare(url: str) -> str:
    """The URL without what may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
