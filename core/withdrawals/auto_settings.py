"""The quota of automatic withdrawals, one row per bank and currency (``auto_settings``; channels.md §2, gaps.md A-31).

It is a circuit breaker, not client money: `auto_out` takes a withdrawal's amount from it before the bank is instructed,
once, and whatever the bank says afterwards does not give it back. Only a supervisor's `restore` and the reset every
morning do. Amounts trigger below their threshold, counts when they reach it (B-14). A row that falls below its stop
threshold closes: the withdrawal that did it is still sent, later ones are for people until a supervisor opens it again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import clear_alert, raise_alert
from core.clock import MS_PER_DAY, MS_PER_S, Clock, hkt_date, hkt_midnight_ms
from core.domain import Role
from core.errors import Code, Refusal
from core.jobs.schedules import Daily, moments_of
from core.money import MINOR_PER_MAJOR, show
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Database, Statement, Transaction, UniqueViolation
from core.storage.primary import auto_settings
from core.trace import Trace

RESET = "AutoSettingReset"
STOPPED, ALARM = "AIRSTAR-09", "AIRSTAR-10"
_ROWS = "auto_settings.row."


class Quota(NamedTuple):
    """One row; amounts in minor units, moments epoch milliseconds."""

    bank: str
    ccy: str
    enabled: int
    balance: int
    alarm_amount: int
    stop_amount: int
    alarm_count: int | None
    stop_count: int | None
    day_count: int
    alarm_staff_name: str
    last_alarm_at: int | None
    reset_at: int

    @property
    def key(self) -> str:
        """What alerts and people call it: ``airstar:HKD``."""
        return f"{self.bank}:{self.ccy}"

    @property
    def low(self) -> bool:
        """Whether somebody should know: little is left, or there were many withdrawals today."""
        return self.balance < self.alarm_amount or _reached(self.day_count, self.alarm_count)

    @property
    def spent(self) -> bool:
        """Whether nothing may go on automatically any more."""
        return self.balance < self.stop_amount or _reached(self.day_count, self.stop_count)


def _reached(count: int, threshold: int | None) -> bool:
    return threshold is not None and count >= threshold


_C = auto_settings.c
_THIS = (_C.bank == bindparam("b_bank"), _C.ccy == bindparam("b_ccy"))
_READ = select(*(_C[name] for name in Quota._fields))
EVERY = Statement(_READ.order_by(_C.bank, _C.ccy))
FIND = Statement(_READ.where(*_THIS))
NEW = Statement(insert(auto_settings).values(
    {name: bindparam(name) for name in (*Quota._fields, "created_at", "updated_at")}))
DEDUCT = Statement(update(auto_settings).where(*_THIS, _C.enabled == 1, _C.balance >= bindparam("b_amount")).values(
    balance=_C.balance - bindparam("b_amount"), day_count=_C.day_count + 1, updated_at=bindparam("updated_at")))
"""Guarded: two at once cannot take the same money, and no balance falls below zero."""
MARK = Statement(update(auto_settings).where(*_THIS).values(
    enabled=bindparam("enabled"), last_alarm_at=bindparam("last_alarm_at")))
REFILL = Statement(update(auto_settings).where(*_THIS, _C.reset_at < bindparam("b_since")).values(
    balance=bindparam("balance"), day_count=0, reset_at=bindparam("reset_at"), updated_at=bindparam("reset_at")))
RESTORE = Statement(update(auto_settings).where(
    *_THIS, _C.balance == bindparam("b_balance"), _C.day_count == bindparam("b_count")).values(
    {name: bindparam(name) for name in ("enabled", "balance", "day_count", "updated_at")}))
"""Compare and set: an `auto_out` in between makes it match nothing."""
APPOINT = Statement(update(auto_settings).where(*_THIS).values(
    alarm_staff_name=bindparam("alarm_staff_name"), updated_at=bindparam("updated_at")))
STAFF_NAME_MAX = 32


class AutoSettings:
    """The quotas of one core, in the primary database."""

    def __init__(self, db: Database, clock: Clock, trace: Trace, settings: Settings) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self._interval_ms: int = round(settings["auto_settings.alarm_interval_s"] * MS_PER_S)
        self._reset_ms = moments_of(Daily("auto_settings.reset_at"), settings).times
        self._counts = {name: settings[f"auto_settings.{name}"] for name in ("alarm_count", "stop_count")}
        self._seeds = _seeds(settings)

    async def begin(self) -> None:
        """At a core's start: write the rows that are missing, and make up for a reset that nobody was there for."""
        now = self._clock.now_ms()
        known = {(quota.bank, quota.ccy) for quota in await self.rows()}
        for place, seed in self._seeds.items():
            if place in known:
                continue
            try:
                await self._db.execute(NEW, seed | self._counts | {
                    "enabled": 1, "day_count": 0, "last_alarm_at": None, "reset_at": now, "created_at": now,
                    "updated_at": now})
            except UniqueViolation:
                continue  # another core was quicker
        await self.reset()

    async def rows(self) -> list[Quota]:
        """Every quota, by bank and currency."""
        return [Quota(*row) for row in await self._db.all(EVERY, {})]

    async def find(self, bank: str, ccy: str) -> Quota | None:
        """The quota of a bank and currency, or None."""
        row = await self._db.first(FIND, {"b_bank": bank, "b_ccy": ccy})
        return Quota(*row) if row else None

    async def settings_rows(self) -> list[dict[str, Any]]:
        """The settings page: every quota with what it is filled up to (None: nobody fills it) and whether it is low."""
        return [quota._asdict() | {"full": self._full(quota), "low": quota.low} for quota in await self.rows()]

    def _full(self, quota: Quota) -> int | None:
        seed = self._seeds.get((quota.bank, quota.ccy))
        return seed["balance"] if seed else None

    # Taking

    async def auto_out(self, tx: Transaction, bank: str, ccy: str, amount: int, about: str) -> str:
        """Take a withdrawal's amount, within the caller's transaction; "", or why it goes to people and nothing was
        taken. The caller sees to it that a withdrawal is taken once (CH-BST-02); ``about``: what alerts call it."""
        this = {"b_bank": bank, "b_ccy": ccy}
        taken = await tx.execute(DEDUCT, this | {"b_amount": amount, "updated_at": self._clock.now_ms()})
        row = await tx.first(FIND, this)  # our own transaction holds the row since the UPDATE
        if row is None:
            return f"there is no quota for {bank} {ccy}"
        quota = Quota(*row)
        if taken:
            await self._judge(tx, quota, about)
            return ""
        if not quota.enabled:
            return f"automatic withdrawals of {bank} {ccy} are closed"
        short = f"{about} needs {show(amount, ccy)}"
        await self._mark(tx, quota, alarm=short)
        return f"the quota of {bank} {ccy} has {show(quota.balance, ccy)} left"

    async def _judge(self, tx: Transaction, quota: Quota, about: str) -> None:
        """After a deduction: alarm and close where a threshold was crossed."""
        if quota.spent or quota.low:
            await self._mark(tx, quota, alarm=f"after {about}" if quota.low else "",
                             stop=f"closed by {about}, which is still sent" if quota.spent else "")

    async def _mark(self, tx: Transaction, quota: Quota, *, alarm: str = "", stop: str = "") -> None:
        """Close the row (``stop``: why), and alarm its recipient unless he heard of this row within the interval."""
        now = self._clock.now_ms()
        last = quota.last_alarm_at
        due = bool(alarm) and (last is None or now - last >= self._interval_ms)
        if not due and not stop:
            return
        await tx.execute(MARK, {"b_bank": quota.bank, "b_ccy": quota.ccy, "enabled": 0 if stop else quota.enabled,
                                "last_alarm_at": now if due else last})
        if due:
            self._tell(tx, ALARM, quota, alarm)
        if stop:
            self._tell(tx, STOPPED, quota, stop)

    def _tell(self, tx: Transaction, rule: str, quota: Quota, why: str) -> None:
        detail = (f"to {quota.alarm_staff_name}: {quota.bank} {quota.ccy} has {show(quota.balance, quota.ccy)} left, "
                  f"{quota.day_count} withdrawals today; {why}")
        tx.after_commit(lambda: raise_alert(self._trace, rule, quota.key, detail))

    # Giving back

    async def reset(self) -> int:
        """AutoSettingReset: balances full and counts zero, once after each reset time; how many rows were. A closed row
        stays closed: opening it is a supervisor's act (B-30)."""
        now = self._clock.now_ms()
        since = self._last_reset_ms(now)
        done = 0
        for before in await self.rows():
            full = self._full(before)
            if full is None or before.reset_at >= since:
                continue
            async with self._db.transaction() as tx:
                done += await tx.execute(REFILL, {"b_bank": before.bank, "b_ccy": before.ccy, "b_since": since,
                                                  "balance": full, "reset_at": now})
                self._over(tx, before, before._replace(balance=full, day_count=0), "daily reset")
        return done

    def _last_reset_ms(self, now: int) -> int:
        """The latest reset time that is not in the future."""
        midnight = hkt_midnight_ms(hkt_date(now))
        return max(at for day in (midnight - MS_PER_DAY, midnight) for at in (day + ms for ms in self._reset_ms)
                   if at <= now)

    async def restore(
        self, bank: str, ccy: str, by: Actor, amount: int | None = None, *, shown: int | None = None
    ) -> Quota | Refusal:
        """A supervisor gives quota back and opens the row: ``amount`` minor units, or up to full with the count of the
        day at zero. ``shown``: the balance he saw; if it is another one by now he is told so, and nothing changes."""
        made = await self._restored(bank, ccy, by, amount, shown)
        self._trace_act("RestoreQuota", f"{bank}:{ccy}", by, made)
        return made

    async def _restored(
        self, bank: str, ccy: str, by: Actor, amount: int | None, shown: int | None
    ) -> Quota | Refusal:
        if refusal := _only_supervisors("RestoreQuota", by):
            return refusal
        before = await self.find(bank, ccy)
        if before is None:
            return Refusal(Code.NOT_FOUND, f"no quota for {bank} {ccy}")
        if shown not in (None, before.balance):
            return Refusal(Code.VERSION_CONFLICT, f"the balance is {show(before.balance, ccy)} now: refresh")
        after = self._given_back(before, amount)
        if isinstance(after, Refusal):
            return after
        async with self._db.transaction() as tx:
            if not await tx.execute(RESTORE, {
                    "b_bank": bank, "b_ccy": ccy, "b_balance": before.balance, "b_count": before.day_count,
                    "enabled": 1, "balance": after.balance, "day_count": after.day_count,
                    "updated_at": self._clock.now_ms()}):
                return Refusal(Code.VERSION_CONFLICT, "a withdrawal was taken at this moment: refresh")
            self._over(tx, before, after, f"restored by {by.id}")
        return after

    def _given_back(self, before: Quota, amount: int | None) -> Quota | Refusal:
        full = self._full(before)
        if amount is None:
            if full is None:
                return Refusal(Code.INVALID_PARAM, f"{before.key} has no full balance in the settings: give an amount")
            return before._replace(enabled=1, balance=full, day_count=0)
        if amount <= 0:
            return Refusal(Code.INVALID_PARAM, f"amount {amount}: positive minor units")
        after = before._replace(enabled=1, balance=before.balance + amount)
        if full is not None and after.balance > full:
            return Refusal(Code.INVALID_PARAM, f"{show(after.balance, before.ccy)} would be more than the full "
                                               f"{show(full, before.ccy)}: restore to full")
        if after.spent:
            return Refusal(Code.INVALID_PARAM, f"{before.key} would close again with the next withdrawal: "
                                               f"restore more, or to full")
        return after

    def _over(self, tx: Transaction, before: Quota, after: Quota, why: str) -> None:
        """Alerts that this ends."""
        if after.enabled and not before.enabled:
            tx.after_commit(lambda: clear_alert(self._trace, STOPPED, before.key, why))
        if before.low and before.last_alarm_at is not None and not after.low:
            tx.after_commit(lambda: clear_alert(self._trace, ALARM, before.key, why))

    # Whom to tell

    async def set_alarm_staff(self, bank: str, ccy: str, name: str, by: Actor) -> Quota | Refusal:
        """setAlarmStaff(): who hears of the row from the next alert on (CH-BST-07)."""
        made = await self._appointed(bank, ccy, name.strip(), by)
        self._trace_act("SetAlarmStaff", f"{bank}:{ccy}", by, made)
        return made

    async def _appointed(self, bank: str, ccy: str, name: str, by: Actor) -> Quota | Refusal:
        if refusal := _only_supervisors("SetAlarmStaff", by):
            return refusal
        if not 1 <= len(name) <= STAFF_NAME_MAX or not name.isprintable():
            return Refusal(Code.INVALID_PARAM, f"alarm_staff_name: 1 to {STAFF_NAME_MAX} printable characters")
        if not await self._db.execute(APPOINT, {"b_bank": bank, "b_ccy": ccy, "alarm_staff_name": name,
                                                "updated_at": self._clock.now_ms()}):
            return Refusal(Code.NOT_FOUND, f"no quota for {bank} {ccy}")
        quota = await self.find(bank, ccy)
        assert quota is not None, (bank, ccy)
        return quota

    def _trace_act(self, action: str, subject: str, by: Actor, made: Quota | Refusal) -> None:
        self._trace.emit("staff", by.id, {
            "operator": by.id, "role": by.role, "action": action, "subject": subject,
            "result": made.code.name if isinstance(made, Refusal) else Code.OK.name})


def _only_supervisors(action: str, by: Actor) -> Refusal | None:
    if by.role is Role.SUPERVISOR:
        return None
    return Refusal(Code.FORBIDDEN, f"{action} needs role {Role.SUPERVISOR}, {by.id} has {by.role}")


def _seeds(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """(bank, ccy) -> the row that the settings give, amounts in minor units."""
    seeds: dict[tuple[str, str], dict[str, Any]] = {}
    for key in settings:
        if key.startswith(_ROWS):
            bank, ccy, name = key.removeprefix(_ROWS).split(".")
            value = settings[key] * MINOR_PER_MAJOR if name != "alarm_staff_name" else settings[key]
            seeds.setdefault((bank, ccy), {"bank": bank, "ccy": ccy})[name] = value
    return seeds
