"""The portal of the emulated East West Bank: the files of a day, as somebody downloads them.

    GET /statements                    the days of which there are files
    GET /statements/2026-03-12.csv     the movements of a day
    GET /statements/2026-03-12.bai2    the report of a day, with the originators' names

Everybody who reaches the portal may read: people log in to the bank's with passwords, which is nothing to emulate.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.ewb.bank import BAI2, CSV, EwbBank

PATH: Final = "/statements"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.(csv|bai2)", re.ASCII)
_MEDIA: Final = {CSV: "text/csv; charset=utf-8", BAI2: "text/plain; charset=us-ascii"}
_ENDING: Final = {CSV: "csv", BAI2: "bai"}


def ewb_app(bank: EwbBank) -> Starlette:
    """The application."""
    portal = _Portal(bank)
    return Starlette(routes=[Route(PATH, portal.days, methods=["GET"]),
                             Route(f"{PATH}/{{name}}", portal.file, methods=["GET"])],
                     exception_handlers={404: _nothing, 405: _nothing})


def message_of(method: str, path: str) -> str:
    """What a request asks for: ``days``, ``csv``, ``bai2``, or "" for nothing that is there."""
    if method != "GET":
        return ""
    if path == PATH:
        return "days"
    found = _NAME.fullmatch(path.removeprefix(f"{PATH}/"))
    return found[2] if found is not None else ""


class _Portal:
    """Answers."""

    def __init__(self, bank: EwbBank) -> None:
        self._bank = bank

    async def days(self, request: Request) -> Response:  # noqa: ARG002 - the library's shape
        """The days with movements, and today, oldest first."""
        return JSONResponse({"days": [{"day": f"{day}", CSV: f"{PATH}/{day}.csv", BAI2: f"{PATH}/{day}.bai2"}
                                      for day in self._bank.days()]})

    async def file(self, request: Request) -> Response:
        """One file."""
        name = request.path_params["name"]
        found, today = _NAME.fullmatch(name), self._bank.today()
        day = _day(found[1]) if found is not None else None
        if found is None or day is None:
            return _refused(f"there is no {name[:40]!r}: ask for a day, such as {PATH}/{today}.csv or .bai2")
        if day > today:
            return _refused(f"there is no {day} yet: it is {today} at the bank")
        kind = found[2]
        content = self._bank.csv(day) if kind == CSV else self._bank.bai2(day)
        return Response(content, headers={
            "content-type": _MEDIA[kind],
            "content-disposition": f'attachment; filename="EWB-{day:%Y%m%d}.{_ENDING[kind]}"'})


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _refused(why: str, status: int = 404) -> Response:
    return JSONResponse({"error": why}, status)


def _nothing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _refused(f"{request.method} {request.url.path[:80]}: there is GET {PATH} and what that lists", status)
