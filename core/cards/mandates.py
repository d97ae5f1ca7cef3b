"""Airstar mandates: one authorization binds HK, US and HKCC (AIR-01); six states (AIR-02); OPEN is needed for every
deposit and withdrawal (AIR-03).

The bank says what became of a mandate; we ask: every 5 s for a minute, then every 30 s until the alert threshold,
then every 10 minutes for a day, then FAIL (gaps.md B-06).
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import raise_alert
from core.banks.airstar import AirstarGateway, Outcome
from core.cards.opened import Opened, nothing_follows
from core.clock import Clock
from core.domain import MANDATE_MOVES, MandateStatus, Market
from core.errors import Code, InvariantBroken, Refusal
from core.settings import Settings
from core.storage import Database, Statement
from core.storage.account import bank_card_asb_bst as mandate_table
from core.trace import Trace

ALL_MARKETS = sum(int(market) for market in Market)


class Mandate(NamedTuple):
    """One row of ``bank_card_asb_bst``."""

    id: int
    uid: int
    card_id: int
    mandate_id: str
    status: int
    market_mask: int
    request_id: str
    opened_at: int | None
    closed_at: int | None
    fail_code: str
    created_at: int

    def covers(self, market: int) -> bool:
        """Whether this authorization holds for the market now."""
        return self.status == MandateStatus.OPEN and bool(self.market_mask & market)


class Wait(NamedTuple):
    """When to ask the bank again, and whether the authorization has been reported as overdue."""

    seconds: int
    alerted: bool


_C = mandate_table.c
_COLUMNS = tuple(_C[name] for name in Mandate._fields)
BY_ID = Statement(select(*_COLUMNS).where(_C.id == bindparam("b_id")))
BY_MANDATE = Statement(select(*_COLUMNS).where(_C.mandate_id == bindparam("mandate")))
BY_CARD = Statement(
    select(*_COLUMNS).where(_C.card_id == bindparam("card")).order_by(_C.id.desc()).limit(1))
NEW = Statement(insert(mandate_table).values({name: bindparam(name) for name in (
    *Mandate._fields[1:], "updated_at")}))
CHANGE = Statement(
    update(mandate_table).where(_C.id == bindparam("b_id"), _C.status == bindparam("b_status")).values(
        {name: bindparam(name) for name in (
            "status", "mandate_id", "market_mask", "opened_at", "closed_at", "fail_code", "updated_at")}))


class Mandates:
    """Authorizations of one core, in the account database."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, gateway: AirstarGateway, settings: Settings
    ) -> None:
        self._db, self._clock, self._trace, self._gateway = db, clock, trace, gateway
        self.on_open: Opened = nothing_follows
        self._fast_s: int = settings["airstar.mandate.poll.fast_s"]
        self._fast_for_s: int = settings["airstar.mandate.poll.fast_for_s"]
        self._slow_s: int = settings["airstar.mandate.poll.slow_s"]
        self._alert_after_s: int = settings["airstar.mandate.poll.alert_after_s"]
        self._rare_s: int = settings["airstar.mandate.poll.rare_s"]
        self._give_up_s: int = settings["airstar.mandate.poll.give_up_s"]

    async def adopt(
        self, uid: int, card_id: int, mandate_id: str, status: MandateStatus = MandateStatus.OPEN
    ) -> int:
        """Record a mandate that exists at the bank already (taken over from the platform before this one)."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            return await tx.insert(NEW, {
                "uid": uid, "card_id": card_id, "mandate_id": mandate_id, "status": int(status),
                "market_mask": ALL_MARKETS, "request_id": f"adopted-{mandate_id}", "opened_at": now,
                "closed_at": None, "fail_code": "", "created_at": now, "updated_at": now})

    async def begin(self, uid: int, card_id: int) -> Mandate:
        """A new authorization in INIT: `advance` asks the bank for it. It stays without effect if nobody does."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            row_id = await tx.insert(NEW, {
                "uid": uid, "card_id": card_id, "mandate_id": f"local-{card_id}-{now}",
                "status": int(MandateStatus.INIT), "market_mask": 0, "request_id": f"M{uid}-{card_id}-{now}",
                "opened_at": None, "closed_at": None, "fail_code": "", "created_at": now, "updated_at": now})
        return await self._load(row_id)

    async def of_card(self, card_id: int) -> Mandate | None:
        """The latest mandate of a card."""
        row = await self._db.first(BY_CARD, {"card": card_id})
        return Mandate(*row) if row else None

    async def by_mandate_id(self, mandate_id: str) -> Mandate | None:
        """The mandate the bank calls so."""
        row = await self._db.first(BY_MANDATE, {"mandate": mandate_id})
        return Mandate(*row) if row else None

    async def check(self, card_id: int, market: int, card_no: str = "") -> Mandate | Refusal:  # noqa: ARG002 - the shape
        """The open mandate of a card for a market, or BLOCKED with what the user should do."""
        mandate = await self.of_card(card_id)
        if mandate is None:
            return Refusal(Code.BLOCKED, "no Airstar authorization for this card: please authorize")
        if not mandate.covers(market):
            state = MandateStatus(mandate.status).name
            return Refusal(Code.BLOCKED, f"Airstar authorization is {state} for this market: please re-authorize")
        return mandate

    def next_poll_s(self, age_s: float) -> int | None:
        """Seconds until the next poll of a mandate of this age; None: give up."""
        if age_s < self._fast_for_s:
            return self._fast_s
        if age_s < self._alert_after_s:
            return self._slow_s
        return self._rare_s if age_s < self._give_up_s else None

    async def advance(
        self, mandate_id: int, card_no: str, name: str, id_no_hash: str, *, alerted: bool
    ) -> Wait | None:
        """Ask the bank once: for the authorization over all three markets (AIR-01), or what became of it. When to ask
        again, or None when there is nothing more to ask."""
        mandate = await self._load(mandate_id)
        if mandate.status == MandateStatus.INIT:
            mandate = await self._create(mandate, card_no, name, id_no_hash)
        elif mandate.status == MandateStatus.PROCESSING:
            mandate = await self._poll(mandate)
        if mandate.status not in (MandateStatus.INIT, MandateStatus.PROCESSING):
            return None
        return await self._again(mandate, alerted)

    async def _create(self, mandate: Mandate, card_no: str, name: str, id_no_hash: str) -> Mandate:
        """Asked again under the same reference after silence or a restart, the bank answers with the same mandate."""
        answer = await self._gateway.create_mandate(mandate.request_id, card_no, name, id_no_hash)
        if answer.outcome is Outcome.ACCEPTED:
            return await self._change(mandate, MandateStatus.PROCESSING, mandate_id=answer.request_id)
        if answer.outcome in (Outcome.REJECTED, Outcome.NOT_FOUND):
            return await self._fail(mandate, str(answer.code))
        return mandate

    async def _poll(self, mandate: Mandate) -> Mandate:
        answer = await self._gateway.query_mandate(mandate.mandate_id)
        if answer.outcome is Outcome.FAILED:
            return await self._fail(mandate, str(answer.code))
        if answer.outcome is Outcome.SUCCESS:
            return await self._change(mandate, MandateStatus.OPEN)
        if answer.outcome is Outcome.REJECTED:  # opened, and suspended or closed before we looked
            opened = await self._change(mandate, MandateStatus.OPEN)
            return await self._change(opened, MandateStatus(answer.data["status"]))
        return mandate

    async def _fail(self, mandate: Mandate, code: str) -> Mandate:
        if mandate.status == MandateStatus.INIT:
            mandate = await self._change(mandate, MandateStatus.PROCESSING)
        return await self._change(mandate, MandateStatus.FAIL, fail_code=code)

    async def _again(self, mandate: Mandate, alerted: bool) -> Wait | None:
        age_s = (self._clock.now_ms() - mandate.created_at) / 1000
        seconds = self.next_poll_s(age_s)
        if seconds is None:
            await self._fail(mandate, "timeout")
            return None
        if age_s >= self._alert_after_s and not alerted:
            raise_alert(self._trace, "AIRSTAR-01", mandate.mandate_id,
                        f"{MandateStatus(mandate.status).name} for {age_s:.0f} s")
        return Wait(seconds, alerted or age_s >= self._alert_after_s)

    async def bank_says(self, mandate_id: str, status: MandateStatus) -> Mandate:
        """The bank suspended, re-opened or closed a mandate."""
        mandate = await self.by_mandate_id(mandate_id)
        if mandate is None:
            raise InvariantBroken(f"no mandate {mandate_id}")
        return await self._change(mandate, status)

    async def close(self, card_id: int) -> Mandate | Refusal:
        """The user closes his authorization, at the bank first."""
        mandate = await self.of_card(card_id)
        if mandate is None or mandate.status not in (MandateStatus.OPEN, MandateStatus.SUSPENDED):
            return Refusal(Code.ILLEGAL_STATE, "there is no open authorization to close")
        answer = await self._gateway.close_mandate(mandate.mandate_id)
        if answer.outcome is not Outcome.ACCEPTED:
            return Refusal(Code.DEPENDENCY_TIMEOUT, f"the bank did not confirm: {answer.message}")
        return await self._change(mandate, MandateStatus.CLOSED)

    async def _change(self, mandate: Mandate, to: MandateStatus, *, mandate_id: str = "",
                      fail_code: str = "") -> Mandate:
        if to not in MANDATE_MOVES[MandateStatus(mandate.status)]:
            raise InvariantBroken(f"mandate {mandate.mandate_id}: {MandateStatus(mandate.status).name} -> {to.name}")
        now = self._clock.now_ms()
        changed = mandate._replace(
            status=int(to), mandate_id=mandate_id or mandate.mandate_id, fail_code=fail_code or mandate.fail_code,
            market_mask=ALL_MARKETS if to is MandateStatus.OPEN else 0,
            opened_at=now if to is MandateStatus.OPEN else mandate.opened_at,
            closed_at=now if to is MandateStatus.CLOSED else mandate.closed_at)
        async with self._db.transaction() as tx:
            await tx.execute(CHANGE, {
                "b_id": mandate.id, "b_status": mandate.status, "status": changed.status,
                "mandate_id": changed.mandate_id, "market_mask": changed.market_mask, "opened_at": changed.opened_at,
                "closed_at": changed.closed_at, "fail_code": changed.fail_code, "updated_at": now})
            if to is MandateStatus.OPEN:
                await self.on_open(tx, mandate.card_id)
        return changed

    async def _load(self, row_id: int) -> Mandate:
        row = await self._db.first(BY_ID, {"b_id": row_id})
        if row is None:
            raise InvariantBroken(f"mandate row {row_id} has vanished")
        return Mandate(*row)
