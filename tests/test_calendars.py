"""Trading days, cutoffs, transaction dates and changes of the calendar (gaps.md B-16, A-51 to A-53)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.calendars import Calendars, Cause, Decision, Exchange, OutsideCalendar, Override, YearTable, load_tables
from core.clock import HKT, epoch_ms, from_yyyymmdd, hkt_date, yyyymmdd
from core.domain import Market, Role
from core.errors import Code, Misconfigured, Refusal
from core.settings import Settings

# What B-16 says, written down a second time by hand: the weekday closures of 2026.
HK_2026 = {
    1: [1], 2: [17, 18, 19], 4: [3, 6, 7], 5: [1, 25], 6: [19], 7: [1], 10: [1, 19], 12: [25],
}
US_2026 = {
    1: [1, 19], 2: [16], 4: [3], 5: [25], 6: [19], 7: [3], 9: [7], 11: [26], 12: [25],
}
MAINLAND_2026 = {
    1: [1, 2], 2: [16, 17, 18, 19, 20, 23], 4: [6], 5: [1, 4, 5], 6: [19], 9: [25], 10: [1, 2, 5, 6, 7],
}
HK_2025 = {
    1: [1, 29, 30, 31], 4: [4, 18, 21], 5: [1, 5], 7: [1], 10: [1, 7, 29], 12: [25, 26],
}
US_2025 = {
    1: [1, 9, 20], 2: [17], 4: [18], 5: [26], 6: [19], 7: [4], 9: [1], 11: [27], 12: [25],
}
MAINLAND_2025 = {
    1: [1, 28, 29, 30, 31], 2: [3, 4], 4: [4], 5: [1, 2, 5], 6: [2], 10: [1, 2, 3, 6, 7, 8],
}
STATED = {
    (Market.HK, 2025): [HK_2025], (Market.US, 2025): [US_2025], (Market.HKCC, 2025): [HK_2025, MAINLAND_2025],
    (Market.HK, 2026): [HK_2026], (Market.US, 2026): [US_2026], (Market.HKCC, 2026): [HK_2026, MAINLAND_2026],
}
STAFF = "staff_0042"


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Epoch ms of a Hong Kong moment."""
    return epoch_ms(datetime(year, month, day, hour, minute, second, tzinfo=HKT))


def calendars(**overlay: Any) -> Calendars:
    """Calendars on the default settings, with dotted keys written with double underscores."""
    return Calendars(Settings({key.replace("__", "."): value for key, value in overlay.items()}))


@pytest.fixture(scope="module")
def default() -> Calendars:
    """Never changed by a test."""
    return calendars()


def days_of(year: int) -> Iterator[date]:
    day = date(year, 1, 1)
    while day.year == year:
        yield day
        day += timedelta(days=1)


def stated_open(market: Market, day: date) -> bool:
    return day.weekday() < 5 and all(day.day not in table.get(day.month, []) for table in STATED[market, day.year])


# The tables, every day of them


@pytest.mark.req("CAL-001", "CAL-002", "CAL-003")
@pytest.mark.parametrize(("market", "year"), STATED)
def test_every_day_of_the_decided_years(default: Calendars, market: Market, year: int) -> None:
    wrong = [day for day in days_of(year) if default.is_trading_day(market, day) != stated_open(market, day)]
    assert not wrong


def test_half_days_of_hong_kong(default: Calendars) -> None:
    found = [yyyymmdd(day) for year in (2025, 2026) for day in days_of(year) if default.is_half_day(Market.HK, day)]
    assert found == [20250128, 20251224, 20251231, 20260216, 20261224, 20261231]


def test_half_days_of_stock_connect_are_those_of_hong_kong_on_which_it_trades(default: Calendars) -> None:
    found = [yyyymmdd(day) for day in days_of(2026) if default.is_half_day(Market.HKCC, day)]
    assert found == [20261224, 20261231]  # 16 February is closed on the mainland


