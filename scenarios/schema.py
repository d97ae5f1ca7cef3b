"""The shape of a scenario file.

A scenario is data that a product manager can read: when it begins and ends (Hong Kong time), who the customers
are, what they do, which faults occur, what staff do, and what must be true at the end. Unknown keys are errors;
every name (channel, fault, setting, state, job, rule …) is looked up in `Names`, so that a typo is an error.

Values are converted while they are read. In a model, therefore:

* a moment is epoch milliseconds; a duration is milliseconds; an amount is minor units;
* a share is a float from 0 to 1; a map of shares adds up to 1;
* a transaction date is an int such as 20260316.

`Names` is handed in by whoever loads (``scenarios.reading.load``); this file knows no bank, job or fault by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.clock import HKT, MS_PER_DAY, epoch_ms, show_time, yyyymmdd
from core.domain import ApplyStatus, DebitState, EddaStatus, JobState, MandateStatus, Role, TaskStatus
from core.domain import Market as TradedMarket
from core.errors import Code
from core.money import MINOR_PER_MAJOR, Currency

MAX_CUSTOMERS = 1_000_000
MAX_ARRIVALS = 10_000_000
MAX_DURATION_MS = 400 * MS_PER_DAY
MAX_MINOR = 10**15
MAX_WEIGHT = 1e9

OPEN = "open"
ENDED = "ended"

# --- Names: what the caller knows -----------------------------------------------------------------------------------

ParameterKind = Literal["text", "integer", "number", "flag", "duration", "amount", "moment"]


class Parameter(NamedTuple):
    """One parameter of a fault or of an operation. ``one_of`` lists the words a text may be."""

    kind: ParameterKind
    required: bool = False
    one_of: tuple[str, ...] = ()


class Operation(NamedTuple):
    """Something staff can do: on what (``deposit``, ``withdrawal``, ``either``, ``nothing``), with which parameters."""

    on: Literal["deposit", "withdrawal", "either", "nothing"]
    parameters: Mapping[str, Parameter] = {}


@dataclass(frozen=True, slots=True)
class Names:
    """Every name a scenario may use. The caller builds it from the tables of the core and of the emulators."""

    markets: Mapping[str, tuple[str, ...]]
    """Market -> currencies it takes; the first market that takes a currency is the currency's home."""
    deposit_channels: Mapping[str, str]
    """Channel key -> bank whose card the customer needs."""
    withdrawal_channels: Mapping[str, str]
    settings: Mapping[str, Any]
    """Dotted key -> default value; its type is the type an overlay must have."""
    faults: Mapping[str, Mapping[str, Parameter]]
    operations: Mapping[str, Operation]
    deposit_states: tuple[str, ...]
    withdrawal_states: tuple[str, ...]
    jobs: tuple[str, ...]
    alert_rules: tuple[str, ...]
    bank_currencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Bank -> the currencies it carries in bank-securities transfers (gaps.md B-17); a bank not named carries all."""
    statement_banks: tuple[str, ...] = ()
    """Banks to which customers transfer by themselves, and whose statements are collected and matched."""
    receiving: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Statement bank -> the currencies in which we have an account there."""
    residents: tuple[str, ...] = ()
    """Banks that are in every world, whether anybody has a card there or not."""
    exit_server_banks: tuple[str, ...] = ()
    """Banks that are reached over a primary and a backup exit server."""
    entry_states: tuple[str, ...] = ()
    """Statuses of a statement entry (gaps.md B-02); empty: any word."""
    debit_channels: tuple[str, ...] = ()
    """Deposit channels by direct debit."""
    unaimed: tuple[str, ...] = ()
    """Faults that strike whole lines: neither one customer's nor one direction's."""
    bank_operations: tuple[str, ...] = ("collect", "pay", "refund_collect", "return_pay")
    reasons: tuple[str, ...] = ()
    """Terminal reasons (gaps.md B-02); empty: any word."""
    notices: tuple[str, ...] = ()
    """Customer notifications (gaps.md B-38); empty: any word."""
    calendars: tuple[str, ...] = tuple(market.name for market in TradedMarket)
    currencies: tuple[str, ...] = tuple(Currency)
    roles: tuple[str, ...] = tuple(Role)
    mandates: tuple[str, ...] = tuple(status.name for status in MandateStatus)
    debit_states: tuple[str, ...] = tuple(state.value for state in DebitState)
    authorisation_states: tuple[str, ...] = tuple(status.name for status in EddaStatus)
    application_states: tuple[str, ...] = tuple(status.name for status in ApplyStatus)
    task_states: tuple[str, ...] = tuple(status.name for status in TaskStatus)
    job_states: tuple[str, ...] = tuple(state.name for state in JobState)
    refusal_codes: tuple[str, ...] = tuple(code.name for code in Code)

    @property
    def banks(self) -> tuple[str, ...]:
        """Banks at which a customer can hold a card. Card numbers and ids rest on this order: new ones come last."""
        return tuple(dict.fromkeys((*self.withdrawal_channels.values(), *self.deposit_channels.values())))

    def carries(self, bank: str, ccy: str) -> bool:
        """Whether a bank takes this currency."""
        return ccy in self.bank_currencies.get(bank, (ccy,))

    @property
    def channels(self) -> tuple[str, ...]:
        """All channel keys."""
        return tuple(dict.fromkeys((*self.deposit_channels, *self.withdrawal_channels)))

    @property
    def latency_channels(self) -> tuple[str, ...]:
        """The labels under which a run reports latency: ``airstar deposit``, ``hsbc withdrawal`` …"""
        return (*(f"{key} deposit" for key in self.deposit_channels),
                *(f"{key} withdrawal" for key in self.withdrawal_channels))

    @property
    def counted_deposit_states(self) -> tuple[str, ...]:
        """Labels for counting deposits: each state, and the two words for all open and all ended ones."""
        return (*self.deposit_states, OPEN, ENDED)

    @property
    def counted_withdrawal_states(self) -> tuple[str, ...]:
        """Labels for counting withdrawals."""
        return (*self.withdrawal_states, OPEN, ENDED)

    @property
    def procedure_states(self) -> tuple[str, ...]:
        """Labels of both machines."""
        return tuple(dict.fromkeys((*self.withdrawal_states, *self.deposit_states)))

    def home_market(self, ccy: str) -> str | None:
        """The first market that takes the currency."""
        return next((market for market, taken in self.markets.items() if ccy in taken), None)


