"""A chat server on this machine that says what a test tells it to: good answers, and every kind of bad one."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Raw:
    """An HTTP reply as it is; ``stream``: the body again and again, without a length, until ``sent`` bytes are out."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: int = 0


@dataclass(frozen=True)
class Hang:
    """Takes the request, and says nothing; with ``drip`` one byte now and then."""

    drip: bool = False


Step = str | Raw | Hang


class Chat:
    """``with Chat(step, step) as chat``: each request is answered by the next step, or by a function of the prompt.

    ``prompts`` and ``headers`` hold what was asked; a request beyond the last step is answered with 500 and counted too.
    """

    def __init__(self, *steps: Step | Callable[[str], Step]) -> None:
        self.steps, self.prompts, self.headers, self.sent = list(steps), list[str](), list[dict[str, str]](), 0
        self.bodies: list[dict[str, Any]] = []
        self.closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                outer.prompts.append(body["messages"][-1]["content"])
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer._answer(self, outer._step())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __len__(self) -> int:
        """Requests that came."""
        return len(self.prompts)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _step(self) -> Step:
        if len(self.steps) == 1 and callable(self.steps[0]):
            return self.steps[0](self.prompts[-1])
        if len(self.prompts) > len(self.steps):
            return Raw(500)
        step = self.steps[len(self.prompts) - 1]
        return step(self.prompts[-1]) if callable(step) else step

    def _answer(self, to: BaseHTTPRequestHandler, step: Step) -> None:
        if isinstance(step, Hang):
            while step.drip and not self.closed.wait(0.02):
                to.wfile.write(b"H")
                to.wfile.flush()
            self.closed.wait(5)
            return
        raw = step if isinstance(step, Raw) else Raw(body=completion(step))
        to.send_response(raw.status)
        for name, value in raw.headers.items():
            to.send_header(name, value)
        if not raw.stream and "content-length" not in {name.lower() for name in raw.headers}:
            to.send_header("content-length", str(len(raw.body)))
        to.end_headers()
        for _ in range(
            max(1, -(-raw.stream // max(1, len(raw.body))))
        ):  # of this reply: one before may have come through whole
            to.wfile.write(raw.body)
            self.sent += len(raw.body)


def completion(content: str, **more: Any) -> bytes:
    """A chat completion that says ``content``."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    told = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(told | more).encode()


def phrases(*texts: object) -> str:
    """The answer to a question for phrases."""
    return json.dumps({"phrases": texts})