@pytest.mark.req("CAL-009")
def test_all_three_exchanges_are_loaded_for_all_three_years() -> None:
    tables = load_tables()
    assert {(table.exchange, table.year) for table in tables} == {
        (exchange, year) for exchange in Exchange for year in (2025, 2026, 2027)}
    assert [(table.exchange, table.year) for table in tables if table.provisional] == [(Exchange.SSE, 2027)]


def test_only_the_mainland_table_of_2027_is_provisional(default: Calendars) -> None:
    assert default.is_provisional(Market.HKCC, date(2027, 5, 3))
    assert not default.is_provisional(Market.HK, date(2027, 5, 3))


@pytest.mark.req("CAL-009")
@pytest.mark.parametrize("year", [2024, 2028])
@pytest.mark.parametrize("market", Market)
def test_a_day_outside_the_loaded_years_is_refused_with_the_remedy(
        default: Calendars, market: Market, year: int) -> None:
    for ask in (lambda: default.is_trading_day(market, date(year, 6, 3)),
                lambda: default.transaction_date(market, at(year, 6, 3, 12)),
                lambda: default.market_gate(market, at(year, 6, 3, 12), True),
                lambda: default.dispatch("cmb", market, at(year, 6, 3, 12)),
                lambda: default.next_business_day(date(year, 6, 3)),
                lambda: default.batch_date(at(year, 6, 3, 12))):
        with pytest.raises(OutsideCalendar, match=r"2025, 2026, 2027.*settlement loads the year"):
            ask()


@pytest.mark.req("CAL-009")
def test_a_next_trading_day_beyond_the_loaded_years_is_refused(default: Calendars) -> None:
    assert default.transaction_date(Market.HK, at(2027, 12, 31, 16, 14, 59)) == 20271231
    with pytest.raises(OutsideCalendar):
        default.transaction_date(Market.HK, at(2027, 12, 31, 16, 15))


# Cutoffs and transaction dates


@pytest.mark.req("CAL-004", "CAL-007", "SBA-PROC-07")
@pytest.mark.parametrize("market", [Market.HK, Market.HKCC])
def test_the_hong_kong_cutoff_to_the_millisecond(default: Calendars, market: Market) -> None:
    cutoff = at(2026, 3, 12, 16, 15)
    assert default.transaction_date(market, cutoff - 1000) == 20260312
    assert default.transaction_date(market, cutoff - 1) == 20260312
    assert default.transaction_date(market, cutoff) == 20260313
    assert default.market_gate(market, cutoff - 1).open
    assert not default.market_gate(market, cutoff).open


@pytest.mark.req("CAL-005", "CAL-007", "SBA-PROC-07")
@pytest.mark.parametrize("month", [1, 7])
def test_the_us_cutoff_is_four_in_the_morning_all_year(default: Calendars, month: int) -> None:
    before = at(2026, month, 15, 3, 59, 59)
    assert default.session_date(Market.US, before) == date(2026, month, 14)
    assert default.transaction_date(Market.US, before) == yyyymmdd(date(2026, month, 14))
    assert default.transaction_date(Market.US, before + 1000) == yyyymmdd(date(2026, month, 15))


@pytest.mark.req("CAL-006")
@pytest.mark.parametrize(("day", "hour"), [
    (date(2026, 1, 14), 5), (date(2026, 7, 14), 4),
    (date(2026, 3, 6), 5), (date(2026, 3, 9), 4),       # the clocks went forward on Sunday 8 March
    (date(2026, 10, 30), 4), (date(2026, 11, 2), 5),    # and back on Sunday 1 November
    (date(2025, 3, 7), 5), (date(2025, 3, 10), 4), (date(2025, 10, 31), 4), (date(2025, 11, 3), 5),
    (date(2027, 3, 12), 5), (date(2027, 3, 15), 4), (date(2027, 11, 5), 4), (date(2027, 11, 8), 5),
])
def test_the_us_cutoff_follows_new_york_when_told_to(day: date, hour: int) -> None:
    new_york = calendars(us_cutoff__mode="ny_close")
    cutoff = epoch_ms(datetime.combine(day + timedelta(days=1), time(hour)))
    assert new_york.transaction_date(Market.US, cutoff - 1) == yyyymmdd(day)
    assert new_york.session_date(Market.US, cutoff - 1) == day
    assert new_york.transaction_date(Market.US, cutoff) > yyyymmdd(day)
    assert new_york.session_date(Market.US, cutoff) == day + timedelta(days=1)


