"""Vouchers: images of transfer slips and cheques, kept, given to an application, and found again (gaps.md B-51).

A file is what its first bytes say, and its name must say the same. The same file of the same customer is one file,
however often it is uploaded; it proves one application only.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update

from core.clock import Clock
from core.deposits.applications import Applications
from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Database, Questions, Sharded, Statement, UniqueViolation
from core.storage.primary import applys, voucher

BEGINNINGS: Final[dict[str, bytes]] = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}
"""Kind of a file -> its first bytes."""
NAMES: Final = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".pdf": "pdf"}
STAFF: Final = (Role.FRONTLINE, Role.SUPERVISOR)
FILENAME_MAX: Final = 140
PAGE_MAX: Final = 100


class Voucher(NamedTuple):
    """A file without its contents."""

    file_id: str
    uid: int
    apply_id: int | None
    filename: str
    kind: str
    size: int
    sha256: str
    uploaded_by: str
    created_at: int


_V = voucher.c
_COLUMNS = tuple(_V[name] for name in Voucher._fields)
NEW = Statement(insert(voucher))
BY_ID = Statement(select(*_COLUMNS).where(_V.file_id == bindparam("b_id")))
CONTENTS = Statement(select(_V.contents).where(_V.file_id == bindparam("b_id")))
OF_APPLY = Statement(select(*_COLUMNS).where(_V.apply_id == bindparam("apply")).order_by(_V.created_at, _V.file_id))
GIVE = Statement(update(voucher).where(_V.file_id == bindparam("b_id"), _V.apply_id.is_(None)).values(
    apply_id=bindparam("apply"), updated_at=bindparam("updated_at")))
NAME_AT_APPLY = Sharded(lambda t: update(t).where(t.c.id == bindparam("b_id")).values(
    voucher_file_id=bindparam("file"), updated_at=bindparam("updated_at")), applys)
_WANTED: Final[dict[str, Any]] = {
    "filename": func.lower(_V.filename).like(bindparam("filename"), escape="!"),
    "uid": _V.uid == bindparam("uid"),
    "since": _V.created_at >= bindparam("since"),
    "until": _V.created_at < bindparam("until"),
}


@cache
def _search(*wanted: str) -> Statement:
    return Statement(select(*_COLUMNS).where(*(_WANTED[name] for name in wanted)).order_by(
        _V.created_at.desc(), _V.file_id).limit(bindparam("b_limit")))


class Vouchers:
    """The voucher files of one core, in the primary database."""

    def __init__(self, db: Database, clock: Clock, applications: Applications, settings: Settings) -> None:
        self._db, self._clock, self._applications = db, clock, applications
        self._max_bytes: int = settings["voucher.max_bytes"]

    async def upload(self, uid: int, filename: str, contents: bytes, by: Actor,
                     apply_id: int | None = None) -> Voucher | Refusal:
        """Keep a file of a customer, and give it to an application of his if one is named."""
        name, kind = PurePosixPath(filename.replace("\\", "/")).name, kind_of(contents)
        refusal = _may(uid, by) or self._flaw(name, kind, contents)
        if refusal:
            return refusal
        assert kind is not None
        file = await self._keep(uid, name, kind, contents, by)
        return file if apply_id is None else await self.link(file.file_id, apply_id, by)

    def _flaw(self, name: str, kind: str | None, contents: bytes) -> Refusal | None:
        if len(contents) > self._max_bytes:
            return _bad(f"the file has {len(contents)} bytes, at most {self._max_bytes} are taken")
        if not 0 < len(name) <= FILENAME_MAX:
            return _bad(f"file name: 1 to {FILENAME_MAX} characters")
        if kind is None or NAMES.get(PurePosixPath(name).suffix.lower()) != kind:
            return _bad(f"{name} is no image in jpg, png or pdf" if kind is None else f"{name} is a {kind} by contents")
        return None

    async def _keep(self, uid: int, name: str, kind: str, contents: bytes, by: Actor) -> Voucher:
        digest, now = hashlib.sha256(contents).hexdigest(), self._clock.now_ms()
        file = Voucher(f"{uid}-{digest[:40]}", uid, None, name, kind, len(contents), digest, by.id, now)
        known = await self.find(file.file_id)
        if known is not None:
            return known
        try:
            await self._db.execute(NEW, file._asdict() | {
                "contents": base64.b64encode(contents).decode(), "updated_at": now})
        except UniqueViolation:  # uploaded twice at one moment
            return await self.find(file.file_id) or file
        return file

    async def link(self, file_id: str, apply_id: int, by: Actor) -> Voucher | Refusal:
        """Give a file to an application of its customer."""
        file, apply = await self.find(file_id), await self._applications.find(apply_id)
        if file is None or _may(file.uid, by) is not None:
            return Refusal(Code.NOT_FOUND, f"no file {file_id}")
        if apply is None or apply.uid != file.uid:
            return Refusal(Code.NOT_FOUND, f"customer {file.uid} has no application {apply_id}")
        async with self._db.transaction() as tx:
            if not await self.give(tx, file, apply_id):
                return Refusal(Code.DUPLICATE, f"{file.filename} proves another application already")
        return file._replace(apply_id=apply_id)

    async def give(self, tx: Questions, file: Voucher, apply_id: int) -> bool:
        """As `link`, within the caller's transaction; False if the file proves another application."""
        now = self._clock.now_ms()
        if not await tx.execute(GIVE, {"b_id": file.file_id, "apply": apply_id, "updated_at": now}):
            row = await tx.first(BY_ID, {"b_id": file.file_id})
            if row is None or Voucher(*row).apply_id != apply_id:
                return False
        await tx.execute(NAME_AT_APPLY[f"{apply_id % 100:02d}"], {
            "b_id": apply_id, "file": file.file_id, "updated_at": now})
        return True

    # Reading

    async def find(self, file_id: str) -> Voucher | None:
        """A file without its contents, or None."""
        row = await self._db.first(BY_ID, {"b_id": file_id})
        return Voucher(*row) if row else None

    async def contents(self, file_id: str) -> bytes | None:
        """The file as it was uploaded."""
        row = await self._db.first(CONTENTS, {"b_id": file_id})
        return base64.b64decode(row[0]) if row else None

    async def of_apply(self, apply_id: int) -> list[Voucher]:
        """All files of an application, in the order in which they came."""
        return [Voucher(*row) for row in await self._db.all(OF_APPLY, {"apply": apply_id})]

    async def search(self, *, filename: str = "", uid: int | None = None, since_ms: int | None = None,
                     until_ms: int | None = None, limit: int = PAGE_MAX) -> list[Voucher]:
        """The newest files with this in their name, of this customer, uploaded in ``[since, until)``."""
        given: dict[str, Any] = {"filename": _anywhere(filename) if filename else None, "uid": uid,
                                 "since": since_ms, "until": until_ms}
        asked = {name: value for name, value in given.items() if value is not None}
        return [Voucher(*row) for row in await self._db.all(
            _search(*asked), asked | {"b_limit": max(0, min(limit, PAGE_MAX))})]


def kind_of(contents: bytes) -> str | None:
    """What a file is by its first bytes: jpg, png, pdf, or None."""
    return next((kind for kind, beginning in BEGINNINGS.items() if contents.startswith(beginning)), None)


def _anywhere(text: str) -> str:
    """A LIKE pattern: the text as it is written, anywhere, in capitals or not."""
    return "%" + "".join(f"!{sign}" if sign in "%_!" else sign for sign in text.lower()) + "%"


def _may(uid: int, by: Actor) -> Refusal | None:
    if by.role in STAFF or (by.role is Role.USER and by.id == f"user_{uid}"):
        return None
    return Refusal(Code.FORBIDDEN, f"{by.id} may not handle files of customer {uid}")


def _bad(detail: str) -> Refusal:
    return Refusal(Code.INVALID_PARAM, detail)
