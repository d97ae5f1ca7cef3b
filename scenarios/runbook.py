"""What staff do by the runbooks that is not done on one deposit or withdrawal: ICBC's incidents, jobs that gave up,
pushes that were refused.

Nobody who writes a scenario can know a serial of the bank's. So each action looks for its evidence as a person does on
the page that compares both groups (tasks-and-monitoring.md §4.4): the break that is open, the statement that only one
group has, and, where neither has it, the bank's letter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from core.banks.icbc import BANK, CANARY, GROUPS, PROD
from core.deposits.transfers import JOBS as OF_SOCKETS
from core.domain import JobState
from core.errors import Code, Refusal
from core.statement import Entry
from scenarios.schema import Operation, Parameter

if TYPE_CHECKING:
    from core.deposits.collect_icbc import IcbcCollector
    from core.deposits.icbc_incidents import Handled, IcbcIncidents
    from core.orchestration.records import Actor
    from core.runtime import Core
    from emulators.receiving import Line, ReceivingBank

NOT_FOUND: Final = "NOT_FOUND"
ONLY_IN_CANARY, ONLY_IN_PRODUCTION = "only in canary", "only in production"

Given = Mapping[str, Any]


def actions(jobs: tuple[str, ...]) -> dict[str, Operation]:
    """The actions of this file, with their parameters."""
    of_icbc = Operation("nothing", {"ccy": Parameter("text", False, ("HKD", "USD", "CNH")),
                                    "remark": Parameter("text")})
    return {**dict.fromkeys(_ICBC, of_icbc), "RetryJob": Operation("nothing", {"job": Parameter("text", True, jobs)}),
            "TakePushesAgain": Operation("nothing", {"bank": Parameter("text", True, tuple(OF_SOCKETS))})}


async def carry_out(do: str, given: Given, by: Actor, core: Core, banks: Mapping[str, Any]) -> str:
    """Do it; what came of it in a word."""
    if do == "RetryJob":
        return await _retry(core, given["job"], by)
    if do == "TakePushesAgain":
        return await _take_again(core, given["bank"], by)
    if core.icbc_incidents is None:
        return NOT_FOUND
    ccy = given.get("ccy", "HKD")
    desk = _IcbcDesk(core, core.icbc_incidents, banks[BANK].bank, ccy, by, given.get("remark", "by the runbook"))
    return await _ICBC[do](desk)


async def _retry(core: Core, job: str, by: Actor) -> str:
    """One more run of every job of a name that gave up."""
    gone = [record for record in await core.jobs.in_state(JobState.EXCEPTION) if record.event == job]
    for record in gone:
        await core.jobs.retry_now(record.id, by.id)
    return Code.OK.name if gone else NOT_FOUND


async def _take_again(core: Core, bank: str, by: Actor) -> str:
    """Deal once more with every push of CMB or CMBC that was refused, say because its card is bound by now. OK if one
    was taken, else why the last one was not."""
    rooms = core.sockets.get(bank)
    results = [] if rooms is None else [
        await rooms.take_again(number, by.id, by.role) for number in await rooms.pushes.refused()]
    if not results:
        return NOT_FOUND
    return Code.OK.name if Code.OK in results else results[-1].name


async def match_application(core: Core, bank: str, apply_id: int, by: Actor, remark: str) -> str:
    """Match an application by hand with the entry that fits it best, as the page of candidates shows it."""
    fitting: list[tuple[int, int, int]] = []
    for flow_id in await _unowned(core, bank):
        found = await core.matching.manual.candidates(bank, flow_id, by)
        if isinstance(found, Refusal):
            return found.code.name
        fitting += [(len(one.fails), abs(one.amount_diff), flow_id) for one in found if one.wish == apply_id]
    if not fitting:
        return NOT_FOUND
    flow_id = min(fitting)[2]
    made = await core.matching.manual.match(f"{by.id}-A{apply_id}-F{flow_id}", bank, flow_id, apply_id, by, remark)
    return made.code.name if isinstance(made, Refusal) else Code.OK.name


async def _unowned(core: Core, bank: str) -> list[int]:
    """Entries that have no owner yet, those among them that were given to people as well."""
    abnormal = [row.flow_id for row in await core.matching.abnormal.listed() if row.bank_type == bank]
    return list(dict.fromkeys([*abnormal, *(flow.id for flow in await core.statements.open(bank))]))


class _IcbcDesk:
    """A person before ICBC's pages, with one of our accounts in view."""

    def __init__(self, core: Core, incidents: IcbcIncidents, bank: ReceivingBank, ccy: str, by: Actor,
                 remark: str) -> None:
        self._collector: IcbcCollector = incidents.collector
        self._statements = core.statements
        self._incidents, self._bank, self._by, self._remark = incidents, bank, by, remark
        self._account = bank.our_accounts[ccy]

    async def run_script(self) -> str:
        """Types 1 and 2: the alert handling script."""
        return _said(await self._incidents.run_script(self._account, self._by))

    async def delete_ghosts(self) -> str:
        """Type 4: what production has, canary and the bank's own statement have not, and nobody has used."""
        ghosts = [row.prod.serial for row in await self._collector.compare(self._account, self._collector.window_ms())
                  if row.difference == ONLY_IN_PRODUCTION and row.prod is not None and not row.prod.is_used]
        if not ghosts:
            return NOT_FOUND
        return _said(await self._incidents.delete_ghosts(self._account, ghosts, self._by, self._remark))

    async def set_balance(self) -> str:
        """Types 3 and 5: the row before each open break gets the balance with which the chain goes on."""
        result = NOT_FOUND
        for group in GROUPS:
            broken = self._collector.open.get((group, self._account))
            before = await self._collector.book.preceding(group, self._account, broken.row.serial) if broken else None
            if broken is None or before is None:
                continue
            balance = before.close_balance + broken.row.close_balance - broken.expected
            result = _said(await self._incidents.set_close_balance(before.id, balance, self._by, self._remark))
        return result

    async def emergency_credit(self) -> str:
        """Types 3 and 5: the statement that production does not have, as the canary or the bank's letter shows it."""
        compared = await self._collector.compare(self._account, self._collector.window_ms())
        serials = [row.serial for row in compared if row.difference == ONLY_IN_CANARY]
        entry = await self._incidents.evidence(self._account, serials[-1]) if serials else await self._letter()
        if entry is None:
            return NOT_FOUND
        made = await self._incidents.emergency_credit(entry, self._by, self._remark)
        return made.code.name if isinstance(made, Refusal) else Code.OK.name

    async def _letter(self) -> Entry | None:
        """The newest credit of these days that the bank says it has booked, and neither group has heard of."""
        since = self._collector.window_ms()
        told = {row.serial for group in (PROD, CANARY)
                for row in await self._collector.book.since(group, self._account, since)}
        known = {flow.bank_ref for flow in await self._statements.between(BANK, since, self._collector.now_ms())}
        missing = [line for line in self._bank.lines(self._account)
                   if line.credit and line.booked_ms >= since and line.reference not in told | known]
        return _entry(missing[-1]) if missing else None


def _entry(line: Line) -> Entry:
    return Entry(BANK, line.our_account, line.reference, line.ccy, line.amount, "C", line.booked_ms, line.reference,
                 line.balance, line.payer_name, line.payer_account, line.remark)


def _said(handled: Handled | Refusal) -> str:
    return handled.code.name if isinstance(handled, Refusal) else handled.result


_ICBC: Final[dict[str, Callable[[_IcbcDesk], Awaitable[str]]]] = {
    "IcbcRunScript": _IcbcDesk.run_script,
    "IcbcDeleteGhosts": _IcbcDesk.delete_ghosts,
    "IcbcSetBalance": _IcbcDesk.set_balance,
    "IcbcEmergencyCredit": _IcbcDesk.emergency_credit,
}