@pytest.mark.req("CAL-006")
def test_new_york_cutoffs_of_every_day_are_at_four_from_march_to_november_and_at_five_else() -> None:
    new_york = calendars(us_cutoff__mode="ny_close")
    for day in days_of(2026):
        if new_york.is_trading_day(Market.US, day):
            noon = epoch_ms(datetime.combine(day, time(12)))
            summer = date(2026, 3, 8) <= day < date(2026, 11, 1)
            expected = epoch_ms(datetime.combine(day + timedelta(days=1), time(4 if summer else 5)))
            assert new_york.market_gate(Market.US, noon).closes_ms == expected


@pytest.mark.req("CAL-013")
@pytest.mark.parametrize("minute", [15, 16, 22, 29, 30, 31, 45])
def test_between_1615_and_1630_is_as_late_as_1630(default: Calendars, minute: int) -> None:
    moment = at(2026, 3, 12, 16, minute)
    assert default.transaction_date(Market.HK, moment, bst=True) == 20260313
    assert default.dispatch("cmb", Market.HK, moment) == default.dispatch("cmb", Market.HK, at(2026, 3, 12, 16, 30))
    assert default.dispatch("cmb", Market.HK, moment).decision is Decision.DEFER


@pytest.mark.req("CAL-007")
@pytest.mark.parametrize(("submitted", "expected"), [
    (at(2026, 3, 13, 18), 20260316),        # Friday evening: Monday
    (at(2026, 5, 22, 18), 20260526),        # Monday 25 May is a holiday
    (at(2026, 2, 16, 16, 15), 20260220),    # Chinese New Year
    (at(2026, 4, 2, 16, 30), 20260408),     # Easter and Ching Ming
    (at(2026, 3, 14, 12), 20260316),        # a Saturday
])
def test_after_the_cutoff_comes_the_next_trading_day(default: Calendars, submitted: int, expected: int) -> None:
    assert default.transaction_date(Market.HK, submitted, bst=True) == expected


def test_a_half_day_moves_the_cutoff_only_when_told_to(default: Calendars) -> None:
    half_day = at(2026, 12, 24, 12, 15)
    told = calendars(calendar__half_day_cutoff="12:15")
    assert default.transaction_date(Market.HK, half_day) == 20261224
    assert told.transaction_date(Market.HK, half_day - 1) == 20261224
    assert told.transaction_date(Market.HK, half_day) == 20261228
    assert told.transaction_date(Market.HK, at(2026, 12, 23, 12, 15)) == 20261223
    assert told.transaction_date(Market.US, half_day) == 20261224


@pytest.mark.req("CAL-008")
def test_a_us_bst_withdrawal_on_a_hong_kong_holiday_is_deferred(default: Calendars) -> None:
    holiday = at(2026, 7, 1, 12)  # New York trades
    assert default.is_trading_day(Market.US, date(2026, 7, 1))
    assert default.transaction_date(Market.US, holiday) == 20260701
    assert default.transaction_date(Market.US, holiday, bst=True) == 20260702
    deferred = default.dispatch("cmb", Market.US, holiday)
    assert (deferred.decision, deferred.date, deferred.wake_ms) == (Decision.DEFER, 20260702, at(2026, 7, 2, 7))


@pytest.mark.req("CAL-003")
def test_stock_connect_skips_a_mainland_holiday_on_which_hong_kong_trades(default: Calendars) -> None:
    moment = at(2026, 9, 25, 10)
    assert default.transaction_date(Market.HK, moment) == 20260925
    assert default.transaction_date(Market.HKCC, moment, bst=True) == 20260928


