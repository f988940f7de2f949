"""One HTTP request to a language model's server, guarded: time, size of the reply, retries, cost, and where the key goes.

``Guard`` is a transport for the ``httpx2`` client that pydantic-ai's OpenAI models send through.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

from isthmus.concepts.failures import CostCap, LanguageModelError, ReplyError
from isthmus.concepts.safe import shown
from isthmus.errors import OptionError, require

BYTES_A_TOKEN = 3  # of a text whose tokens nobody counted; 4 in English, fewer elsewhere


@dataclass
class Spending:
    """What was spent, and the most that may be: requests sent (each retry is one) and tokens in and out.

    Before a request its tokens are taken as its bytes / 3 and the longest reply; after it, as the server counts them.
    ``cached`` counts the answers that cost nothing.
    """

    most_calls: int
    most_tokens: int
    calls: int = 0
    tokens: int = 0
    cached: int = 0

    def before(self, size: int, longest: int) -> int:
        """Take the tokens of a request of ``size`` bytes; ``CostCap`` where a limit could be passed. Returns them."""
        want = -(-size // BYTES_A_TOKEN) + longest
        so_far = f"{self.calls} calls and {self.tokens} tokens are spent, {self.cached} answers came from the cache"
        if self.calls + 1 > self.most_calls:
            raise CostCap(f"most_calls {self.most_calls}: {so_far}; raise it to go on, what was answered is not asked again")
        if self.tokens + want > self.most_tokens:
            raise CostCap(
                f"most_tokens {self.most_tokens}: the next call may take {want}; {so_far}; raise it to go on, what was "
                "answered is not asked again"
            )
        self.calls += 1
        self.tokens += want
        return want

    def after(self, taken: int, used: int) -> None:
        """Put ``used`` in the place of the tokens that were taken before."""
        self.tokens += used - taken


@dataclass
class Guard:
    """Sends each request up to ``retries`` + 1 times, each at most ``timeout`` seconds, and reads at most ``most_bytes``.

    Tried again are 429, 5xx, a timeout and a broken connection, after the server's Retry-After or 0.5 s doubled each time,
    at most ``longest_wait`` seconds. Redirects and compressed replies are refused: the first could carry the key elsewhere,
    the second could be small on the wire and huge in memory. Only the headers named here are sent.
    """

    spending: Spending
    key: str = ""
    key_name: str = ""
    timeout: float = 60.0
    retries: int = 4
    longest_wait: float = 30.0
    most_bytes: int = 1_000_000
    longest: int = 2048
    pause: Callable[[float], Any] = asyncio.sleep
    _inner: Any = field(default=None, repr=False)

    async def __aenter__(self) -> Guard:
        self._inner = require("httpx2", "llm").AsyncHTTPTransport()
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """The server's reply, whole; ``LanguageModelError``, ``ReplyError`` or ``CostCap`` instead of anything else."""
        httpx2 = require("httpx2", "llm")
        body, where = await request.aread(), f"{request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"
        trouble = ""
        for attempt in range(self.retries + 1):
            taken, wait = self.spending.before(len(body), self.longest), 0.0
            try:
                async with asyncio.timeout(self.timeout):
                    status, headers, content = await self._once(request, body)
            except TimeoutError:
                trouble = f"no answer within {self.timeout:g} s"
            except httpx2.TransportError as error:
                trouble = f"{type(error).__name__}: {shown(error)}"
                self.spending.after(taken, 0)
            else:
                if status != 429 and status < 500:
                    self.spending.after(taken, _tokens(content, len(body)) if status == 200 else 0)
                    self._refused(status, content, where)
                    return httpx2.Response(
                        status, headers={"content-type": "application/json"}, content=content, request=request
                    )
                trouble, wait = f"HTTP {status}", retry_after(headers.get("retry-after", ""))
                self.spending.after(taken, 0)
            if attempt < self.retries:
                wait = wait or 0.5 * 2**attempt * (1 + random.random() / 4)
                await self.pause(min(wait, self.longest_wait))
        times = "once" if self.retries == 0 else f"{self.retries + 1} times"
        raise LanguageModelError(f"{where}: {trouble}, tried {times}; see whether the server runs, or try again later")

    async def _once(self, request: Any, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        httpx2 = require("httpx2", "llm")
        headers = {
            "host": request.headers["host"],
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "user-agent": "isthmus",
        }
        headers |= {"authorization": f"Bearer {self.key}"} if self.key else {}
        patience = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout)
        made = httpx2.Request(request.method, request.url, headers=headers, content=body, extensions={"timeout": patience})
        answer = await self._inner.handle_async_request(made)
        try:
            encoding = answer.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                raise ReplyError(f"the reply is compressed ({shown(encoding, 20)}), which was not asked for; set the server up")
            said = answer.headers.get("content-length", "")
            found = bytearray()
            if not (said.isdecimal() and int(said[:20]) > self.most_bytes):
                async for chunk in answer.stream:
                    found += chunk
                    if len(found) > self.most_bytes:
                        break
                else:
                    return answer.status_code, answer.headers, bytes(found)
            raise ReplyError(f"the reply is longer than {self.most_bytes:,} bytes and was not read to its end; see most_bytes")
        finally:
            await answer.aclose()

    def _refused(self, status: int, content: bytes, where: str) -> None:
        """Raise for every status that is not 200: what it means, and what to do."""
        if status == 200:
            return
        todo = {
            401: f"set the environment variable {self.key_name} to a valid key" if self.key_name else "name the key: key_env",
            403: "the key may not use this model",
            404: "check the server's address (it often ends in /v1) and the model's name",
        }.get(status, "give the server's final address" if 300 <= status < 400 else "check the model's name and the options")
        said = "" if status in (401, 403) else content.decode("utf-8", "replace")
        said = said.replace(self.key, "***") if self.key else said
        quote = f" ({shown(' '.join(said[:400].split()))})" if said.strip() else ""
        raise LanguageModelError(f"{where}: HTTP {status}{quote}; {todo}")


def retry_after(text: str, now: float | None = None) -> float:
    """Seconds to wait by a Retry-After header, in seconds or as a date; 0 for none, or for one that makes no sense."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if 0.0 < seconds < float("inf") else 0.0


def _tokens(content: bytes, asked: int) -> int:
    """Tokens by the reply's own count; by its bytes where there is none that makes sense."""
    try:
        used = json.loads(content)["usage"]["total_tokens"]
    except (ValueError, KeyError, TypeError, RecursionError):
        used = 0
    honest = isinstance(used, int) and not isinstance(used, bool) and 0 < used < 10**9
    return cast(int, used) if honest else -(-(len(content) + asked) // BYTES_A_TOKEN)


def address(url: str) -> str:
    """A server's address, checked: http or https, a host, no user or password in it (those go into logs)."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, fine = urlsplit(""), False
    if not fine or not url.isprintable():
        raise OptionError(f"server {shown(url)!r}: expected an address such as http://localhost:11434/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise OptionError(
            f"server at {parts.hostname!r}: expected an address without user, key or query; name the key: key_env"
        )
    return url.rstrip("/")