@dataclass(frozen=True, slots=True)
class Context:
    """What the values of one file are read against; ``start_ms`` or ``end_ms`` is None if that time is not readable."""

    names: Names
    start_ms: int | None = None
    end_ms: int | None = None
    customers: tuple[str, ...] = ()
    population: int = 0


def wrong(what: str, remedy: str = "", allowed: tuple[str, ...] = (), got: str = "") -> PydanticCustomError:
    """A value that cannot be accepted, in words; ``allowed`` and ``got`` let the reader offer the nearest names."""
    return PydanticCustomError(
        "scenario", "{what}", {"what": what, "remedy": remedy, "allowed": list(allowed), "got": got})


def _context(info: ValidationInfo) -> Context:
    assert isinstance(info.context, Context), "scenarios are read by scenarios.reading"
    return info.context


# --- Values ---------------------------------------------------------------------------------------------------------

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": MS_PER_DAY}
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,3})?)?"
_SPAN = r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|s|m|h|d))+"
FULL_PATTERN = rf"^{_DAY}[ T]{_TIME}$"
MOMENT_PATTERN = rf"^(?:(?:{_DAY}[ T])?{_TIME}|\+{_SPAN})$"
DURATION_PATTERN = rf"^{_SPAN}$"
AMOUNT_PATTERN = r"^[0-9][0-9,]{0,15}(?:\.[0-9]{1,2})?$"
PERCENT_PATTERN = r"^[0-9]{1,3}(?:\.[0-9]{1,6})?%$"
DATE_PATTERN = r"^(?:[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})$"
_TEXT_ID = r"^[a-z][a-z0-9_]{0,39}$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_AMOUNT_REMEDY = "write major units from 0 up, such as 250000 or '1,234.50'"
_TIME_REMEDY = "write '2026-03-12 10:00', '10:00' (on the start day) or '+2h' (after the start), Hong Kong time"


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and "\n" not in value and re.search(pattern, value) is not None


def duration_ms(value: Any) -> int:
    """``10m``, ``90s``, ``1h30m``, ``250ms`` -> milliseconds."""
    if not _matches(DURATION_PATTERN, value):
        raise wrong(f"{value!r} is not a duration", "write a number with ms, s, m, h or d, such as 90s, 10m or 1h30m")
    total = round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    if total > MAX_DURATION_MS:
        raise wrong(f"{value} is too long", "a run lasts at most 400 days")
    return total


def full_moment_ms(value: Any) -> int:
    """``2026-03-12 00:00`` (Hong Kong time) -> epoch milliseconds."""
    if not _matches(FULL_PATTERN, value):
        raise wrong(f"{value!r} is not a date with a time", "write it in full, such as '2026-03-12 00:00'")
    day, time = re.split("[ T]", value)
    try:
        moment = datetime.fromisoformat(f"{day} {time if time[1] != ':' else '0' + time}")
        return epoch_ms(moment.replace(tzinfo=HKT))
    except (ValueError, OverflowError):
        raise wrong(f"{value!r} is not in the calendar", "check the day and the time") from None


def moment_ms(value: Any, start_ms: int) -> int:
    """A moment in one of its three forms -> epoch milliseconds."""
    if not _matches(MOMENT_PATTERN, value):
        raise wrong(f"{value!r} is not a time", _TIME_REMEDY)
    if value.startswith("+"):
        return start_ms + duration_ms(value[1:])
    if "-" in value:
        return full_moment_ms(value)
    return full_moment_ms(f"{show_time(start_ms)[:10]} {value}")


def _moment(value: Any, info: ValidationInfo) -> int:
    context = _context(info)
    if context.start_ms is None:
        return moment_ms(value, 0)
    at = moment_ms(value, context.start_ms)
    if at < context.start_ms or at > (context.end_ms or at):
        last = show_time(context.end_ms or at)[:-4]
        raise wrong(f"{value} is outside the run ({show_time(context.start_ms)[:-4]} to {last})",
                    "add the date, or move the start or the end")
    return at


def _end(value: Any, info: ValidationInfo) -> int:
    start = _context(info).start_ms
    at = moment_ms(value, start or 0)
    if start is not None and not start < at <= start + MAX_DURATION_MS:
        raise wrong(f"{value} is not after the start, or more than 400 days after it", "check the dates")
    return at


def _known_moment(value: Any, info: ValidationInfo) -> int:
    """A moment that may lie before the start."""
    return moment_ms(value, _context(info).start_ms or 0)