@pytest.mark.req("CAL-001")
def test_business_days_are_hong_kong_trading_days(default: Calendars) -> None:
    assert default.business_day(date(2026, 2, 16))
    assert not default.business_day(date(2026, 2, 17))
    assert default.next_business_day(date(2026, 2, 16)) == date(2026, 2, 20)
    assert default.next_business_day(date(2026, 2, 16), 3) == date(2026, 2, 24)
    assert default.next_trading_day(Market.US, date(2026, 7, 2)) == date(2026, 7, 6)
    assert default.next_trading_day(Market.US, date(2026, 6, 30), bst=True) == date(2026, 7, 2)
    with pytest.raises(ValueError, match="at least 1"):
        default.next_business_day(date(2026, 2, 16), 0)


# Properties

MOMENTS = st.integers(min_value=at(2025, 1, 3), max_value=at(2027, 12, 20))
MARKETS = st.sampled_from(list(Market))
MODES = {mode: calendars(us_cutoff__mode=mode) for mode in ("fixed_hkt", "ny_close")}


@pytest.mark.req("SBA-PROC-07")
@settings(max_examples=400, deadline=None)
@given(t_ms=MOMENTS, market=MARKETS, bst=st.booleans(), mode=st.sampled_from(list(MODES)))
def test_a_transaction_date_is_the_first_trading_day_whose_cutoff_is_to_come(
        t_ms: int, market: Market, bst: bool, mode: str) -> None:
    calendar = MODES[mode]
    found = from_yyyymmdd(calendar.transaction_date(market, t_ms, bst))
    session = calendar.session_date(market, t_ms)
    assert found >= session
    assert calendar.is_trading_day(market, found)
    assert calendar.is_trading_day(Market.HK, found) or not (bst or market is Market.HKCC)
    assert t_ms < calendar.market_gate(market, t_ms, bst).closes_ms
    skipped = [session + timedelta(days=n) for n in range((found - session).days)]
    for day in skipped[1:]:
        assert not (calendar.is_trading_day(market, day) and (not bst or calendar.is_trading_day(Market.HK, day)))


@pytest.mark.req("SBA-PROC-07")
@settings(max_examples=300, deadline=None)
@given(moments=st.lists(MOMENTS, min_size=2, max_size=6), market=MARKETS, bst=st.booleans(),
       mode=st.sampled_from(list(MODES)))
def test_transaction_dates_never_go_back(moments: list[int], market: Market, bst: bool, mode: str) -> None:
    dates = [MODES[mode].transaction_date(market, t_ms, bst) for t_ms in sorted(moments)]
    assert dates == sorted(dates)


@settings(max_examples=300, deadline=None)
@given(t_ms=MOMENTS, market=MARKETS)
def test_the_session_date_is_the_documented_shift_of_the_clock(t_ms: int, market: Market) -> None:
    shift = 4 * 3_600_000 if market is Market.US else 0
    assert MODES["fixed_hkt"].session_date(market, t_ms) == hkt_date(t_ms - shift)


# Changes of the calendar

TYPHOON = date(2026, 7, 16)  # a Thursday


def closed(calendar: Calendars, known_from_ms: int, *, day: date = TYPHOON, market: Market = Market.HK) -> Override:
    made = calendar.add_override(market, day, False, known_from_ms=known_from_ms, operator=STAFF, role=Role.SETTLEMENT)
    assert isinstance(made, Override)
    return made


