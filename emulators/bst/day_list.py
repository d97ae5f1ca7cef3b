"""The HTTP face of the day list: signed requests in, one signed fragment out (gaps.md B-43; PROTOCOL.md).

An ASGI application: called directly through a simulated link, or served on a port by uvicorn.
"""

from __future__ import annotations

from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.clock import epoch_ms
from core.wire.socket import BadSignature, ProtocolError
from core.wire.socket.day_list import ListQuery, encode_list, read_query
from emulators.asgi import Silence
from emulators.bst.bank import SocketBank
from emulators.bst.server import Keys

PATH = "/day-list"


def day_list_app(bank: SocketBank, keys: Keys) -> Starlette:
    """The application of a bank; ``keys`` are those of its exit servers."""
    return Starlette(routes=[Route(PATH, _Face(bank, keys).answer, methods=["GET"])])


class _Face:
    """Lets in what a known broker has signed, in time."""

    def __init__(self, bank: SocketBank, keys: Keys) -> None:
        self._bank = bank
        self._keys = keys

    async def answer(self, http: Request) -> Response:
        outage = self._bank.desk.list_outage()
        if outage:
            return Silence() if outage == "silence" else _refuse(503, "out of service")
        flavour = self._bank.desk.flavour
        try:
            signature = http.headers.get("x-signature", "")
            query = read_query(flavour, _target(http), signature, self._keys.identity.broker_public, self._keys.sm2)
            if not self._is_timely(query):
                return _refuse(403, "the time is off")
            fragment = self._bank.desk.list_fragment(query.since_seq, query.business_date, query.broker)
        except BadSignature as error:
            return _refuse(403, str(error))
        except (ProtocolError, ValueError) as error:
            return _refuse(400, str(error))
        keys = self._keys
        content = encode_list(flavour, fragment, keys.identity.private, keys.sm2, keys.entropy)
        return Response(content, media_type="application/octet-stream")

    def _is_timely(self, query: ListQuery) -> bool:
        """Whether the request is from about now; one that names a business date instead carries no time."""
        if not query.at:
            return True
        off_ms = self._bank.desk.now_us() // 1_000 - epoch_ms(datetime.strptime(query.at, "%Y%m%d%H%M%S"))
        return abs(off_ms) <= self._bank.values.max_skew_ms


def _target(http: Request) -> str:
    """The request target as it was sent."""
    scope = http.scope
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(why, status)
