"""Bank windows, matching windows, the batch cutoff and the two gates of dispatch (gaps.md A-51 to A-56, B-17).

WIN-03, WIN-06 and WIN-11 are decided here as far as the decision goes; that the Procedure obeys it is for the
orchestration's tests to decide, which carry those ids.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.calendars import (
    BST_BANKS,
    GATES,
    MAINTAINED_BANKS,
    MATCHING_CURRENCIES,
    Calendars,
    Decision,
    Gate,
)
from core.clock import HKT, MS_PER_DAY, epoch_ms, from_yyyymmdd, hkt, hkt_date, hkt_midnight_ms, yyyymmdd
from core.domain import Market, Role
from core.errors import Misconfigured
from core.settings import Settings

SECOND = 1_000
HOUR = 3_600_000
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Epoch ms of a Hong Kong moment."""
    return epoch_ms(datetime(year, month, day, hour, minute, second, tzinfo=HKT))


def calendars(**overlay: Any) -> Calendars:
    """Calendars on the default settings, with dotted keys written with double underscores."""
    return Calendars(Settings({key.replace("__", "."): value for key, value in overlay.items()}))


DEFAULT = calendars()
MODES = {mode: calendars(us_cutoff__mode=mode) for mode in ("fixed_hkt", "ny_close")}


def window(key: str) -> tuple[int, int]:
    """Opening and closing of a daily window of the settings, ms after midnight; read without the code under test."""
    def offset(text: str) -> int:
        clock = text.removeprefix("next day ")
        return int(clock[:2]) * HOUR + int(clock[3:]) * 60_000 + (MS_PER_DAY if text != clock else 0)

    chosen = Settings()
    return offset(chosen[f"{key}.open"]), offset(chosen[f"{key}.close"])


def edges(gate_of: Any, opens_ms: int, closes_ms: int) -> list[bool]:
    """Open just before, at the opening, just before the close, at the close."""
    return [gate_of(t_ms).open for t_ms in (opens_ms - 1, opens_ms, closes_ms - 1, closes_ms)]


# Single gates

THURSDAY = hkt_midnight_ms(date(2026, 3, 12))


@pytest.mark.req("WIN-01")
@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_cmb_and_cmbc_run_from_seven_to_four_next_day(bank: str) -> None:
    assert window(f"windows.{bank}") == (7 * HOUR, 28 * HOUR)
    assert edges(lambda t_ms: DEFAULT.bank_gate(bank, t_ms), THURSDAY + 7 * HOUR, THURSDAY + 28 * HOUR) == [
        False, True, True, False]
    assert DEFAULT.bank_gate(bank, THURSDAY + 25 * HOUR).date == 20260312


@pytest.mark.req("WIN-02")
def test_airstar_runs_from_eight_to_ten_in_the_evening() -> None:
    assert window("windows.airstar") == (8 * HOUR, 22 * HOUR)
    assert edges(lambda t_ms: DEFAULT.bank_gate("airstar", t_ms), THURSDAY + 8 * HOUR, THURSDAY + 22 * HOUR) == [
        False, True, True, False]


@pytest.mark.parametrize("name", [name for name in GATES if name != "fps"])
def test_each_window_opens_and_closes_as_the_settings_say(name: str) -> None:
    opens, closes = window(f"windows.{name}")
    assert edges(lambda t_ms: DEFAULT.bank_gate(name, t_ms), THURSDAY + opens, THURSDAY + closes) == [
        False, True, True, False]


@pytest.mark.parametrize(("name", "on_saturday", "on_sunday", "on_holiday"), [
    ("cmb", False, False, False), ("cmbc", False, False, False), ("airstar", False, False, False),
    ("hsbc_eddi", False, False, False), ("hase_eddi", False, False, False), ("ops_approval", False, False, False),
    ("chats_upload", False, False, False), ("bochk_ftp", True, False, True), ("fps", True, True, True),
])
def test_the_days_of_each_window(name: str, on_saturday: bool, on_sunday: bool, on_holiday: bool) -> None:
    days = [date(2026, 3, 14), date(2026, 3, 15), date(2026, 5, 25)]
    noon = [DEFAULT.bank_gate(name, hkt_midnight_ms(day) + 12 * HOUR).open for day in days]
    assert noon == [on_saturday, on_sunday, on_holiday]