@pytest.mark.req("CAL-010")
def test_a_temporary_closure_holds_for_later_decisions_only() -> None:
    calendar, known = calendars(), at(2026, 7, 16, 6, 30)
    before = calendar.dispatch("airstar", Market.HK, known - 1)
    assert before.decision is Decision.WAIT_BANK
    made = closed(calendar, known)
    assert calendar.dispatch("airstar", Market.HK, known - 1) == before
    after = calendar.dispatch("airstar", Market.HK, known)
    assert (after.decision, after.date, after.wake_ms) == (Decision.DEFER, 20260717, at(2026, 7, 17, 8))
    assert calendar.is_trading_day(Market.HK, TYPHOON, known - 1)
    assert not calendar.is_trading_day(Market.HK, TYPHOON, known)
    assert not calendar.is_trading_day(Market.HK, TYPHOON)
    assert made.event() == {"market": "HK", "date": "2026-07-16", "open": False, "known_from_ms": known,
                            "operator": STAFF, "version": 1}


@pytest.mark.req("CAL-010")
def test_a_hong_kong_closure_closes_stock_connect_bst_and_business_but_not_new_york() -> None:
    calendar = calendars()
    closed(calendar, at(2026, 7, 15))
    noon = at(2026, 7, 16, 12)
    assert not calendar.is_trading_day(Market.HKCC, TYPHOON)
    assert not calendar.business_day(TYPHOON)
    assert calendar.transaction_date(Market.US, noon) == 20260716
    assert calendar.transaction_date(Market.US, noon, bst=True) == 20260717
    assert not calendar.bank_gate("cmb", noon).open


@pytest.mark.req("CAL-010")
def test_the_latest_word_on_a_day_counts_and_versions_rise() -> None:
    calendar = calendars()
    first, second = closed(calendar, at(2026, 7, 15, 9)), closed(calendar, at(2026, 7, 15, 9), day=date(2026, 7, 17))
    third = calendar.add_override(Market.HK, TYPHOON, True, known_from_ms=at(2026, 7, 16, 5), operator=STAFF,
                                  role=Role.SETTLEMENT)
    assert isinstance(third, Override)
    assert [one.version for one in (first, second, third)] == [1, 2, 3]
    assert calendar.version == 3
    assert [calendar.is_trading_day(Market.HK, TYPHOON, at(2026, 7, *moment)) for moment in (
        (15, 8), (15, 9), (16, 4), (16, 5))] == [True, False, False, True]


def test_an_opened_stock_connect_day_still_needs_hong_kong() -> None:
    calendar = calendars()
    for day in (date(2026, 9, 25), date(2026, 10, 1)):  # the mainland closed; both closed
        calendar.add_override(Market.HKCC, day, True, known_from_ms=0, operator=STAFF, role=Role.SETTLEMENT)
    assert calendar.is_trading_day(Market.HKCC, date(2026, 9, 25))
    assert not calendar.is_trading_day(Market.HKCC, date(2026, 10, 1))


def test_stored_overrides_come_back_after_a_restart() -> None:
    calendar = calendars()
    closed(calendar, at(2026, 7, 15))
    again = Calendars(Settings(), overrides=calendar.overrides, tables=calendar.tables)
    assert again.version == 1
    assert not again.is_trading_day(Market.HK, TYPHOON)
    assert closed(again, at(2026, 7, 16), day=date(2026, 7, 17)).version == 2


def test_more_states_of_knowledge_than_are_kept_ready() -> None:
    calendar = calendars()
    days = [day for day in days_of(2026) if calendar.is_trading_day(Market.HK, day)][:40]
    for day in days:
        closed(calendar, epoch_ms(datetime.combine(day, time(6))), day=day)
    for day in (*days, *reversed(days)):
        six = epoch_ms(datetime.combine(day, time(6)))
        assert calendar.is_trading_day(Market.HK, day, six - 1)
        assert not calendar.market_gate(Market.HK, six).open


@pytest.mark.req("CAL-010")
def test_overrides_of_the_settings_are_known_from_their_moment() -> None:
    calendar = calendars(calendar__overrides=[
        {"market": "HK", "date": 20260716, "state": "closed", "effective_from": "2026-07-16 06:30"},
        {"market": "US", "date": 20260717, "state": "closed", "effective_from": at(2026, 7, 1)}])
    assert calendar.is_trading_day(Market.HK, TYPHOON, at(2026, 7, 16, 6, 29, 59))
    assert not calendar.is_trading_day(Market.HK, TYPHOON, at(2026, 7, 16, 6, 30))
    assert not calendar.is_trading_day(Market.US, date(2026, 7, 17), at(2026, 7, 1))
    assert calendar.version == 0


