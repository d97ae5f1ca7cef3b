"""The twelve statement banks on MariaDB: entries taken in over the end of a month, told again, and credited once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from inline_server import Server
from sqlalchemy import func, select

from core.deposits.statements import CREDITED, Flow
from core.domain import ApplyStatus
from core.storage import Statement
from core.storage.primary import MATCHING_BANKS, bank_flows, collect_cursor, flow_claim, icbc_bank_flow, statement_flows
from tests.rig import Rig, play

TIMES = {"bochk": ("2026-03-31 20:00", "2026-04-01 08:30", 26), "ewb": ("2026-03-31 09:00", "2026-04-01 08:30", 26)}
SOON = ("2026-03-31 23:00", "2026-04-01 00:10", 3)
"""A payment before the end of the month, one after it, and hours in which all is told again."""
LATEST_MS = 1_775_534_400_000
"""7 April, 12:00: after Easter, the slowest bank has told of both."""
CCY = {"ewb": "USD"}
AMOUNTS = {"alice": 5_000_00, "bob": 7_000_00}
CURSORS = Statement(select(collect_cursor.c.bank, collect_cursor.c.name))
CLAIMS = Statement(select(flow_claim.c.flow_id, flow_claim.c.apply_id))


class Month:
    """A world with one statement bank whose jobs, and those of matching, are the only ones that run."""

    def __init__(self, rig: Rig, bank: str) -> None:
        self.rig, self.bank, self.ccy = rig, bank, CCY.get(bank, "HKD")
        self.receiver: Any = rig.world.receivers[bank]
        self.applies: dict[str, int] = {}

    def only_its_jobs(self) -> None:
        core = self.rig.core
        wanted = {*core.collectors[self.bank].scheduled, "AutoMatchRound", "OutboxSweep"}
        for job in core.timetable.status():
            if job.name not in wanted:
                core.timetable.pause(job.name)

    async def pays(self, who: str) -> None:
        customer = self.rig.customer(who)
        apply = await self.rig.core.deposits_at[self.bank].submit(
            customer.uid, customer.trade_acc_ids[0], 2 if self.ccy == "USD" else 1,
            self.rig.world.card_id(customer, self.bank), customer.cards[self.bank].number, self.ccy, AMOUNTS[who])
        self.applies[who] = apply.id
        assert self.receiver.pay(customer, self.ccy, AMOUNTS[who]) is not None

    async def credited(self, who: str) -> bool:
        apply = await self.rig.core.applications.find(self.applies[who])
        return apply is not None and apply.status == ApplyStatus.DONE

    async def flows(self, month: int) -> list[Flow]:
        table = statement_flows[f"{self.bank}_{month}"]
        rows = await self.rig.world.databases.primary.all(
            Statement(select(*(table.c[name] for name in Flow._fields)).order_by(table.c.id)), {})
        return [Flow(*row) for row in rows]

    async def raw(self) -> int:
        table = icbc_bank_flow if self.bank == "icbc" else bank_flows[self.bank]
        return int((await self.rig.world.databases.primary.all(Statement(select(func.count(table.c.id))), {}))[0][0])

    async def begins_anew(self, server: Server) -> None:
        """The core dies; the next one knows of no cursor, and asks for everything again."""
        self.rig.world.kill(1_000)
        await asyncio.sleep(0.5)
        server.command("DELETE FROM {primary}.collect_cursor")
        await asyncio.sleep(60)
        self.only_its_jobs()


@pytest.mark.server
@pytest.mark.parametrize("bank", MATCHING_BANKS)
def test_a_banks_entries_are_taken_in_once_and_credited_once_over_the_end_of_a_month(
    bank: str, server: Server
) -> None:
    before_end, after, hours = TIMES.get(bank, SOON)

    async def story(rig: Rig) -> None:
        month = Month(rig, bank)
        month.only_its_jobs()
        if month.ccy == "USD":
            for who in AMOUNTS:
                month.receiver.bank.top_up(rig.customer(who).id, "USD", 10_000_00)
        before = {who: (await rig.money(who, month.ccy)).available for who in AMOUNTS}
        await month.pays("alice")
        await rig.until(after)
        await month.pays("bob")
        while not all([await month.credited(who) for who in AMOUNTS]):
            assert rig.now_ms < LATEST_MS, "not credited by 7 April"
            await asyncio.sleep(600)
        march, april = await month.flows(202603), await month.flows(202604)
        assert [(flow.amount, flow.status, flow.is_used) for flow in (*march, *april)] == [
            (amount, CREDITED, 1) for amount in AMOUNTS.values()]
        raw, cursors = await month.raw(), await rig.world.databases.primary.all(CURSORS, {})
        claims = await rig.world.databases.primary.all(CLAIMS, {})
        assert sorted(claims) == sorted(zip((flow.id for flow in (*march, *april)), month.applies.values(),
                                            strict=True))
        await month.begins_anew(server)
        await asyncio.sleep(hours * 3_600)
        assert await rig.world.databases.primary.all(CURSORS, {}) == cursors, "it has been told again"
        assert (await month.flows(202603), await month.flows(202604)) == (march, april)
        assert await month.raw() == raw and await rig.world.databases.primary.all(CLAIMS, {}) == claims
        for who, amount in AMOUNTS.items():
            assert (await rig.money(who, month.ccy)).available == before[who] + amount

    play(story, start=before_end, cards=("airstar", bank), statements=(bank,), databases=server.open)