@pytest.mark.req("WIN-08")
@pytest.mark.parametrize("bank", BST_BANKS)
def test_no_bst_session_begins_on_a_weekend_or_hong_kong_holiday(bank: str) -> None:
    moment, last = at(2026, 1, 1, 12), at(2026, 12, 30, 12)
    sessions = []
    while moment < last:
        gate = DEFAULT.bank_gate(bank, moment)
        sessions.append(gate.date)
        assert hkt_date(gate.opens_ms) == from_yyyymmdd(gate.date)
        moment = gate.closes_ms
    first = date(2026, 1, 1)
    year = [first + timedelta(days=n) for n in range(364)]
    trading = [yyyymmdd(day) for day in year if DEFAULT.is_trading_day(Market.HK, day)]
    assert sessions == trading


@pytest.mark.req("WIN-08")
@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_saturday_until_four_is_fridays_session(bank: str) -> None:
    night = DEFAULT.bank_gate(bank, at(2026, 3, 14, 3, 59, 59))
    assert (night.open, night.date) == (True, 20260313)
    over = DEFAULT.bank_gate(bank, at(2026, 3, 14, 4))
    assert (over.open, over.opens_ms) == (False, at(2026, 3, 16, 7))
    assert not DEFAULT.bank_gate(bank, at(2026, 3, 16, 3)).open  # no Sunday session
    leaving = DEFAULT.dispatch(bank, Market.US, at(2026, 3, 14, 3, 59, 59))
    assert (leaving.decision, leaving.date) == (Decision.OPEN, 20260313)