@pytest.mark.parametrize("row", [
    {"market": "LSE", "date": 20260716, "state": "closed", "effective_from": 0},
    {"market": "HK", "date": 20261332, "state": "closed", "effective_from": 0},
    {"market": "HK", "date": 20260716, "state": "shut", "effective_from": 0},
    {"market": "HK", "date": 20260716, "state": "closed", "effective_from": "soon"},
    {"market": "HK", "date": 20260716, "state": "closed"},
    {"market": "HK", "date": 20620716, "state": "closed", "effective_from": 0},
])
def test_an_unreadable_override_in_the_settings_is_refused_at_start(row: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        calendars(calendar__overrides=[row])


CLOSURES_2028 = [date(2028, 1, 3), date(2028, 1, 26), date(2028, 12, 25)]


def update(calendar: Calendars, role: Role, **changes: Any) -> YearTable | Refusal:
    said: dict[str, Any] = {"exchange": Exchange.HKEX, "year": 2028, "closures": CLOSURES_2028,
                            "half_days": [date(2028, 12, 22)], "known_from_ms": at(2027, 12, 1), "operator": STAFF,
                            "role": role, "source": "HKEX circular"}
    return calendar.update_year(**(said | changes))


@pytest.mark.req("CAL-012")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SETTLEMENT])
def test_nobody_but_settlement_changes_the_calendar(role: Role) -> None:
    calendar = calendars()
    yearly = update(calendar, role)
    dated = calendar.add_override(Market.HK, TYPHOON, False, known_from_ms=0, operator=STAFF, role=role)
    assert isinstance(yearly, Refusal)
    assert isinstance(dated, Refusal)
    assert (yearly.code, dated.code) == (Code.FORBIDDEN, Code.FORBIDDEN)
    assert calendar.version == 0
    assert calendar.is_trading_day(Market.HK, TYPHOON)
    with pytest.raises(OutsideCalendar):
        calendar.is_trading_day(Market.HK, date(2028, 1, 4))


@pytest.mark.req("CAL-012")
def test_settlement_loads_a_new_year_which_is_known_from_then_on() -> None:
    calendar = calendars()
    table = update(calendar, Role.SETTLEMENT)
    assert isinstance(table, YearTable)
    assert (table.version, table.operator) == (1, STAFF)
    assert calendar.is_trading_day(Market.HK, date(2028, 1, 4))
    assert not calendar.is_trading_day(Market.HK, date(2028, 1, 3))
    assert calendar.is_half_day(Market.HK, date(2028, 12, 22))
    assert calendar.transaction_date(Market.HK, at(2027, 12, 31, 17)) == 20280104
    with pytest.raises(OutsideCalendar):
        calendar.is_trading_day(Market.HK, date(2028, 1, 4), at(2027, 11, 30))
    with pytest.raises(OutsideCalendar):
        calendar.is_trading_day(Market.US, date(2028, 1, 4))


@pytest.mark.req("CAL-012")
def test_a_confirmed_table_replaces_the_provisional_one_below_dated_overrides() -> None:
    calendar = calendars()
    closed(calendar, at(2026, 11, 1), day=date(2027, 3, 2), market=Market.HKCC)
    update(calendar, Role.SETTLEMENT, exchange=Exchange.SSE, year=2027, half_days=[], known_from_ms=at(2026, 11, 20),
           closures=[date(2027, 1, 1), date(2027, 2, 11)])
    assert calendar.is_provisional(Market.HKCC, date(2027, 2, 11), at(2026, 11, 19))
    assert not calendar.is_provisional(Market.HKCC, date(2027, 2, 11))
    assert not calendar.is_trading_day(Market.HKCC, date(2027, 2, 11))
    assert not calendar.is_trading_day(Market.HKCC, date(2027, 3, 2))


