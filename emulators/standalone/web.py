"""What the control interfaces share: errors as one sentence, and answers remembered by idempotency key."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import Misconfigured
from emulators.standalone.customers import sentence
from emulators.standalone.pace import Wrong
from emulators.standalone.standing import Refused, Unknown
from emulators.standalone.words import UNKNOWN_FIELD

KEY_HEADER: Final = b"idempotency-key"
_STATUS: Final[dict[type[Exception], int]] = {Wrong: 422, Misconfigured: 422, Refused: 409, Unknown: 404}


def control_app(title: str) -> FastAPI:
    """An application whose errors are ``{"error": "field: what is wrong and what to do"}``. Its pages need no Internet,
    so it has none; GET / lists what there is, /openapi.json describes it."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None)

    @app.get("/", include_in_schema=False)
    async def contents() -> PlainTextResponse:
        return PlainTextResponse(_contents(app))

    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _handler(status))
    return app


def _contents(app: FastAPI) -> str:
    """A line for each endpoint, for people."""
    schema = app.openapi()
    rows = [(method.upper(), path, one["description"].partition("\n")[0])
            for path, methods in schema["paths"].items() for method, one in methods.items()]
    width = max(len(path) for _, path, _ in rows)
    lines = (f"{method:6} {path:{width}}  {says}" for method, path, says in rows)
    return "\n".join((schema["info"]["title"], "", *lines, "", "Fields of requests and answers: /openapi.json", ""))


def _handler(status: int) -> Any:
    async def handle(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"error": f"the body is no JSON: {first['ctx']['error']}"}, 422)
    text = sentence(first, skip=1) or "something is wrong"
    if len(first["loc"]) == 1 and first["type"] != UNKNOWN_FIELD:
        text = f"{first['loc'][0]}: {text}; send a JSON object with Content-Type: application/json"
    return JSONResponse({"error": text}, 422)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}: {error.detail}; GET / lists what there is"
    return JSONResponse({"error": what}, error.status_code)


class Remembered:
    """An ASGI application that answers a POST with a known ``Idempotency-Key`` as it did before, without acting again.

    A key belongs to one path and one body: with others it is refused. ``limit`` answers are kept; a body has at
    most ``body_limit`` bytes.
    """

    def __init__(self, app: ASGIApp, limit: int, body_limit: int) -> None:
        self._app = app
        self._limit = limit
        self._body_limit = body_limit
        self._answers: dict[bytes, tuple[bytes, asyncio.Future[list[Message]]]] = {}

    def forget(self) -> None:
        """No key is known any more, except those that are being answered."""
        self._answers = {key: known for key, known in self._answers.items() if not known[1].done()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await self._body(receive)
        if body is None:
            await _say(413, f"the body is longer than {self._body_limit} bytes", scope, receive, send)
            return
        key = dict(scope["headers"]).get(KEY_HEADER)
        if key is None:
            await self._app(scope, _replayed(body, receive), send)
        else:
            await self._once(key, body, scope, receive, send)

    async def _body(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._body_limit:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    async def _once(self, key: bytes, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        asked = hashlib.blake2b(scope["path"].encode() + b"\0" + body).digest()
        known = self._answers.get(key)
        if known is None:
            answer: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
            self._keep(key, asked, answer)
            await self._act(key, answer, scope, _replayed(body, receive))
        elif known[0] != asked:
            await _say(409, "Idempotency-Key: it was used with another request: draw a new one", scope, receive, send)
            return
        else:
            answer = known[1]
        for message in await asyncio.shield(answer):
            await send(message)

    def _keep(self, key: bytes, asked: bytes, answer: asyncio.Future[list[Message]]) -> None:
        while len(self._answers) >= self._limit:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (asked, answer)

    async def _act(
        self, key: bytes, answer: asyncio.Future[list[Message]], scope: Scope, receive: Receive
    ) -> None:
        said: list[Message] = []

        async def note(message: Message) -> None:
            said.append(message)

        try:
            await self._app(scope, receive, note)
        except BaseException:
            self._answers.pop(key, None)
            answer.cancel()
            raise
        answer.set_result(said)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body that has been read, then what comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return parts.pop() if parts else await receive()

    return again


async def _say(status: int, what: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"error": what}, status)(scope, receive, send)