def amount_minor(value: Any) -> int:
    """``"1,234.50"`` or ``1234`` (major units) -> minor units."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_MINOR // MINOR_PER_MAJOR:
            raise wrong(f"{value} is not an amount of money", _AMOUNT_REMEDY)
        return value * MINOR_PER_MAJOR
    if isinstance(value, float):
        raise wrong(f"{value!r} is a fraction in binary, not an amount of money", f"put it in quotes: '{value:.2f}'")
    if not _matches(AMOUNT_PATTERN, value):
        raise wrong(f"{value!r} is not an amount of money", _AMOUNT_REMEDY)
    whole, _, cents = value.replace(",", "").partition(".")
    return int(whole) * MINOR_PER_MAJOR + int((cents + "00")[:2])


def trading_date(value: Any) -> int:
    """``2026-03-16`` or ``20260316`` -> 20260316."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if _matches(DATE_PATTERN, text):
        try:
            return yyyymmdd(date.fromisoformat(text))
        except ValueError:
            raise wrong(f"{value} is not in the calendar", "check the day") from None
    raise wrong(f"{value!r} is not a date", "write 2026-03-16 or 20260316")


class Quantity(NamedTuple):
    """A number of things, or a percentage of all of them."""

    value: float
    percent: bool


def quantity(value: Any) -> Quantity:
    """``1900`` or ``95%``."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ARRIVALS:
        return Quantity(value, False)
    if _matches(PERCENT_PATTERN, value):
        return Quantity(float(value[:-1]), True)
    raise wrong(f"{value!r} is neither a count nor a percentage", "write a whole number such as 1900, or '95%'")


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ARRIVALS:
        return value
    raise wrong(f"{value!r} is not a count", "write a whole number, such as 1")


def look_up(value: Any, allowed: tuple[str, ...], what: str) -> str:
    """The value if it is one of the allowed names (or any text when none are listed)."""
    if not isinstance(value, str):
        raise wrong(f"{value!r} is not the name of a {what}", "", allowed, str(value))
    if allowed and value not in allowed:
        raise wrong(f"there is no {what} {value!r}", "", allowed, value)
    return value


def allowed_names(names: Names, group: str) -> tuple[str, ...]:
    """The names of a group, in their order."""
    return tuple(getattr(names, group))


def _name(group: str, what: str) -> Any:
    """The validator and the JSON Schema marker of a looked-up name."""

    def check(value: Any, info: ValidationInfo) -> str:
        return look_up(value, allowed_names(_context(info).names, group), what)

    return PlainValidator(check)


def _named(group: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "names": group})


def _customer(value: Any, info: ValidationInfo) -> str | int:
    context = _context(info)
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < context.population:
            return value
        raise wrong(f"there is no customer number {value}",
                    f"the population has {context.population} customers, numbered from 0")
    return look_up(value, context.customers or ("",), "customer")


def _shares(value: dict[str, float]) -> dict[str, float]:
    total = math.fsum(value.values())
    if abs(total - 1) > 1e-6:
        raise wrong(f"the shares add up to {total:g}, not to 1", "change one of them")
    return value


def _identifier(value: Any) -> str:
    if _matches(_TEXT_ID, value):
        return str(value)
    raise wrong(f"{value!r} is not a short name", "write up to 40 small letters, digits and _, beginning with a letter")


_HOUR = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?", re.ASCII)
HOUR_PATTERN = r"^[0-9]{1,2}(?:-[0-9]{1,2})?$"


def _hour_range(key: str) -> range:
    match = _HOUR.fullmatch(key)
    first = int(match[1]) if match else 24
    last = int(match[2]) if match and match[2] else first + 1
    if not 0 <= first < last <= 24:
        raise wrong(f"{key!r} is not an hour of the day", "write 9 (from 9 to 10 o'clock) or 9-12, within 0-24")
    return range(first, last)


def hour_weights(value: Any) -> tuple[float, ...]:
    """A profile by name, or ``{9: 3, 10-12: 5}`` -> 24 weights by Hong Kong hour."""
    if isinstance(value, str):
        return HOUR_PROFILES[look_up(value, tuple(HOUR_PROFILES), "hour profile")]
    if not isinstance(value, dict) or not value:
        raise wrong(f"{value!r} does not say when", "name a profile or give weights by hour, such as {9: 3, 10-12: 5}",
                    tuple(HOUR_PROFILES))
    weights: dict[int, float] = {}
    for key, weight in value.items():
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= MAX_WEIGHT:
            raise wrong(f"the weight {weight!r} of hour {key} is not a number from 0 up", "write a number")
        for hour in _hour_range(key):
            if hour in weights:
                raise wrong(f"hour {hour} has two weights", "let the hours not overlap")
            weights[hour] = float(weight)
    if not any(weights.values()):
        raise wrong("every hour has the weight 0", "give at least one hour a weight")
    return tuple(weights.get(hour, 0.0) for hour in range(24))


def _day(*pairs: tuple[range, float]) -> tuple[float, ...]:
    """24 weights from (hours, weight) pairs; hours not named have none."""
    return tuple(next((weight for hours, weight in pairs if hour in hours), 0.0) for hour in range(24))


HOUR_PROFILES: dict[str, tuple[float, ...]] = {
    # Retail money follows the Hong Kong session: before the opening, after lunch, before the close, then the evening.
    "trading_day": _day((range(0, 7), 0.2), (range(7, 8), 1), (range(8, 9), 5), (range(9, 10), 10), (range(10, 12), 8),
                        (range(12, 13), 5), (range(13, 15), 7), (range(15, 16), 8), (range(16, 17), 5),
                        (range(17, 20), 3), (range(20, 22), 4), (range(22, 24), 1)),
    "session": _day((range(9, 16), 1)),
    "office_hours": _day((range(9, 18), 1)),
    "evening": _day((range(18, 23), 1)),
    "round_the_clock": _day((range(0, 24), 1)),
}
"""Arrivals by Hong Kong hour (relative weights): assumptions of this file, named by scenarios."""

# --- Annotated types ------------------------------------------------------------------------------------------------

FullMoment = Annotated[int, PlainValidator(full_moment_ms), WithJsonSchema({"type": "string", "pattern": FULL_PATTERN})]
EndMoment = Annotated[int, PlainValidator(_end), WithJsonSchema({"type": "string", "pattern": MOMENT_PATTERN})]
Moment = Annotated[int, PlainValidator(_moment), WithJsonSchema({"type": "string", "pattern": MOMENT_PATTERN})]
KnownMoment = Annotated[
    int, PlainValidator(_known_moment), WithJsonSchema({"type": "string", "pattern": MOMENT_PATTERN})]
Duration = Annotated[int, PlainValidator(duration_ms), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})]
Amount = Annotated[int, PlainValidator(amount_minor), WithJsonSchema({"anyOf": [
    {"type": "integer", "minimum": 0}, {"type": "string", "pattern": AMOUNT_PATTERN}]})]
TradingDate = Annotated[int, PlainValidator(trading_date), WithJsonSchema({"anyOf": [
    {"type": "integer", "minimum": 1_000_101, "maximum": 99_991_231}, {"type": "string", "pattern": DATE_PATTERN}]})]
Quantified = Annotated[Quantity, PlainValidator(quantity), WithJsonSchema({"anyOf": [
    {"type": "integer", "minimum": 0}, {"type": "string", "pattern": PERCENT_PATTERN}]})]
Count = Annotated[int, PlainValidator(_count), WithJsonSchema({"type": "integer", "minimum": 0})]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Hours = Annotated[tuple[float, ...], PlainValidator(hour_weights), WithJsonSchema({"anyOf": [
    {"type": "string", "enum": list(HOUR_PROFILES)},
    {"type": "object", "minProperties": 1, "additionalProperties": False,
     "patternProperties": {HOUR_PATTERN: {"type": "number", "minimum": 0}}}]})]

Market = Annotated[str, _name("markets", "market"), _named("markets")]
Calendar = Annotated[str, _name("calendars", "calendar"), _named("calendars")]
Ccy = Annotated[str, _name("currencies", "currency"), _named("currencies")]
Bank = Annotated[str, _name("banks", "bank with cards"), _named("banks")]
Mandate = Annotated[str, _name("mandates", "mandate status"), _named("mandates")]
Channel = Annotated[str, _name("channels", "channel"), _named("channels")]
DepositChannel = Annotated[str, _name("deposit_channels", "deposit channel"), _named("deposit_channels")]
WithdrawalChannel = Annotated[str, _name("withdrawal_channels", "withdrawal channel"), _named("withdrawal_channels")]
FaultName = Annotated[str, _name("faults", "fault"), _named("faults")]
OperationName = Annotated[str, _name("operations", "operation"), _named("operations")]
RoleName = Annotated[str, _name("roles", "role"), _named("roles")]
ExitServerBank = Annotated[
    str, _name("exit_server_banks", "bank with exit servers"), _named("exit_server_banks")]
StatementBank = Annotated[
    str, _name("statement_banks", "bank whose statements are collected"), _named("statement_banks")]
DebitChannel = Annotated[
    str, _name("debit_channels", "channel of direct debits"), _named("debit_channels")]
DebitStateName = Annotated[str, _name("debit_states", "state of a direct debit"), _named("debit_states")]
AuthorisationState = Annotated[
    str, _name("authorisation_states", "status of an authorisation"), _named("authorisation_states")]
EntryState = Annotated[str, _name("entry_states", "status of a statement entry"), _named("entry_states")]
JobName = Annotated[str, _name("jobs", "job"), _named("jobs")]
JobStateName = Annotated[str, _name("job_states", "job state"), _named("job_states")]
AlertRule = Annotated[str, _name("alert_rules", "alert rule"), _named("alert_rules")]
Reason = Annotated[str, _name("reasons", "reason"), _named("reasons")]
Notice = Annotated[str, _name("notices", "notification"), _named("notices")]
RefusalCode = Annotated[str, _name("refusal_codes", "refusal code"), _named("refusal_codes")]
BankOperation = Annotated[str, _name("bank_operations", "operation of a bank's book"), _named("bank_operations")]
ApplicationState = Annotated[
    str, _name("application_states", "application status"), _named("application_states")]
TaskState = Annotated[str, _name("task_states", "task status"), _named("task_states")]
ProcedureState = Annotated[str, _name("procedure_states", "state"), _named("procedure_states")]
DepositState = Annotated[
    str, _name("counted_deposit_states", "deposit state"), _named("counted_deposit_states")]
WithdrawalState = Annotated[
    str, _name("counted_withdrawal_states", "withdrawal state"), _named("counted_withdrawal_states")]
LatencyChannel = Annotated[str, _name("latency_channels", "latency channel"), _named("latency_channels")]
Customer = Annotated[str | int, PlainValidator(_customer), WithJsonSchema({"anyOf": [
    {"type": "string", "pattern": _TEXT_ID}, {"type": "integer", "minimum": 0}]})]

Identifier = Annotated[str, PlainValidator(_identifier), WithJsonSchema({"type": "string", "pattern": _TEXT_ID})]

By = Literal["app", "bank"]
Stage = Literal["transfer", "retrieval", "matching", "crediting"]
CcyShares = Annotated[dict[Ccy, Share], Field(min_length=1), AfterValidator(_shares)]
MarketShares = Annotated[dict[Market, Share], Field(min_length=1), AfterValidator(_shares)]
ByShares = Annotated[dict[By, Share], Field(min_length=1), AfterValidator(_shares)]
MandateShares = Annotated[dict[Mandate, Share], Field(min_length=1), AfterValidator(_shares)]

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Strict(BaseModel):
    """A mapping of the file: every key known, every value of its type."""

    model_config = STRICT


# --- Population -----------------------------------------------------------------------------------------------------


class Spread(Strict):
    """A lognormal distribution by its median and its 99th percentile (amounts)."""

    median: Amount
    p99: Amount

    @model_validator(mode="after")
    def _rising(self) -> Spread:
        if not 0 < self.median <= self.p99:
            raise wrong("the median must be above 0 and not above the p99", "check the two amounts")
        return self


class Holding(Strict):
    """How much of a currency customers hold, and which share of them hold any."""

    median: Amount
    p99: Amount
    held_by: Share = 1.0

    @model_validator(mode="after")
    def _rising(self) -> Holding:
        if not 0 < self.median <= self.p99:
            raise wrong("the median must be above 0 and not above the p99", "check the two amounts")
        return self


class Population(Strict):
    """Customers drawn at random. ``cards``: share of them with a card at a bank. ``at_bank``: what lies at each bank
    where the customer has a card. ``mandate``: the authorization at each of them; at CMB and CMBC OPEN is signed, all
    else not signed; for direct debits OPEN, SUSPENDED and CLOSED are, and all else means that there is none."""

    customers: int = Field(ge=1, le=MAX_CUSTOMERS)
    balances: dict[Ccy, Holding] = {}
    at_bank: dict[Ccy, Holding] = {}
    cards: dict[Bank, Share] = {}
    mandate: MandateShares = {"OPEN": 1.0}


class NamedCustomer(Strict):
    """A customer the scenario speaks about by name; ``at_bank`` and ``mandate`` as for a population."""

    id: Identifier
    balances: dict[Ccy, Amount] = {}
    at_bank: dict[Ccy, Amount] = {}
    cards: list[Bank] = []
    mandate: Mandate = "OPEN"


# --- Workload -------------------------------------------------------------------------------------------------------


class OfBalance(Strict):
    """An amount as a share of what the customer has."""

    at_least: Share = Field(alias="from", default=0.0)
    at_most: Share = Field(alias="to", default=1.0)

    @model_validator(mode="after")
    def _rising(self) -> OfBalance:
        if not self.at_least <= self.at_most or self.at_most == 0:
            raise wrong("'from' must not be above 'to', and 'to' must be above 0", "check the two shares")
        return self


class AmountOfBalance(Strict):
    """``amount: {of_balance: {from: 0.05, to: 0.5}}``."""

    of_balance: OfBalance


def _amount_kind(value: Any) -> str:
    return "<of balance>" if isinstance(value, dict) and "of_balance" in value else "<by currency>"


Amounts = Annotated[
    Annotated[AmountOfBalance, Tag("<of balance>")]
    | Annotated[dict[Ccy, Spread], Field(min_length=1), Tag("<by currency>")],
    Discriminator(_amount_kind),
]


class Flow(BaseModel):
    """Random arrivals of one kind on one channel.

    The count is exact; times are a Poisson process conditioned on it, with the intensity of ``hours``. Amounts are
    capped at what the customer has by plan unless ``affordable`` is false. ``round_numbers`` is the share of
    amounts that people round to two digits (23,000 instead of 23,417.55).
    """

    model_config = STRICT
    name: Identifier = ""
    count: int = Field(ge=1, le=MAX_ARRIVALS)
    by: ByShares = {"app": 1.0}
    ccy: CcyShares
    market: MarketShares | None = None
    amount: Amounts
    round_numbers: Share = 0.6
    affordable: bool = True
    hours: Hours = HOUR_PROFILES["trading_day"]
    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class DepositFlow(Flow):
    """Deposits."""

    channel: DepositChannel


class WithdrawalFlow(Flow):
    """Withdrawals."""

    channel: WithdrawalChannel


class Movement(Strict):
    """One deposit or withdrawal. ``by: bank``: the customer began it at the bank; at a statement bank that is a
    transfer that no application announces. Market: the currency's home.

    Of a deposit at a statement bank only: ``transfers``, what is really transferred (0: nothing), where that is not
    ``amount``; ``payer``, the name that the statement shows ("" for none), where it is not the customer's; ``after``,
    how long after the application the transfer is made.
    """

    customer: Customer
    channel: Channel
    ccy: Ccy
    market: Market | None = None
    amount: Amount
    by: By = "app"
    transfers: Amount | None = None
    payer: str | None = Field(default=None, max_length=140)
    after: Duration | None = None

    @field_validator("amount")
    @classmethod
    def _something(cls, value: int) -> int:
        if value == 0:
            raise wrong("0 moves nothing", "write an amount above 0, such as '1,234.50'")
        return value


class RecordedDeposit(Strict):
    """A deposit at a moment."""

    at: Moment
    deposit: Movement


class RecordedWithdrawal(Strict):
    """A withdrawal at a moment."""

    at: Moment
    withdraw: Movement


class Authorisation(Strict):
    """A customer without an authorisation for direct debits asks for one in the App."""

    customer: Customer
    channel: DebitChannel


class RecordedAuthorisation(Strict):
    """An authorisation asked for at a moment."""

    at: Moment
    authorise: Authorisation


class Deposits(Strict):
    """``- deposits: {…}``."""

    deposits: DepositFlow


class Withdrawals(Strict):
    """``- withdrawals: {…}``."""

    withdrawals: WithdrawalFlow


def _one_of(*keys: str) -> Discriminator:
    """Choose among single-key mappings by the key that is present."""

    def chosen(value: Any) -> str | None:
        present = [key for key in keys if isinstance(value, dict) and key in value]
        return f"<{present[0]}>" if len(present) == 1 else None

    what = f"this needs exactly one of: {', '.join(keys)}"
    return Discriminator(chosen, "scenario", "{what}", {"what": what, "remedy": "keep one of them"})


Record = Annotated[
    Annotated[RecordedDeposit, Tag("<deposit>")] | Annotated[RecordedWithdrawal, Tag("<withdraw>")]
    | Annotated[RecordedAuthorisation, Tag("<authorise>")],
    _one_of("deposit", "withdraw", "authorise"),
]


class Recorded(Strict):
    """``- recorded: […]``: a given list."""

    recorded: list[Record] = Field(max_length=MAX_ARRIVALS)


class RecordedIn(Strict):
    """``- recorded_in: file.jsonl``: the same list, one JSON object per line, beside the scenario. Read at loading."""

    recorded_in: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*\.jsonl$")


Workload = Annotated[
    Annotated[Deposits, Tag("<deposits>")] | Annotated[Withdrawals, Tag("<withdrawals>")]
    | Annotated[Recorded, Tag("<recorded>")] | Annotated[RecordedIn, Tag("<recorded_in>")],
    _one_of("deposits", "withdrawals", "recorded", "recorded_in"),
]

# --- Faults, staff, calendar ----------------------------------------------------------------------------------------


class Target(Strict):
    """The n-th deposit or withdrawal of a customer, counted from 1."""

    customer: Customer
    deposit: int | None = Field(default=None, ge=1, le=MAX_ARRIVALS)
    withdrawal: int | None = Field(default=None, ge=1, le=MAX_ARRIVALS)

    @model_validator(mode="after")
    def _one(self) -> Target:
        if (self.deposit is None) == (self.withdrawal is None):
            raise wrong("a target is one deposit or one withdrawal", "write deposit: 1 or withdrawal: 1")
        return self

    @property
    def kind(self) -> Literal["deposit", "withdrawal"]:
        """What it is."""
        return "withdrawal" if self.deposit is None else "deposit"

    @property
    def nth(self) -> int:
        """Which one, from 1."""
        return self.deposit or self.withdrawal or 0

    def __str__(self) -> str:
        return f"{self.kind} {self.nth} of {self.customer}"


class Only(Strict):
    """Restricts a fault to one customer, one direction, or both."""

    customer: Customer | None = None
    kind: Literal["deposit", "withdrawal"] | None = None


class Fault(Strict):
    """An injected fault: from ``at`` for ``for`` (else to the end), at most ``times`` occurrences, a ``share`` of them.

    ``with`` holds the fault's own parameters, converted (durations to ms, amounts to minor units).
    """

    at: Moment
    lasts: Duration | None = Field(default=None, alias="for")
    inject: FaultName
    only: Only | None = None
    share: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    times: int | None = Field(default=None, ge=1, le=MAX_ARRIVALS)
    parameters: dict[str, Any] = Field(default={}, alias="with", validate_default=True)

    @field_validator("parameters", mode="before")
    @classmethod
    def _with(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("inject")
        return converted(value, name, _context(info).names.faults[name], info) if name else value


class SomeTime(Strict):
    """A duration drawn evenly between two."""

    at_least: Duration = Field(alias="from")
    at_most: Duration = Field(alias="to")

    @model_validator(mode="after")
    def _rising(self) -> SomeTime:
        if self.at_least > self.at_most:
            raise wrong("'from' is longer than 'to'", "swap them")
        return self


class Action(Strict):
    """What one member of staff does at a moment."""

    at: Moment
    by: RoleName
    do: OperationName
    on: Target | None = None
    parameters: dict[str, Any] = Field(default={}, alias="with", validate_default=True)

    @field_validator("parameters", mode="before")
    @classmethod
    def _with(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("do")
        return converted(value, name, _context(info).names.operations[name].parameters, info) if name else value


class Staff(Strict):
    """Who is at work, and what is done at given moments. Times left out come from the settings (gaps.md B-45)."""

    reviewers: int = Field(default=0, ge=0, le=10_000)
    transfer_officers: int = Field(default=0, ge=0, le=10_000)
    supervisors: int = Field(default=0, ge=0, le=1_000)
    review: SomeTime | None = None
    transfer: SomeTime | None = None
    forgets: Share | None = None
    actions: list[Action] = []


class Override(Strict):
    """A day that is closed (or open) against the calendar, known from a moment on."""

    market: Calendar
    date: TradingDate
    closed: bool = True
    known_from: KnownMoment


def convert(value: Any, parameter: Parameter, context: Context) -> Any:
    """The value of a parameter in the unit of its kind; raises `wrong`."""
    match parameter.kind:
        case "duration":
            return duration_ms(value)
        case "amount":
            return amount_minor(value)
        case "moment":
            return moment_ms(value, context.start_ms or 0)
        case "text":
            return look_up(value, parameter.one_of, "value")
        case "flag":
            fits = isinstance(value, bool)
        case "integer":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "number":
            fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        example = {"flag": "true or false", "integer": "a whole number", "number": "a number"}[parameter.kind]
        raise wrong(f"{value!r} does not fit", f"write {example}")
    return value


def converted(given: Any, name: str, shape: Mapping[str, Parameter], info: ValidationInfo) -> Any:
    """The parameters below ``with``, converted; all their mistakes are told at once: (key, key unknown?, what)."""
    if not isinstance(given, dict):
        return given
    problems: list[tuple[str, bool, PydanticCustomError]] = [
        ("", False, wrong(f"{name} needs the parameter {key!r}", f"add {key}: … below 'with'"))
        for key, parameter in shape.items() if parameter.required and key not in given]
    fitting: dict[str, Any] = {}
    for key, raw in given.items():
        try:
            look_up(key, tuple(shape) or ("",), f"parameter of {name}")
            fitting[key] = convert(raw, shape[key], _context(info))
        except PydanticCustomError as error:
            problems.append((key, key not in shape, error))
    if problems:
        raise PydanticCustomError("scenario_with", "parameters of {name}", {"name": name, "problems": problems})
    return fitting


# --- Expectations ---------------------------------------------------------------------------------------------------


class Counted(BaseModel):
    """A count compared with ``equals``, ``at_least``, ``at_most``; each a number or a percentage of all."""

    model_config = STRICT
    equals: Quantified | None = None
    at_least: Quantified | None = None
    at_most: Quantified | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> Counted:
        if self.equals is self.at_least is self.at_most is None:
            raise wrong("nothing is expected here", "add equals, at_least or at_most")
        return self


class DepositsExpected(Counted):
    """How many deposit Procedures (in a state, on a channel, of a customer)."""

    that: Literal["deposits"]
    state: DepositState | None = None
    channel: DepositChannel | None = None
    customer: Customer | None = None


class WithdrawalsExpected(Counted):
    """How many withdrawal Procedures."""

    that: Literal["withdrawals"]
    state: WithdrawalState | None = None
    channel: WithdrawalChannel | None = None
    customer: Customer | None = None


class ApplicationsExpected(Counted):
    """How many deposit applications, with a status: also those that never became a Procedure."""

    that: Literal["applications"]
    status: ApplicationState | None = None
    channel: DepositChannel | None = None
    customer: Customer | None = None


class TasksExpected(Counted):
    """How many withdrawal tasks, with a status."""

    that: Literal["tasks"]
    status: TaskState | None = None
    channel: WithdrawalChannel | None = None
    customer: Customer | None = None


class BankEffectsExpected(Counted):
    """How often the bank's book really moved money for one deposit or withdrawal."""

    that: Literal["bank_effects"]
    of: Target
    op: BankOperation | None = None