@pytest.mark.parametrize("changes", [
    {"closures": [date(2027, 1, 1)]}, {"closures": []}, {"operator": ""},
    {"half_days": [date(2028, 12, 25)]}, {"half_days": [date(2028, 12, 23)]},
])
def test_an_implausible_yearly_table_is_refused(changes: dict[str, Any]) -> None:
    calendar = calendars()
    refused = update(calendar, Role.SETTLEMENT, **changes)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.INVALID_PARAM
    assert calendar.version == 0


def test_an_override_of_a_year_that_is_not_loaded_or_of_nobody_is_refused() -> None:
    calendar = calendars()
    for day, operator in ((date(2031, 7, 16), STAFF), (TYPHOON, "")):
        refused = calendar.add_override(Market.HK, day, False, known_from_ms=0, operator=operator,
                                        role=Role.SETTLEMENT)
        assert isinstance(refused, Refusal)
        assert refused.code is Code.INVALID_PARAM


# Diagnosis


@pytest.mark.req("CAL-011")
def test_a_business_weekday_missing_from_the_calendar_defers_and_is_named() -> None:
    calendar = calendars()
    noon = at(2026, 7, 16, 12)
    assert calendar.diagnose_deferral(Market.HK, noon, "cmb").cause is Cause.NONE
    closed(calendar, at(2026, 7, 1))
    assert calendar.dispatch("cmb", Market.HK, noon).decision is Decision.DEFER
    found = calendar.diagnose_deferral(Market.HK, noon, "cmb")
    assert (found.cause, found.transaction_date) == (Cause.CALENDAR, 20260717)
    assert "20260716" in found.detail
    assert "version 1" in found.detail
    assert STAFF in found.detail
    assert "settlement" in found.remedy


@pytest.mark.req("CAL-011")
@pytest.mark.parametrize(("market", "moment", "cause", "passed"), [
    (Market.HK, at(2026, 3, 12, 17), Cause.CUTOFF, [Cause.CUTOFF]),
    (Market.HK, at(2026, 3, 14, 12), Cause.WEEKEND, [Cause.WEEKEND] * 2),
    (Market.HK, at(2026, 3, 13, 18), Cause.CUTOFF, [Cause.CUTOFF, Cause.WEEKEND, Cause.WEEKEND]),
    (Market.HK, at(2026, 5, 25, 10), Cause.CALENDAR, [Cause.CALENDAR]),
    (Market.HK, at(2026, 5, 22, 18), Cause.CALENDAR, [Cause.CUTOFF, Cause.WEEKEND, Cause.WEEKEND, Cause.CALENDAR]),
    (Market.HKCC, at(2026, 9, 25, 10), Cause.CALENDAR, [Cause.CALENDAR, Cause.WEEKEND, Cause.WEEKEND]),
    (Market.HK, at(2026, 3, 12, 5), Cause.BANK_WINDOW, []),
    (Market.HK, at(2026, 3, 12, 10), Cause.NONE, []),
])
def test_every_cause_of_a_deferral_is_told_apart(
        default: Calendars, market: Market, moment: int, cause: Cause, passed: list[Cause]) -> None:
    found = default.diagnose_deferral(market, moment, "cmb")
    assert (found.cause, [day.cause for day in found.passed]) == (cause, passed)


@pytest.mark.req("CAL-011")
def test_the_diagnosis_names_the_exchange_whose_table_lacks_the_day(default: Calendars) -> None:
    mainland = default.diagnose_deferral(Market.HKCC, at(2026, 9, 25, 10)).detail
    hong_kong = default.diagnose_deferral(Market.US, at(2026, 7, 1, 12)).detail
    assert "SSE" in mainland
    assert "HKEX" in hong_kong
    assert "2026 table" in hong_kong
    assert "provisional" in default.diagnose_deferral(Market.HKCC, at(2027, 5, 4, 10)).detail
