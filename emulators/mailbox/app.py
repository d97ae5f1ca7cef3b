"""The HTTP face of a mailbox: ``GET /notifications?after=N&limit=M`` gives JSON lines."""

from __future__ import annotations

import asyncio
import hmac

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.clock import US_PER_S
from core.wire.notices import PATH, encode
from core.wire.numbered import MAX_ITEMS, Malformed, Query, checked, number
from emulators.asgi import Silence
from emulators.mailbox.bank import MailboxBank
from emulators.numbered import ERROR, SILENCE, UNAVAILABLE


def mailbox_app(bank: MailboxBank, token: str) -> Starlette:
    """The bank's application, for whoever has the token."""

    async def answer(http: Request) -> Response:
        fate = bank.arrives()
        if fate == SILENCE:
            return Silence()
        if fate == ERROR:
            return Response(b"", UNAVAILABLE)
        given = http.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return PlainTextResponse("TOKEN", 401)
        if fate is not None:
            return PlainTextResponse(fate, 403)
        try:
            query = checked(Query(number(http.query_params.get("after", "")),
                                  number(http.query_params.get("limit", "")), "mailbox"), MAX_ITEMS)
        except Malformed as error:
            return PlainTextResponse(error.code, 400)
        return await _said(bank, query)

    return Starlette(routes=[Route(PATH, answer, methods=["GET"])])


async def _said(bank: MailboxBank, query: Query) -> Response:
    page, delay_us, spoilt = bank.leaves(bank.answer(query), query)
    if delay_us:
        await asyncio.sleep(delay_us / US_PER_S)
    if page.more and page.last <= query.since:  # the fault ``no_end``: the same lines again, as many as were asked for
        page = page._replace(items=(page.items * query.limit)[:query.limit])
    body = b"".join(map(encode, page.items))
    return Response(body[:len(body) // 2] if "garbled" in spoilt else body, 200, media_type="application/x-ndjson")
