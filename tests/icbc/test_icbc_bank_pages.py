"""The emulated bank's pages, begun where something can stand, against its whole statement read line by line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from core.clock import US_PER_MS, hkt_date, yyyymmdd
from core.settings import Settings
from core.trace import Trace
from core.wire.icbc import Head, Query, Request, Trans
from emulators.icbc.bank import IcbcBank
from emulators.icbc.faults import LINE1
from emulators.loop import SimLoop
from emulators.receiving import Line
from emulators.streams import Streams
from scenarios.schema import full_moment_ms

ACCOUNT = Settings()["receiving.icbc.accounts"]["HKD"]
BEGIN_MS = full_moment_ms("2026-03-11 22:00")
DAYS = ["", *(f"202603{day}" for day in (10, 11, 12, 13, 14))]


class Moment:
    """A clock that stands where it is put."""

    ms = BEGIN_MS

    def now_ms(self) -> int:
        return self.ms

    def now_us(self) -> int:
        return self.ms * US_PER_MS


def pages(bank: IcbcBank, trans: Trans, query: Query) -> list[str]:
    """The serials of all pages, as a client turns them."""
    found: list[str] = []
    while True:
        answer = bank.answer(LINE1, Request(Head(trans, "", "", bank.users[LINE1], "", 0), query))
        found += [record.serial for record in answer.records]
        if not answer.next_tag:
            return found
        query = query._replace(next_tag=answer.next_tag)


def shown(lines: Sequence[Line], trans: Trans, query: Query, now_ms: int) -> list[str]:
    """The same of the protocol's words: all lines, one by one."""
    found = []
    for line in lines:
        day = str(yyyymmdd(hkt_date(line.booked_ms)))
        if trans == Trans.TODAY:
            asked = (day == str(yyyymmdd(hkt_date(now_ms))) and query.begin_seq <= line.reference
                     and (not query.end_seq or line.reference <= query.end_seq))
        else:
            asked = query.begin_date <= day and (not query.end_date or day <= query.end_date)
        if asked and query.next_tag <= line.reference:
            found.append(line.reference)
    return found


@given(st.lists(st.integers(0, 5 * 3_600), max_size=25), st.integers(1, 4), st.data())
def test_whatever_is_asked_the_pages_are_the_statement(waits_s: list[int], page: int, data: st.DataObject) -> None:
    clock = Moment()
    with closing(SimLoop()) as loop:
        asked(loop, clock, waits_s, page, data)


def asked(loop: SimLoop, clock: Moment, waits_s: list[int], page: int, data: st.DataObject) -> None:
    bank = IcbcBank(loop, clock, Streams(1), Trace(clock), Settings({"sim.icbc.page": page, "sim.icbc.lag.line1": 0}))
    bank.open_customer("c", "CHAN TAI MAN", {"HKD": 10_000}, "6222")
    for wait_s in waits_s:
        clock.ms += wait_s * 1_000
        bank.transfer("c", "HKD", 1)
    clock.ms += data.draw(st.integers(0, 30 * 3_600)) * 1_000
    lines = list(bank.lines(ACCOUNT))
    for gone in data.draw(st.sets(st.sampled_from(range(len(lines))), max_size=3)) if lines else ():
        bank.strike(lines[gone].seq)
    lines = list(bank.lines(ACCOUNT))
    serials = st.sampled_from(["", "0", "9" * 16, "x", *(line.reference for line in lines)])
    for trans, query in (
            (Trans.TODAY, Query(ACCOUNT, "HKD", begin_seq=data.draw(serials), end_seq=data.draw(serials),
                                next_tag=data.draw(serials))),
            (Trans.HISTORY, Query(ACCOUNT, "HKD", begin_date=data.draw(st.sampled_from(DAYS)),
                                  end_date=data.draw(st.sampled_from(DAYS)), next_tag=data.draw(serials)))):
        assert pages(bank, trans, query) == shown(lines, trans, query, clock.ms)