class SendingsExpected(Counted):
    """How often an instruction of one deposit or withdrawal was sent to its bank."""

    that: Literal["sendings"]
    of: Target


class ConnectionsExpected(Counted):
    """How often a connection to an exit server became the active one, was lost, or did not come about."""

    that: Literal["connections"]
    bank: ExitServerBank
    server: Literal["primary", "backup"] | None = None
    phase: Literal["active", "lost", "unreachable"]


class RecoveredExpected(Counted):
    """How many pushes that nobody had heard were fetched afterwards, and taken."""

    that: Literal["recovered"]
    bank: ExitServerBank


class EntriesExpected(Counted):
    """How many credit entries of a bank's statements we keep at the end, with a status."""

    that: Literal["entries"]
    bank: StatementBank
    status: EntryState | None = None


class MatchesExpected(Counted):
    """How many applications have found their statement entry, by a round (AUTO) or by a person; a percentage is of the
    bank's entries."""

    that: Literal["matches"]
    bank: StatementBank
    tier: Literal["AUTO", "ASSISTED", "MANUAL"] | None = None


class DebitsExpected(Counted):
    """How many direct debits of a channel are in a state; a percentage is of all of the channel."""

    that: Literal["debits"]
    channel: DebitChannel
    state: DebitStateName | None = None


