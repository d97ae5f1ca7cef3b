"""Direct-debit authorisations (eDDA) at HSBC and Hang Seng: a customer lets us debit his account at some bank
(gaps.md B-25, B-55; tasks-and-monitoring.md §6).

    begun in the App ─> INIT ─> asked for at the bank ─> PENDING ─> ACTIVE | REJECTED
                                                           ACTIVE <─> SUSPENDED ─> CANCELLED (also from ACTIVE)

The bank says what became of an authorisation; we ask: every 5 minutes while it is PENDING, for three business days
(EddaAuthPoll), every morning about all that are not ended (EddaStatusSync; a bank in maintenance when that is over),
and HSBC reports changes in a file (`core.cards.edda_report`). Asked for again under the same reference after silence or
a restart, the bank answers with the same authorisation. ACTIVE is needed for every debit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import raise_alert
from core.banks.edda import Answer, Debtor, EddaGateway, Outcome
from core.calendars import Calendars
from core.clock import Clock, hkt_date, yyyymmdd
from core.domain import EDDA_MOVES, EddaStatus
from core.errors import Code, InvariantBroken, OutcomeUnknown, Refusal
from core.money import MINOR_PER_MAJOR, show
from core.settings import Settings
from core.storage import Database, Statement
from core.storage.account import bank_card_edda as table
from core.trace import Trace

LIVE: Final = (EddaStatus.INIT, EddaStatus.PENDING, EddaStatus.ACTIVE, EddaStatus.SUSPENDED)
"""Not ended."""

NAMES: Final[dict[str, str]] = {"hsbc": "HSBC", "hase": "Hang Seng"}


class Authorisation(NamedTuple):
    """One row of ``bank_card_edda``; ``limit`` in minor units, ``expiry`` as yyyymmdd."""

    id: int
    uid: int
    card_id: int
    bank: str
    mandate_ref: str | None
    status: int
    ccy: str
    limit: int
    expiry: int | None
    debtor_bank: str
    debtor_account: str
    debtor_name: str
    reason: str
    overdue: int
    told_at: int | None
    created_at: int

    @property
    def reference(self) -> str:
        """Our reference of it at the bank, for ever."""
        return f"EDDA{self.bank.upper()}{self.id:09d}"

    @property
    def debtor(self) -> Debtor:
        """The account that is debited."""
        return Debtor(self.debtor_bank, self.debtor_account, self.debtor_name)


_C = table.c
_COLUMNS = tuple(_C[name] for name in Authorisation._fields)
_WRITTEN: Final = ("mandate_ref", "status", "reason", "overdue", "told_at")
BY_ID = Statement(select(*_COLUMNS).where(_C.id == bindparam("b_id")))
BY_REF = Statement(select(*_COLUMNS).where(_C.bank == bindparam("bank"), _C.mandate_ref == bindparam("ref")))
OF_CARD = Statement(select(*_COLUMNS).where(
    _C.bank == bindparam("bank"), _C.card_id == bindparam("card")).order_by(_C.id.desc()).limit(1))
IN_STATUS = Statement(select(*_COLUMNS).where(
    _C.bank == bindparam("bank"), _C.status == bindparam("status")).order_by(_C.id))
NEW = Statement(insert(table).values({name: bindparam(name) for name in (*Authorisation._fields[1:], "updated_at")}))
CHANGE = Statement(update(table).where(_C.id == bindparam("b_id"), _C.status == bindparam("b_status")).values(
    {name: bindparam(name) for name in (*_WRITTEN, "updated_at")}))

Follower = Callable[[Authorisation], Awaitable[None]]
"""Hears of every change of status, after it was written."""


def way(start: EddaStatus, to: EddaStatus) -> Sequence[EddaStatus] | None:
    """The statuses to pass on the shortest way; empty if it is there, None if there is no way."""
    ways: dict[EddaStatus, tuple[EddaStatus, ...]] = {start: ()}
    reached = [start]
    for at in reached:
        for following in sorted(EDDA_MOVES[at] - ways.keys()):
            ways[following] = (*ways[at], following)
            reached.append(following)
    return ways.get(to)


class Authorisations:
    """Authorisations at one of the two banks, in the account database of one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, calendars: Calendars, gateway: EddaGateway, settings: Settings
    ) -> None:
        self.bank = gateway.bank
        self._db, self._clock, self._trace, self._calendars, self._gateway = db, clock, trace, calendars, gateway
        self._debtor_banks: list[str] = settings[f"edda.debtor_banks.{self.bank}"]
        self._limits: dict[str, int] = limits(settings)
        self._poll_days: int = settings["edda.auth_poll.business_days"]
        self.followers: list[Follower] = []
        self._asking = asyncio.Lock()  # one authorisation is not asked for twice at a time

    # What customers do

    async def begin(
        self, uid: int, card_id: int, debtor: Debtor, ccy: str = "HKD", limit: int | None = None,
        expiry: int | None = None,
    ) -> Authorisation | Refusal:
        """The customer authorises us to debit an account; ``limit`` per debit, by default the largest. The bank is
        asked at once; if it does not answer, the poll asks again."""
        if refusal := await self._refused(card_id, debtor, ccy, limit):
            return refusal
        now = self._clock.now_ms()
        number = await self._db.insert(NEW, self._row(
            uid, card_id, debtor, ccy, limit, expiry, status=EddaStatus.INIT, mandate_ref=None, now=now))
        return await self._create(await self.find(number))

    async def _refused(self, card_id: int, debtor: Debtor, ccy: str, limit: int | None) -> Refusal | None:
        if debtor.bank not in self._debtor_banks:
            return Refusal(Code.BLOCKED, f"{NAMES[self.bank]} cannot debit accounts at {debtor.bank}: "
                           f"one of {', '.join(self._debtor_banks)}")
        if ccy not in self._limits:
            return Refusal(Code.INVALID_PARAM, f"ccy {ccy}: direct debits are in {', '.join(self._limits)}")
        if limit is not None and not 0 < limit <= self._limits[ccy]:
            return Refusal(Code.INVALID_PARAM, f"limit {limit}: up to {show(self._limits[ccy], ccy)}")
        known = await self.of_card(card_id)
        if known is not None and known.status in LIVE:
            return Refusal(Code.DUPLICATE, f"the card has an authorisation, {EddaStatus(known.status).name}")
        return None

    def _row(
        self, uid: int, card_id: int, debtor: Debtor, ccy: str, limit: int | None, expiry: int | None, *,
        status: EddaStatus, mandate_ref: str | None, now: int,
    ) -> Mapping[str, Any]:
        return {"uid": uid, "card_id": card_id, "bank": self.bank, "mandate_ref": mandate_ref, "status": int(status),
                "ccy": ccy, "limit": self._limits[ccy] if limit is None else limit, "expiry": expiry,
                "debtor_bank": debtor.bank, "debtor_account": debtor.account, "debtor_name": debtor.name,
                "reason": "", "overdue": 0, "told_at": None, "created_at": now, "updated_at": now}

    async def adopt(
        self, uid: int, card_id: int, debtor: Debtor, mandate_ref: str, status: EddaStatus = EddaStatus.ACTIVE,
        ccy: str = "HKD",
    ) -> None:
        """Record an authorisation that exists at the bank already (taken over from the platform before this one)."""
        await self._db.insert(NEW, self._row(uid, card_id, debtor, ccy, None, None, status=status,
                                             mandate_ref=mandate_ref, now=self._clock.now_ms()))

    async def check(self, card_id: int, ccy: str, amount: int) -> Authorisation | Refusal:
        """The ACTIVE authorisation of a card that bears a debit of ``amount`` minor units, or BLOCKED with what the
        customer should do. The bank is not asked (EDDA-09)."""
        known = await self.of_card(card_id)
        if known is None:
            return Refusal(Code.BLOCKED, "no direct-debit authorisation for this card: please authorise")
        if known.status != EddaStatus.ACTIVE:
            return Refusal(Code.BLOCKED, f"the direct-debit authorisation is {EddaStatus(known.status).name}: "
                           "please authorise anew")
        if known.expiry is not None and yyyymmdd(hkt_date(self._clock.now_ms())) > known.expiry:
            return Refusal(Code.BLOCKED, f"the direct-debit authorisation ended on {known.expiry}: please authorise "
                           "anew")
        if ccy != known.ccy or amount > known.limit:
            return Refusal(Code.BLOCKED, f"{show(amount, ccy)}: the authorisation bears "
                           f"{show(known.limit, known.ccy)}")
        return known

    async def of_card(self, card_id: int) -> Authorisation | None:
        """The latest authorisation of a card at this bank."""
        row = await self._db.first(OF_CARD, {"bank": self.bank, "card": card_id})
        return Authorisation(*row) if row else None

    async def by_ref(self, mandate_ref: str) -> Authorisation | None:
        """The one that the bank calls so."""
        row = await self._db.first(BY_REF, {"bank": self.bank, "ref": mandate_ref})
        return Authorisation(*row) if row else None

    # What jobs do

    async def poll(self) -> int:
        """EddaAuthPoll: ask for those that the bank has not acknowledged, and what became of the PENDING; how many have
        moved."""
        moved = 0
        for one in await self._in_status(EddaStatus.INIT):
            moved += (await self._create(one)).status != one.status
        for one in await self._in_status(EddaStatus.PENDING):
            if not one.overdue and await self._still_polled(one):
                after = await self._ask(one)
                moved += after is not None and after.status != one.status
        return moved

    async def sync(self) -> int:
        """EddaStatusSync: ask about all that the bank has and that are not ended; how many have moved. Raises
        `OutcomeUnknown` if the bank did not answer about some of them: they are asked again."""
        moved, silent = 0, 0
        for status in (EddaStatus.PENDING, EddaStatus.ACTIVE, EddaStatus.SUSPENDED):
            for one in await self._in_status(status):
                after = await self._ask(one)
                silent += after is None
                moved += after is not None and after.status != one.status
        if silent:
            raise OutcomeUnknown(f"{self.bank} did not answer about {silent} authorisations")
        return moved

    async def refresh(self, number: int) -> None:
        """The bank has said something that makes us doubt our picture of this one: ask."""
        await self._ask(await self.find(number))

    async def bank_says(self, mandate_ref: str, status: EddaStatus, reason: str, as_of_ms: int) -> bool:
        """A report's word about an authorisation as of a moment; whether it changed anything. What the bank has told us
        later stands."""
        one = await self.by_ref(mandate_ref)
        if one is None or (one.told_at is not None and one.told_at > as_of_ms):
            return False
        return (await self._follow(one, status, reason, as_of_ms)).status != one.status

    async def _in_status(self, status: EddaStatus) -> list[Authorisation]:
        rows = await self._db.all(IN_STATUS, {"bank": self.bank, "status": int(status)})
        return [Authorisation(*row) for row in rows]

    async def _still_polled(self, one: Authorisation) -> bool:
        """Whether the bank may still be asked every few minutes; if not any more, people are told once."""
        last = self._calendars.next_business_day(hkt_date(one.created_at), self._poll_days)
        if hkt_date(self._clock.now_ms()) <= last:
            return True
        await self._write(one, one._replace(overdue=1))
        raise_alert(self._trace, "EDDA-01", one.reference, f"PENDING for more than {self._poll_days} business days")
        return False

    async def _create(self, one: Authorisation) -> Authorisation:
        async with self._asking:
            one = await self.find(one.id)
            if one.status != EddaStatus.INIT:
                return one
            answer = await self._gateway.authorise(one.reference, one.debtor, one.ccy, one.limit, one.expiry)
            if answer.outcome is Outcome.ACCEPTED:
                return await self._move(one._replace(mandate_ref=answer.ident), (EddaStatus.PENDING,), "", None)
            if answer.outcome is Outcome.REJECTED:
                return await self._move(one, (EddaStatus.PENDING, EddaStatus.REJECTED), answer.code, None)
            return one

    async def _ask(self, one: Authorisation) -> Authorisation | None:
        """What it is after the bank was asked; None if the bank did not say."""
        assert one.mandate_ref is not None, one
        answer: Answer = await self._gateway.query_authorisation(one.mandate_ref)
        if answer.outcome is not Outcome.SUCCESS or answer.status is None:
            return None
        return await self._follow(await self.find(one.id), answer.status, answer.code, self._clock.now_ms())

    async def _follow(self, one: Authorisation, to: EddaStatus, reason: str, as_of_ms: int) -> Authorisation:
        """The bank says what it is now; it may have passed others meanwhile."""
        steps = way(EddaStatus(one.status), to)
        if steps is None:
            raise_alert(self._trace, "EDDA-02", one.reference,
                        f"{EddaStatus(one.status).name} in our books, {to.name} says the bank")
            return one
        if not steps:
            told = one._replace(told_at=as_of_ms)
            return told if await self._write(one, told) else one
        return await self._move(one, steps, reason, as_of_ms)

    async def _move(
        self, one: Authorisation, steps: Sequence[EddaStatus], reason: str, told_at: int | None
    ) -> Authorisation:
        for to in steps:
            before = one
            if to not in EDDA_MOVES[EddaStatus(one.status)]:
                raise InvariantBroken(f"{one.reference}: {EddaStatus(one.status).name} -> {to.name}")
            one = one._replace(status=int(to), reason=reason, told_at=told_at or one.told_at)
            if not await self._write(before, one):
                return await self.find(one.id)  # another worker was quicker
            await self._changed(one, to)
        return one

    async def _write(self, before: Authorisation, after: Authorisation) -> bool:
        written = {name: getattr(after, name) for name in _WRITTEN}
        return await self._db.execute(CHANGE, written | {
            "b_id": before.id, "b_status": before.status, "updated_at": self._clock.now_ms()}) == 1

    async def _changed(self, one: Authorisation, to: EddaStatus) -> None:
        self._trace.emit("edda", one.reference, {
            "id": one.id, "uid": one.uid, "bank": one.bank, "status": to.name, "mandate_ref": one.mandate_ref or "",
            "reason": one.reason})
        if to in (EddaStatus.SUSPENDED, EddaStatus.CANCELLED):
            self._trace.emit("notify", f"U{one.uid}", {
                "uid": one.uid, "event": "REAUTHORIZE", "detail": f"{NAMES[one.bank]} direct debit"})
        for follower in self.followers:
            await follower(one)

    async def find(self, number: int) -> Authorisation:
        """The authorisation of a row."""
        row = await self._db.first(BY_ID, {"b_id": number})
        if row is None:
            raise InvariantBroken(f"authorisation {number} has vanished")
        return Authorisation(*row)


def limits(settings: Settings) -> dict[str, int]:
    """Currencies that may be debited -> the largest debit, minor units."""
    return {ccy: major * MINOR_PER_MAJOR for ccy, major in settings["edda.limit"].items()
            if ccy == "HKD" or settings["edda.cnh"]}
