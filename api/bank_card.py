"""HTTP face of `bank-card/`: reads of cards for older clients; writes go to the card room (gaps.md B-40, COMM-02).

    GET  /bank_card/get_list?uid=…[&unbound=1]      {code, message, data: [card, …]}
    POST /bank_card/bind      {uid, bank_code, card_no, holder_name, [card_type], [ccy_list]}
    POST /bank_card/unbind    {uid, card_id}

``code`` is that of `core.errors.Code`; a refusal is an answer, with status 200 as those clients know it. What cannot be
read as a request is INVALID_PARAM with status 400.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from core.cards.bank_cards import BankCards, Card
from core.cards.legacy import get_list, shown
from core.errors import Code, Refusal

BODY_MAX = 10_000
"""Bytes of a request."""


class _Unreadable(ValueError):
    """A request that is none: names the field."""


def bank_card_app(cards: Callable[[], BankCards]) -> Starlette:
    """The application. ``cards``: the card room of the core that lives at the moment."""

    async def listed(request: Request) -> Any:
        uid = _number(dict(request.query_params), "uid")
        return await get_list(cards(), uid, unbound=request.query_params.get("unbound") == "1")

    async def bind(request: Request) -> Any:
        asked = await _body(request)
        return _told(await cards().bind(
            _number(asked, "uid"), _text(asked, "bank_code"), _text(asked, "card_no"), _text(asked, "holder_name"),
            _text(asked, "card_type", ""), _texts(asked, "ccy_list")))

    async def unbind(request: Request) -> Any:
        asked = await _body(request)
        return _told(await cards().unbind(_number(asked, "uid"), _number(asked, "card_id")))

    return Starlette(routes=[
        Route("/bank_card/get_list", _face(listed), methods=["GET"]),
        Route("/bank_card/bind", _face(bind), methods=["POST"]),
        Route("/bank_card/unbind", _face(unbind), methods=["POST"])])


def _face(serve: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def answer(request: Request) -> JSONResponse:
        try:
            found = await serve(request)
        except _Unreadable as flaw:
            return _json(Code.INVALID_PARAM, str(flaw), None, 400)
        if isinstance(found, Refusal):
            return _json(found.code, found.detail, None)
        return _json(Code.OK, "", found)

    return answer


def _json(code: Code, message: str, data: Any, status: int = 200) -> JSONResponse:
    return JSONResponse({"code": int(code), "message": message, "data": data}, status)


def _told(found: Card | Refusal) -> Any:
    return found if isinstance(found, Refusal) else shown(found)


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_MAX:
            raise _Unreadable(f"the request is longer than {BODY_MAX} bytes")
    try:
        asked = json.loads(raw)
    except ValueError:
        raise _Unreadable("the request is no JSON") from None
    if not isinstance(asked, dict):
        raise _Unreadable("the request is no JSON object")
    return asked


def _number(asked: dict[str, Any], name: str) -> int:
    given = asked.get(name)
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 18:
        return int(given)
    if type(given) is int and 0 <= given < 10**18:
        return given
    raise _Unreadable(f"{name}: a whole number")


def _text(asked: dict[str, Any], name: str, default: str | None = None) -> str:
    given = asked.get(name, default)
    if not isinstance(given, str):
        raise _Unreadable(f"{name}: a text")
    return given


def _texts(asked: dict[str, Any], name: str) -> list[str]:
    given = asked.get(name, [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise _Unreadable(f"{name}: a list of texts")
    return given