class AuthorisationsExpected(Counted):
    """How many direct-debit authorisations of a channel, of those that moved in the run, have a status at its end."""

    that: Literal["authorisations"]
    channel: DebitChannel
    status: AuthorisationState | None = None


class RemindersExpected(Counted):
    """How many statement entries operations were reminded of, once or more often; a percentage is of all entries."""

    that: Literal["reminders"]
    bank: StatementBank


class LoggedExpected(Counted):
    """How many lines of the collectors' logs say something: the words for which people search."""

    that: Literal["logged"]
    says: str = Field(min_length=1, max_length=140)


class AlertsExpected(Counted):
    """How many alerts of a rule were raised; or cleared; or stand at the end, raised and not cleared."""

    that: Literal["alerts"]
    rule: AlertRule | None = None
    severity: Literal["Critical", "High", "Medium"] | None = None
    phase: Literal["raised", "cleared", "standing"] | None = None


class JobsExpected(Counted):
    """How many jobs of a name are in a state, with a number of retries."""

    that: Literal["jobs"]
    job: JobName
    state: JobStateName | None = None
    retries: Count | None = None


class NoticesExpected(Counted):
    """How often customers were told something."""

    that: Literal["notices"]
    event: Notice
    customer: Customer | None = None


class RefusalsExpected(Counted):
    """How many operations were refused."""

    that: Literal["refusals"]
    operation: OperationName | None = None
    code: RefusalCode | None = None