def test_fps_never_closes() -> None:
    assert all(DEFAULT.bank_gate("fps", at(2026, 2, 14) + n * HOUR // 2).open for n in range(48 * 8))


@pytest.mark.parametrize("ccy", ["HKD", "CNH"])
def test_matching_of_hkd_and_cnh_runs_from_monday_to_saturday_through_nights_and_holidays(ccy: str) -> None:
    opens, closes = at(2026, 2, 16, 7), at(2026, 2, 21, 10)  # the week of Chinese New Year
    assert edges(lambda t_ms: DEFAULT.matching_gate(ccy, t_ms), opens, closes) == [False, True, True, False]
    assert all(DEFAULT.matching_gate(ccy, t_ms).open for t_ms in range(opens, closes, HOUR))
    assert not any(DEFAULT.matching_gate(ccy, t_ms).open for t_ms in range(closes, opens + 7 * MS_PER_DAY, HOUR))
    assert DEFAULT.matching_gate(ccy, closes).opens_ms == opens + 7 * MS_PER_DAY


def test_matching_of_usd_runs_every_calendar_day() -> None:
    opens, closes = window("match.window.usd")
    for day in range(14, 24):
        midnight = at(2026, 2, day)
        assert edges(lambda t_ms: DEFAULT.matching_gate("USD", t_ms), midnight + opens, midnight + closes) == [
            False, True, True, False]


@pytest.mark.parametrize("bank", MAINTAINED_BANKS)
def test_maintenance_begins_and_ends_as_the_settings_say(bank: str) -> None:
    chosen, found = Settings(), DEFAULT.maintenance(bank, at(2026, 3, 11, 12))
    assert not found.under_way
    assert found.begins_ms > at(2026, 3, 11, 12)
    for key, moment in (("open", found.begins_ms), ("close", found.ends_ms)):
        written, shown = chosen[f"maintenance.{bank}.{key}"].removeprefix("next day "), hkt(moment)
        assert written in (shown.strftime("%H:%M"), f"{WEEKDAYS[shown.weekday()]} {shown:%H:%M}")
    states = [DEFAULT.maintenance(bank, t_ms).under_way for t_ms in (
        found.begins_ms - 1, found.begins_ms, found.ends_ms - 1, found.ends_ms)]
    assert states == [False, True, True, False]


def test_maintenance_does_not_close_the_gate_of_dispatch() -> None:
    told = calendars(maintenance__airstar__days="all", maintenance__airstar__open="10:00",
                     maintenance__airstar__close="11:00")
    moment = at(2026, 3, 12, 10, 30)
    assert told.maintenance("airstar", moment).under_way
    assert told.dispatch("airstar", Market.HK, moment).decision is Decision.OPEN


@pytest.mark.parametrize("ask", [
    lambda: DEFAULT.bank_gate("barings", THURSDAY), lambda: DEFAULT.matching_gate("GBP", THURSDAY),
    lambda: DEFAULT.maintenance("barings", THURSDAY), lambda: DEFAULT.dispatch("barings", Market.HK, THURSDAY),
])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(ask: Any) -> None:
    with pytest.raises(Misconfigured, match=r"no .*there are (cmb|HKD|airstar), "):
        ask()


@pytest.mark.parametrize("overlay", [
    {"windows__cmb__open": "7:00"}, {"windows__cmb__open": "25:00"}, {"windows__cmb__close": "04:00"},
    {"windows__cmb__close": "next day 07:30"}, {"windows__cmb__days": "weekdays"}, {"windows__cmb__days": "weekly"},
    {"windows__cmb__open": "Mon 07:00"}, {"match__window__hkd__close": "10:00"},
    {"windows__batch__cutoff": "Mon 11:00"}, {"us_cutoff__mode": "winter"}, {"calendar__half_day_cutoff": "noon"},
    {"calendar__half_day_cutoff": "next day 01:00"},
])
def test_a_setting_that_makes_no_sense_is_refused_at_start(overlay: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(overlay)).replace("__", ".").rsplit(".", 1)[0]):
        calendars(**overlay)


# The batch


@pytest.mark.req("WIN-05")
@pytest.mark.parametrize("day", [date(2026, 3, 12), date(2026, 3, 13), date(2026, 2, 16), date(2026, 5, 22)])
def test_before_the_batch_cutoff_the_same_business_day_else_the_next(day: date) -> None:
    cutoff = hkt_midnight_ms(day) + 11 * HOUR
    following = yyyymmdd(DEFAULT.next_business_day(day))
    dates = [DEFAULT.batch_date(t_ms) for t_ms in (cutoff - 11 * HOUR, cutoff - 1, cutoff, cutoff + 12 * HOUR)]
    assert dates == [yyyymmdd(day), yyyymmdd(day), following, following]


@pytest.mark.req("WIN-05")
@pytest.mark.parametrize("hour", [8, 20])
@pytest.mark.parametrize(("day", "expected"), [(date(2026, 3, 14), 20260316), (date(2026, 2, 17), 20260220)])
def test_off_business_days_the_batch_is_that_of_the_next_one(day: date, expected: int, hour: int) -> None:
    assert DEFAULT.batch_date(hkt_midnight_ms(day) + hour * HOUR) == expected


@pytest.mark.parametrize("market", Market)
def test_the_batch_cutoff_moves_neither_the_transaction_date_nor_the_dispatch(market: Market) -> None:
    """The decision of WIN-06."""
    cutoff = at(2026, 3, 12, 11)
    for bank in BST_BANKS:
        assert DEFAULT.dispatch(bank, market, cutoff - 1) == DEFAULT.dispatch(bank, market, cutoff)
    assert DEFAULT.transaction_date(market, cutoff - 1) == DEFAULT.transaction_date(market, cutoff) == 20260312


# The two gates

MOMENTS = st.integers(min_value=at(2025, 1, 3), max_value=at(2027, 12, 10))
MARKETS = st.sampled_from(list(Market))
BANKS = st.sampled_from(BST_BANKS)


@pytest.mark.parametrize(("bank", "market", "moment", "decision", "wake", "day", "then"), [
    ("cmb", Market.HK, at(2026, 3, 12, 10), Decision.OPEN, at(2026, 3, 12, 16, 15), 20260312, Decision.DEFER),
    ("airstar", Market.HK, at(2026, 3, 12, 7), Decision.WAIT_BANK, at(2026, 3, 12, 8), 20260312, Decision.OPEN),
    ("cmb", Market.HK, at(2026, 3, 12, 4), Decision.WAIT_BANK, at(2026, 3, 12, 7), 20260312, Decision.OPEN),
    ("cmb", Market.HK, at(2026, 3, 12, 2), Decision.OPEN, at(2026, 3, 12, 4), 20260312, Decision.WAIT_BANK),
    ("cmb", Market.HK, at(2026, 3, 12, 16, 15), Decision.DEFER, at(2026, 3, 13), 20260313, Decision.OPEN),
    ("airstar", Market.HK, at(2026, 3, 12, 18), Decision.DEFER, at(2026, 3, 13, 8), 20260313, Decision.OPEN),
    ("cmb", Market.HK, at(2026, 3, 13, 18), Decision.DEFER, at(2026, 3, 16, 7), 20260316, Decision.OPEN),
    ("airstar", Market.US, at(2026, 3, 12, 23), Decision.WAIT_BANK, at(2026, 3, 13, 4), 20260312, Decision.DEFER),
    ("airstar", Market.US, at(2026, 3, 13, 4), Decision.WAIT_BANK, at(2026, 3, 13, 8), 20260313, Decision.OPEN),
    ("cmb", Market.US, at(2026, 3, 13, 3), Decision.OPEN, at(2026, 3, 13, 4), 20260312, Decision.DEFER),
    ("cmb", Market.US, at(2026, 3, 14, 4), Decision.DEFER, at(2026, 3, 16, 7), 20260316, Decision.OPEN),
    ("cmbc", Market.HKCC, at(2026, 9, 25, 10), Decision.DEFER, at(2026, 9, 28, 7), 20260928, Decision.OPEN),
])
def test_the_two_gates_by_example(bank: str, market: Market, moment: int, decision: Decision, wake: int, day: int,
                                  then: Decision) -> None:
    """The decisions of WIN-03."""
    found = DEFAULT.dispatch(bank, market, moment)
    assert found[:4] == (decision, wake, day, then)
    assert bool(found.reason) == (decision is not Decision.OPEN)


def test_waiting_for_the_bank_ends_in_a_deferral_when_the_cutoff_comes_first() -> None:
    """The decision of WIN-11: in winter the CMB window closes an hour before New York."""
    new_york, waiting_since = MODES["ny_close"], at(2026, 1, 15, 4, 10)
    waiting = new_york.dispatch("cmb", Market.US, waiting_since, 20260114)
    assert (waiting.decision, waiting.wake_ms, waiting.then) == (
        Decision.WAIT_BANK, at(2026, 1, 15, 5), Decision.DEFER)
    deferred = new_york.dispatch("cmb", Market.US, waiting.wake_ms, 20260114)
    assert (deferred.decision, deferred.date, deferred.wake_ms) == (Decision.DEFER, 20260115, at(2026, 1, 15, 7))
    assert "20260114" in deferred.reason


def test_a_passed_transaction_date_is_moved_even_while_both_gates_are_open() -> None:
    moment = at(2026, 3, 13, 10)
    assert DEFAULT.dispatch("cmb", Market.HK, moment, 20260313).decision is Decision.OPEN
    late = DEFAULT.dispatch("cmb", Market.HK, moment, 20260312)
    assert (late.decision, late.date, late.wake_ms) == (Decision.DEFER, 20260313, moment)


def test_a_transaction_date_still_to_come_waits_for_it() -> None:
    early = DEFAULT.dispatch("airstar", Market.HK, at(2026, 3, 12, 10), 20260317)
    assert (early.decision, early.date, early.wake_ms) == (Decision.DEFER, 20260317, at(2026, 3, 17, 8))


@pytest.mark.req("WIN-01", "WIN-02")
@settings(max_examples=400, deadline=None)
@given(t_ms=MOMENTS, market=MARKETS, bank=BANKS, mode=st.sampled_from(list(MODES)))
def test_nothing_leaves_unless_both_gates_are_open(t_ms: int, market: Market, bank: str, mode: str) -> None:
    calendar = MODES[mode]
    market_gate, bank_gate = calendar.market_gate(market, t_ms, True), calendar.bank_gate(bank, t_ms)
    found = calendar.dispatch(bank, market, t_ms)
    expected = (Decision.DEFER if not market_gate.open else Decision.OPEN if bank_gate.open else Decision.WAIT_BANK)
    assert found.decision is expected
    assert found.date == calendar.transaction_date(market, t_ms, True)
    opens, closes = window(f"windows.{bank}")
    if found.decision is Decision.OPEN:
        session = hkt_midnight_ms(from_yyyymmdd(bank_gate.date))
        assert session + opens <= t_ms < session + closes
        assert calendar.is_trading_day(Market.HK, from_yyyymmdd(bank_gate.date))


@settings(max_examples=300, deadline=None)
@given(t_ms=MOMENTS, market=MARKETS, bank=BANKS, mode=st.sampled_from(list(MODES)))
def test_a_decision_holds_until_its_wake_up_and_then_turns_into_what_it_announced(
        t_ms: int, market: Market, bank: str, mode: str) -> None:
    calendar = MODES[mode]
    found = calendar.dispatch(bank, market, t_ms)
    assert found.wake_ms > t_ms
    if found.decision is not Decision.DEFER:
        assert calendar.dispatch(bank, market, found.wake_ms - 1, found.date).decision is found.decision
    assert calendar.dispatch(bank, market, found.wake_ms, found.date).decision is found.then


@settings(max_examples=300, deadline=None)
@given(t_ms=MOMENTS, market=MARKETS, bank=BANKS, mode=st.sampled_from(list(MODES)))
def test_a_deferred_procedure_resumes_at_the_first_moment_both_gates_are_open(
        t_ms: int, market: Market, bank: str, mode: str) -> None:
    calendar = MODES[mode]
    moved_to = calendar.dispatch(bank, market, t_ms).date
    resume = calendar.resume_ms(market, moved_to, bank)
    assert calendar.transaction_date(market, resume, True) == moved_to
    assert calendar.market_gate(market, resume, True).open
    assert calendar.bank_gate(bank, resume).open
    assert calendar.may_resume(market, moved_to, bank, resume)
    assert not calendar.may_resume(market, moved_to, bank, resume - 1)


@settings(max_examples=400, deadline=None)
@given(t_ms=MOMENTS, gate=st.sampled_from([*GATES, *MATCHING_CURRENCIES, *Market]), bst=st.booleans(),
       later=st.floats(0, 1, exclude_max=True), mode=st.sampled_from(list(MODES)))
def test_a_gate_is_open_inside_its_session_and_closed_before_the_next(
        t_ms: int, gate: Any, bst: bool, later: float, mode: str) -> None:
    def ask(moment: int) -> Gate:
        if isinstance(gate, Market):
            return MODES[mode].market_gate(gate, moment, bst)
        return (MODES[mode].matching_gate if gate in MATCHING_CURRENCIES else MODES[mode].bank_gate)(gate, moment)

    found = ask(t_ms)
    assert found.open == (found.opens_ms <= t_ms)
    assert t_ms < found.closes_ms
    within = ask(found.opens_ms + int((found.closes_ms - found.opens_ms) * later))
    assert within == found._replace(open=True, reason="")
    if not found.open:
        before = ask(t_ms + int((found.opens_ms - t_ms) * later))
        assert (before.open, before.opens_ms) == (False, found.opens_ms)
    assert ask(found.closes_ms).date > found.date


def test_answers_do_not_depend_on_the_order_of_the_questions() -> None:
    moments = [at(2026, 2, 12) + n * 37 * 60_000 for n in range(600)]
    fresh, backward = calendars(), calendars()
    forth = [fresh.dispatch(bank, market, t_ms) for t_ms in moments for market in Market for bank in BST_BANKS]
    back = [backward.dispatch(bank, market, t_ms)
            for t_ms in reversed(moments) for market in reversed(Market) for bank in reversed(BST_BANKS)]
    assert forth == back[::-1]


# The loop through move_next, as far as the calendar decides it


@pytest.mark.parametrize(("submitted", "resumed"), [
    (at(2026, 3, 13, 18), at(2026, 3, 16, 7)),        # Friday 18:00: Monday
    (at(2026, 3, 12, 16, 30), at(2026, 3, 13)),       # the Thursday session of CMB is still open at midnight
    (at(2026, 2, 16, 17), at(2026, 2, 20, 7)),        # Chinese New Year
    (at(2026, 5, 22, 18), at(2026, 5, 26, 7)),        # Monday 25 May is a holiday
])
def test_when_a_deferred_hong_kong_withdrawal_resumes(submitted: int, resumed: int) -> None:
    deferred = DEFAULT.dispatch("cmb", Market.HK, submitted)
    assert (deferred.decision, deferred.wake_ms) == (Decision.DEFER, resumed)
    assert deferred.date == yyyymmdd(hkt_date(resumed))


def test_a_resume_day_that_closes_meanwhile_is_left_out() -> None:
    calendar = calendars()
    deferred = calendar.dispatch("airstar", Market.HK, at(2026, 3, 13, 18))
    known = at(2026, 3, 15, 12)
    calendar.add_override(Market.HK, date(2026, 3, 16), False, known_from_ms=known, operator="staff_0042",
                          role=Role.SETTLEMENT)
    assert calendar.resume_ms(Market.HK, deferred.date, "airstar", known - 1) == deferred.wake_ms
    assert calendar.resume_ms(Market.HK, deferred.date, "airstar", known) == at(2026, 3, 17, 8)
    assert not calendar.may_resume(Market.HK, deferred.date, "airstar", deferred.wake_ms)
    again = calendar.dispatch("airstar", Market.HK, deferred.wake_ms, deferred.date)
    assert (again.decision, again.date, again.wake_ms) == (Decision.DEFER, 20260317, at(2026, 3, 17, 8))
    assert calendar.may_resume(Market.HK, deferred.date, "airstar", at(2026, 3, 17, 8))


def test_windows_that_never_meet_are_an_error_and_not_an_endless_loop() -> None:
    never = calendars(windows__airstar__open="17:00")
    with pytest.raises(Misconfigured, match="airstar and HK: market and bank are never open"):
        never.dispatch("airstar", Market.HK, at(2026, 3, 12, 18))


def test_a_bank_that_opens_exactly_at_the_cutoff_comes_too_late() -> None:
    told = calendars(windows__airstar__open="16:15")
    waiting = told.dispatch("airstar", Market.HK, at(2026, 3, 12, 10))
    assert (waiting.decision, waiting.wake_ms, waiting.then) == (
        Decision.WAIT_BANK, at(2026, 3, 12, 16, 15), Decision.DEFER)


@pytest.mark.parametrize("mode", MODES)
def test_us_sessions_of_following_days_leave_no_gap(mode: str) -> None:
    tuesday = MODES[mode].market_gate(Market.US, at(2026, 1, 13, 12))
    wednesday = MODES[mode].market_gate(Market.US, tuesday.closes_ms)
    assert (wednesday.open, wednesday.opens_ms, wednesday.date) == (True, tuesday.closes_ms, 20260114)
