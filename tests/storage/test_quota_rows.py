"""The rows of ``auto_settings`` on every driver: several at the same moment, and a model of the arithmetic."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from core.clock import from_yyyymmdd, hkt_midnight_ms
from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Databases, Statement, StorageConfig, open_databases
from core.storage.primary import auto_settings
from core.trace import Event, Trace
from core.withdrawals.auto_settings import AutoSettings, Quota

SUPERVISOR = Actor("staff_3001", Role.SUPERVISOR)
CLEAR = Statement(delete(auto_settings))
START = hkt_midnight_ms(from_yyyymmdd(20260312)) + 9 * 3_600_000
HOUR, DAY = 3_600_000, 86_400_000
# Major units: 1,000.00 of which the last 300.00 alarm and the last 100.00 stop; 8 withdrawals alarm, 10 stop.
SMALL: dict[str, Any] = {
    "auto_settings.row.airstar.HKD.balance": 1_000, "auto_settings.row.airstar.HKD.alarm_amount": 300,
    "auto_settings.row.airstar.HKD.stop_amount": 100, "auto_settings.alarm_count": 8, "auto_settings.stop_count": 10}
FULL, ALARM, STOP, MANY, TOO_MANY = 100_000, 30_000, 10_000, 8, 10


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = START

    def now_ms(self) -> int:
        return self.ms

    def now_us(self) -> int:
        return self.ms * 1000


class Room:
    """Quotas on a database, and what was told of them."""

    def __init__(self, databases: Databases, **overlay: Any) -> None:
        self.clock = SetClock()
        self.events: list[Event] = []
        self.databases = databases
        self.settings = Settings({**SMALL, **overlay})
        self.trace = Trace(self.clock, self.events.append)
        self.quotas = AutoSettings(databases.primary, self.clock, self.trace, self.settings)

    async def out(self, amount: int, bank: str = "airstar", ccy: str = "HKD") -> str:
        async with self.databases.primary.transaction() as tx:
            return await self.quotas.auto_out(tx, bank, ccy, amount, "T1")

    async def row(self, bank: str = "airstar", ccy: str = "HKD") -> Quota:
        found = await self.quotas.find(bank, ccy)
        assert found is not None
        return found

    def alerts(self, phase: str = "raised") -> list[str]:
        return [event[3] for event in self.events if event[2] == "alert" and event[4]["phase"] == phase]


@pytest.mark.req("DB-06")
async def test_each_bank_and_currency_that_the_settings_name_gets_one_row_once(databases: Databases) -> None:
    room = Room(databases)
    await room.quotas.begin()
    assert [(row.bank, row.ccy) for row in await room.quotas.rows()] == [
        ("airstar", "CNH"), ("airstar", "HKD"), ("airstar", "USD"), ("cmb", "CNH"), ("cmb", "HKD"), ("cmb", "USD"),
        ("cmbc", "HKD"), ("cmbc", "USD")]
    await room.out(20_000)
    await AutoSettings(databases.primary, room.clock, room.trace, Settings()).begin()  # other settings, later
    assert (await room.row()).balance == 80_000
    assert len(await room.quotas.rows()) == 8


async def test_the_seed_rows_are_those_of_the_document(databases: Databases) -> None:
    """Written out here from gaps.md B-14, not taken from the program."""
    quotas = AutoSettings(databases.primary, SetClock(), Trace(SetClock()), Settings())
    await quotas.begin()
    assert {(row.bank, row.ccy): (row.balance, row.alarm_amount, row.stop_amount) for row in await quotas.rows()} == {
        (bank, ccy): (balance * 100, alarm * 100, stop * 100) for bank, ccy, balance, alarm, stop in (
            ("cmb", "HKD", 60_000_000, 12_000_000, 3_000_000), ("cmb", "USD", 6_000_000, 1_200_000, 300_000),
            ("cmb", "CNH", 30_000_000, 6_000_000, 1_500_000), ("cmbc", "HKD", 40_000_000, 8_000_000, 2_000_000),
            ("cmbc", "USD", 4_000_000, 800_000, 200_000), ("airstar", "HKD", 50_000_000, 10_000_000, 2_500_000),
            ("airstar", "USD", 5_000_000, 1_000_000, 250_000), ("airstar", "CNH", 20_000_000, 4_000_000, 1_000_000))}
    assert {(row.alarm_count, row.stop_count, row.alarm_staff_name, row.enabled, row.day_count)
            for row in await quotas.rows()} == {(1600, 2000, "ops_bst", 1, 0)}


@pytest.mark.req("CH-BST-02")
async def test_of_many_at_the_same_moment_no_more_is_taken_than_there_is(databases: Databases) -> None:
    room = Room(databases, **{"auto_settings.row.airstar.HKD.stop_amount": 1, "auto_settings.stop_count": 1_000})
    await room.quotas.begin()
    answers = await asyncio.gather(*(room.out(15_000) for _ in range(12)))
    assert answers.count("") == 6
    assert (await room.row()).balance == FULL - 6 * 15_000
    assert (await room.row()).day_count == 6


@pytest.mark.req("CH-BST-04")
async def test_of_many_at_the_same_moment_one_crosses_and_the_rest_go_to_people(databases: Databases) -> None:
    room = Room(databases)
    await room.quotas.begin()
    answers = await asyncio.gather(*(room.out(19_000) for _ in range(8)))
    assert answers.count("") == 5  # 100,000 - 5 × 19,000 = 5,000 is below the stop amount
    assert (await room.row()).enabled == 0
    assert room.alerts().count("AIRSTAR-09") == 1
    assert room.alerts().count("AIRSTAR-10") == 1


async def test_what_is_rolled_back_was_not_taken_and_nobody_was_told(databases: Databases) -> None:
    room = Room(databases)
    await room.quotas.begin()
    with pytest.raises(ZeroDivisionError):
        async with databases.primary.transaction() as tx:
            assert await room.quotas.auto_out(tx, "airstar", "HKD", 95_000, "T1") == ""
            raise ZeroDivisionError
    assert await room.row() == (await room.row())._replace(balance=FULL, day_count=0, enabled=1, last_alarm_at=None)
    assert not room.alerts()


async def test_two_cores_that_begin_together_make_the_rows_once(databases: Databases) -> None:
    room = Room(databases)
    await asyncio.gather(*(AutoSettings(databases.primary, room.clock, room.trace, room.settings).begin()
                           for _ in range(3)))
    assert len(await room.quotas.rows()) == 8


async def test_a_restore_that_meets_a_withdrawal_gives_nothing_back_twice(databases: Databases) -> None:
    """Restores and withdrawals at once: every cent is accounted for, and who saw an old balance is told so."""
    room = Room(databases, **{"auto_settings.row.airstar.HKD.stop_amount": 1, "auto_settings.stop_count": 1_000})
    await room.quotas.begin()
    await room.out(60_000)
    made = await asyncio.gather(*(work for _ in range(6) for work in (
        room.quotas.restore("airstar", "HKD", SUPERVISOR, 5_000), room.out(1_000))))
    restored = sum(isinstance(one, Quota) for one in made)
    assert {one.code for one in made if isinstance(one, Refusal)} <= {Code.VERSION_CONFLICT}
    assert (await room.row()).balance == 40_000 + restored * 5_000 - made.count("") * 1_000


@pytest.mark.parametrize(("start", "then", "expected"), [
    ("09:00", "next 05:59", 60_000), ("09:00", "next 06:00", FULL), ("09:00", "next 12:00", FULL),
    ("05:00", "same 05:59", 60_000), ("05:00", "same 06:00", FULL)])
async def test_the_reset_runs_once_after_each_six_o_clock_also_when_a_core_was_away_then(
    databases: Databases, start: str, then: str, expected: int
) -> None:
    room = Room(databases)
    midnight = START - 9 * HOUR
    room.clock.ms = midnight + _of_day(start)
    await room.quotas.begin()
    await room.out(40_000)
    day, time = then.split()
    room.clock.ms = midnight + (DAY if day == "next" else 0) + _of_day(time)
    await room.quotas.begin()  # a core starts
    assert (await room.row()).balance == expected
    await room.out(10_000)
    await room.quotas.reset()  # and the job runs once more: nothing is given back a second time
    assert (await room.row()).balance == expected - 10_000


def _of_day(time: str) -> int:
    hours, minutes = time.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000


@dataclass
class Model:
    """The row as the documents tell it, in plain arithmetic."""

    balance: int = FULL
    count: int = 0
    open: bool = True
    alarmed_at: int | None = None
    told: list[str] = field(default_factory=list)

    def out(self, amount: int, now: int) -> bool:
        if not self.open:
            return False
        if amount > self.balance:
            self.alarm(now)
            return False
        self.balance -= amount
        self.count += 1
        if self.balance < ALARM or self.count >= MANY:
            self.alarm(now)
        if self.balance < STOP or self.count >= TOO_MANY:
            self.open = False
            self.told.append("AIRSTAR-09")
        return True

    def alarm(self, now: int) -> None:
        if self.alarmed_at is None or now - self.alarmed_at >= HOUR:
            self.alarmed_at = now
            self.told.append("AIRSTAR-10")

    def restore(self, amount: int | None) -> None:
        if amount is None:
            self.balance, self.count, self.open = FULL, 0, True
        elif self.balance + amount <= FULL and self.balance + amount >= STOP and self.count < TOO_MANY:
            self.balance, self.open = self.balance + amount, True


ACTS = st.one_of(
    st.tuples(st.just("out"), st.integers(1, FULL // 3)), st.tuples(st.just("out"), st.integers(1, FULL // 3)),
    st.tuples(st.just("out"), st.integers(1, 2 * FULL)),
    st.tuples(st.just("restore"), st.one_of(st.none(), st.integers(1, FULL))),
    st.tuples(st.just("pass"), st.sampled_from([1, HOUR - 1, HOUR, 7 * HOUR])))


async def _live(acts: list[tuple[str, Any]]) -> None:
    databases = await open_databases(StorageConfig())
    room, model = Room(databases), Model()
    await room.quotas.begin()
    others = [row for row in await room.quotas.rows() if (row.bank, row.ccy) != ("airstar", "HKD")]
    for act, value in acts:
        if act == "out":
            assert ((await room.out(value)) == "") is model.out(value, room.clock.ms)
        elif act == "restore":
            await room.quotas.restore("airstar", "HKD", SUPERVISOR, value)
            model.restore(value)
        else:
            before = (room.clock.ms + 2 * HOUR) // DAY  # days that begin at 06:00 in Hong Kong, 22:00 UTC
            room.clock.ms += value
            await room.quotas.reset()
            if (room.clock.ms + 2 * HOUR) // DAY > before:
                model.balance, model.count = FULL, 0
        row = await room.row()
        assert (row.balance, row.day_count, bool(row.enabled), row.last_alarm_at) == (
            model.balance, model.count, model.open, model.alarmed_at)
        assert room.alerts() == model.told
    assert [(row.bank, row.ccy, row.balance, row.enabled) for row in await room.quotas.rows()
            if (row.bank, row.ccy) != ("airstar", "HKD")] == [(o.bank, o.ccy, o.balance, o.enabled) for o in others]
    await databases.close()


@pytest.mark.req("CH-BST-02", "CH-BST-06")
@given(acts=st.lists(ACTS, max_size=25))
@settings(max_examples=80, deadline=None)
def test_a_row_is_what_plain_arithmetic_says(acts: list[tuple[str, Any]]) -> None:
    asyncio.run(_live(acts))