class Limits(Strict):
    """Bounds of a duration."""

    at_least: Duration | None = None
    at_most: Duration | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Limits:
        if self.at_least is self.at_most is None:
            raise wrong("nothing is expected here", "add at_least or at_most")
        return self


class LatencyExpected(Strict):
    """Quantiles of the time from the customer's request to the end; of a deposit also of one of its stages (as
    `reports.stages` divides it: transfer, retrieval, matching, crediting)."""

    that: Literal["latency"]
    channel: LatencyChannel
    stage: Stage | None = None
    p50: Limits | None = None
    p95: Limits | None = None
    p99: Limits | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> LatencyExpected:
        if self.p50 is self.p95 is self.p99 is None:
            raise wrong("nothing is expected here", "add p50, p95 or p99 with at_most")
        if self.stage is not None and not self.channel.endswith(" deposit"):
            raise wrong("stages are those of deposits", "remove 'stage'")
        return self


class ProcedureExpected(Strict):
    """What happened to one Procedure.

    ``way``: every state in order. ``deferred_to``: the transaction date at each entry into ``pending(move_next)``.
    ``visits``: how often a state was entered. ``ended_by``: the last change is not after this.
    """

    that: Literal["procedure"]
    of: Target
    state: ProcedureState | None = None
    way: list[ProcedureState] | None = Field(default=None, min_length=1, max_length=1_000)
    visits: dict[ProcedureState, Count] = {}
    reason: Reason | None = None
    transaction_date: TradingDate | None = None
    deferred_to: list[TradingDate] | None = Field(default=None, max_length=1_000)
    ended_by: Moment | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> ProcedureExpected:
        rest = (self.state, self.way, self.reason, self.transaction_date, self.deferred_to, self.ended_by)
        if not self.visits and all(value is None for value in rest):
            raise wrong("nothing is expected here", "add state, way, visits, reason, transaction_date, … or ended_by")
        return self


class MomentExpected(Strict):
    """When something appeared somewhere: a deposit's application (wished), our instruction on the bank's line (sent),
    the movement in the bank's book (booked), the statement or the result with us (known), their match (matched), the
    credit (credited)."""

    that: Literal["moment"]
    of: Target
    what: Literal["wished", "sent", "booked", "known", "matched", "credited"]
    not_before: Moment | None = None
    by: Moment | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> MomentExpected:
        if self.not_before is self.by is None:
            raise wrong("nothing is expected here", "add not_before or by")
        if self.of.kind != "deposit":
            raise wrong("moments are of deposits", "write of: {customer: …, deposit: 1}")
        return self


class BalanceExpected(Strict):
    """A customer's money: at the broker (available, frozen, in transit) and at the banks (all of them together)."""

    that: Literal["balance"]
    customer: Customer
    ccy: Ccy
    available: Amount | None = None
    frozen: Amount | None = None
    in_transit: Amount | None = None
    at_bank: Amount | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> BalanceExpected:
        if self.available is self.frozen is self.in_transit is self.at_bank is None:
            raise wrong("nothing is expected here", "add available, frozen, in_transit or at_bank")
        return self


CountExpected = (
    DepositsExpected | WithdrawalsExpected | ApplicationsExpected | TasksExpected | BankEffectsExpected
    | SendingsExpected | ConnectionsExpected | RecoveredExpected | EntriesExpected | MatchesExpected
    | DebitsExpected | AuthorisationsExpected | RemindersExpected | LoggedExpected | AlertsExpected | JobsExpected
    | NoticesExpected | RefusalsExpected
)
AnyExpected = CountExpected | LatencyExpected | ProcedureExpected | MomentExpected | BalanceExpected
Expectation = Annotated[AnyExpected, Field(discriminator="that")]

# --- The file -------------------------------------------------------------------------------------------------------


class Scenario(Strict):
    """A whole scenario file."""

    name: Identifier
    title: str = Field(min_length=1, max_length=120)
    about: str = ""
    start: FullMoment
    end: EndMoment
    seed: int = Field(ge=0, le=2**63 - 1)
    wire: Literal["full", "messages"] = "full"
    settings: Annotated[dict[str, Any], WithJsonSchema({"type": "object", "names": "settings"})] = {}
    population: Population | None = None
    customers: list[NamedCustomer] = Field(default=[], max_length=10_000)
    workload: list[Workload] = Field(default=[], max_length=1_000)
    staff: Staff = Staff()
    faults: list[Fault] = Field(default=[], max_length=10_000)
    overrides: list[Override] = Field(default=[], max_length=1_000)
    expect: list[Expectation] = Field(default=[], max_length=1_000)

    @property
    def drawn(self) -> int:
        """Number of customers drawn at random."""
        return self.population.customers if self.population else 0
