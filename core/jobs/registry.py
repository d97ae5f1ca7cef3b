"""All jobs of the platform: one literal table (gaps.md B-15, A-08; JOB-001).

A schedule names the settings that hold its numbers; whether a number is documented or assumed stands with the
setting. Queued jobs (`OnEvent`, `Ladder`) have a handler in `core.jobs.queue`, periodic ones (`Every`, `Daily`) a
function in `core.jobs.timetable`; an entry may be both. The table says what there should be; the runtime registers
what is built, and `unbuilt` tells the difference.

How to read the less obvious rows:

* ``SyncAsbBstWithdraw`` is one job with two functions (A-38): the fallback runs per instruction in the queue, the
  pull of what customers began at the bank is periodic.
* ``EddiDepositProcess`` finds successful debits periodically, and credits each of them in the queue.
* ``EddaStatusSync`` asks every morning; a bank that is in maintenance then is asked by the queue when that ends.
* ``SyncBstDataHelper`` also runs when the CMB socket comes back: the socket service asks for a run.
* ``IcbcPull`` of B-15 is three rows here: two lines that cannot be switched, and the pull of the day before.
* ``support`` entries belong to a domain, but the documents do not count them there (A-08: ten BST entries, four eDDA).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from core.clock import MS_PER_S
from core.errors import Misconfigured
from core.jobs.schedules import Daily, Days, Every, InConnection, Ladder, OnEvent, Periodic, Schedule
from core.settings import Settings


class Domain(StrEnum):
    """Task domains; the first four are those of tasks-and-monitoring.md §1."""

    BST = "BST"
    MATCHING = "Deposit Matching"
    EDDA = "eDDA/eDDI"
    RECONCILIATION = "Reconciliation"
    WITHDRAWAL = "Withdrawal"
    STATEMENTS = "Statements"
    MONITORING = "Monitoring"
    DOCUMENTATION = "Documentation"


DOCUMENTED_COUNT: dict[Domain, int] = {
    Domain.BST: 7, Domain.MATCHING: 3, Domain.EDDA: 4, Domain.RECONCILIATION: 2}
"""Each with a "~" in the document: an estimate (A-08)."""


class Repeat(NamedTuple):
    """A failed run is done again: settings with how often, and the wait. Without it, the next run is the retry."""

    times: str
    wait: str


class Entry(NamedTuple):
    name: str
    owner: tuple[str, ...]
    domain: Domain
    schedules: tuple[Schedule, ...]
    repeat: Repeat | None = None
    retries: str = ""  # setting with a queued job's max_retry
    support: bool = False


_RECON = Repeat("jobs.recon.repeat.times", "jobs.recon.repeat.every_s")
_MONITOR = (Every("jobs.monitor.period_s"),)
_BOTH = ("deposit", "withdraw")
_CMB, _MS = ("cmb_stock_trans",), ("ms_stock_bank_transaction",)
_EDDI = ("sba_hsbc_eddi", "sba_hase_eddi")
_B = Domain.BST

REGISTRY: tuple[Entry, ...] = (
    # BST: Airstar
    Entry("AsbBstCreateJob", ("deposit",), _B, (OnEvent(),)),
    Entry("AsbBstCreateResultJob", ("deposit",), _B, (Ladder("airstar.poll.deposit.interval_ms"),),
          retries="airstar.poll.deposit.max"),
    Entry("AsbBstCreateRetryJob", ("deposit",), _B, (OnEvent("airstar.create_retry.delays_s"),)),
    Entry("AsbBstCreateFromBankJob", ("deposit",), _B, (OnEvent("airstar.resend.delay_ms"),),
          retries="airstar.from_bank.max"),
    Entry("AsbBstDepositJob", ("deposit",), _B, (OnEvent("airstar.deposit_job.delays_s"),)),
    Entry("FetchBankRequest", ("deposit",), _B, (Every("jobs.fetch_bank_request.period_s"),)),
    Entry("AsbBstTransfer", ("withdraw",), _B, (Ladder("airstar.poll.withdraw.interval_ms"),),
          retries="airstar.poll.withdraw.max"),
    Entry("SyncAsbBstWithdraw", ("withdraw",), _B, (Ladder("airstar.sync.period_s"), Every("airstar.sync.pull_s"))),
    Entry("AsbMandatePoll", ("deposit",), _B, (Ladder("airstar.mandate.poll.slow_s"),), support=True),
    Entry("AsbBstAcknowledge", ("withdraw",), _B, (OnEvent("airstar.resend.delay_ms"),), retries="airstar.resend.max",
          support=True),
    # BST: CMB and CMBC have no polls, results are pushed (JOB-020)
    Entry("CmbHeartbeat", _CMB, _B, (InConnection("socket.heartbeat.period_s"),)),
    Entry("MsHeartbeat", _MS, _B, (InConnection("socket.heartbeat.period_s"),)),
    Entry("SyncBstDataHelper", ("sync_bst_data_helper",), _B,
          (Every("jobs.sync_bst_data.period_s"), Daily("jobs.sync_bst_data.at")),
          Repeat("jobs.sync_bst_data.repeat.times", "jobs.sync_bst_data.repeat.every_s"), support=True),
    *(Entry(f"{prefix}{job}", owner, _B, (OnEvent(waits),), support=True)
      for prefix, owner in (("Cmb", _CMB), ("Ms", _MS)) for job, waits in (
          ("Collect", "socket.result.query_s"), ("Transfer", "socket.result.query_s"),
          ("Result", "socket.push.repeat_s"), ("Refuse", "socket.push.repeat_s"),
          ("Reconcile", "jobs.recon.repeat.every_s"))),
    *(Entry(f"{prefix}Credit", ("deposit",), _B, (OnEvent("airstar.deposit_job.delays_s"),), support=True)
      for prefix in ("Cmb", "Ms")),
    # Matching
    Entry("AutoMatchRound", ("deposit",), Domain.MATCHING, (Every("jobs.auto_match.period_s"),)),
    Entry("AbnormalDepositJob", ("deposit",), Domain.MATCHING, (Every("jobs.abnormal_deposit.period_s"),)),
    Entry("ApplyTimeoutReject", ("deposit",), Domain.MATCHING, (Daily("jobs.apply_timeout.at"),)),
    Entry("StatementCredit", ("deposit",), Domain.MATCHING, (OnEvent("airstar.deposit_job.delays_s"),), support=True),
    Entry("StatementStruck", ("deposit",), Domain.MATCHING, (OnEvent("airstar.deposit_job.delays_s"),), support=True),
    # Cheques
    Entry("ChequeCredit", ("deposit",), Domain.MATCHING, (OnEvent("airstar.deposit_job.delays_s"),), support=True),
    Entry("ChequeRelease", ("deposit",), Domain.MATCHING, (OnEvent("cheque.release.delays_s"),), support=True),
    Entry("ChequeBranchRun", ("deposit",), Domain.MATCHING, (Daily("jobs.cheque_branch_run.at", Days.BUSINESS),),
          support=True),
    Entry("ChequeClear", ("deposit",), Domain.MATCHING, (Daily("jobs.cheque_clear.at", Days.BUSINESS),), support=True),
    # eDDA / eDDI
    Entry("EddaAuthPoll", _EDDI, Domain.EDDA, (Every("jobs.edda_auth.period_s"),)),
    Entry("EddiResultQuery", _EDDI, Domain.EDDA, (Every(
        "jobs.eddi_result.period_s", ("jobs.eddi_result.from", "jobs.eddi_result.until"), Days.BUSINESS),)),
    Entry("EddiDepositProcess", _EDDI, Domain.EDDA, (
        Every("jobs.eddi_deposit.period_s"), OnEvent("airstar.deposit_job.delays_s"))),
    Entry("EddaStatusSync", _EDDI, Domain.EDDA, (
        Daily("jobs.edda_status.at"), OnEvent("jobs.edda_status.repeat.every_s")),
          Repeat("jobs.edda_status.repeat.times", "jobs.edda_status.repeat.every_s")),
    Entry("HsbcEddaReport", ("hsbc_edda_report",), Domain.EDDA, (Daily("jobs.edda_report.at"),),
          Repeat("jobs.edda_report.repeat.times", "jobs.edda_report.repeat.every_s"), support=True),
    # Reconciliation
    Entry("DailyReconJob", _BOTH, Domain.RECONCILIATION, (Daily("jobs.recon.daily_at"),), _RECON),
    Entry("ReconDiffJob", ("cash",), Domain.RECONCILIATION, (Daily("jobs.recon.diff_at"),), _RECON),
    # Withdrawal
    Entry("WithdrawStart", ("withdraw",), Domain.WITHDRAWAL, (OnEvent("jobs.withdraw_start.waits_s"),), support=True),
    Entry("WithdrawUnhold", ("withdraw",), Domain.WITHDRAWAL, (OnEvent("jobs.withdraw_start.waits_s"),), support=True),
    Entry("AutoSettingReset", ("withdraw",), Domain.WITHDRAWAL, (Daily("auto_settings.reset_at"),), support=True),
    Entry("WithdrawDriveJob", ("withdraw",), Domain.WITHDRAWAL, (Every("jobs.withdraw_drive.period_s"),)),
    Entry("MoveNextResumeJob", ("sba_cash_withdraw_system",), Domain.WITHDRAWAL, (
        Every("jobs.move_next_resume.period_s"),)),
    Entry("WaitingTradeJob", ("sba_cash_withdraw_system",), Domain.WITHDRAWAL, (Every(
        "jobs.waiting_trade.period_s", ("jobs.waiting_trade.from", "jobs.waiting_trade.until"), Days.TRADING),)),
    Entry("OutboxSweep", ("procedure_system",), Domain.WITHDRAWAL, (Every("sba.outbox.sweep_s"),), support=True),
    Entry("SyncCgbFpsResult", ("withdraw",), Domain.WITHDRAWAL, (Ladder("jobs.cgb_fps.waits_s"),),
          retries="jobs.cgb_fps.max"),
    Entry("WithdrawFileExport", ("withdraw",), Domain.WITHDRAWAL, (
        Daily("jobs.withdraw_file_export.at", Days.BUSINESS),)),
    # Statements
    Entry("BochkPull", ("bochk_flow_go",), Domain.STATEMENTS, (Daily("jobs.bochk.pull_at"),),
          Repeat("jobs.bochk.repeat.times", "jobs.bochk.repeat.every_s")),
    Entry("BochkConvert", ("bochk_flow_go",), Domain.STATEMENTS, (Daily("jobs.bochk.convert_at"),),
          Repeat("jobs.bochk.repeat.times", "jobs.bochk.repeat.every_s")),
    Entry("BochkS16Pull", ("bochk_flow_go",), Domain.STATEMENTS, (Every("jobs.bochk_s16.period_s"),)),
    Entry("HsbcSftpPull", ("hsbc_bank_flow_service",), Domain.STATEMENTS, (Every("jobs.hsbc_sftp.period_s"),)),
    Entry("IcbcPullProd", ("icbc_be_relay",), Domain.STATEMENTS, (Every("jobs.icbc.prod_period_s"),)),
    Entry("IcbcPullCanary", ("icbc_be_relay",), Domain.STATEMENTS, (Every("jobs.icbc.canary_period_s"),)),
    Entry("IcbcPullYesterday", ("icbc_be_relay",), Domain.STATEMENTS, (Daily("jobs.icbc.yesterday_at"),)),
    Entry("IcbcEscalate", ("icbc_be_relay",), Domain.STATEMENTS, (OnEvent(),), support=True),
    Entry("CgbCreditPull", ("cgb_fps_service",), Domain.STATEMENTS, (Every("jobs.credit_pull.period_s"),)),
    Entry("ScbCreditPull", ("scb_service",), Domain.STATEMENTS, (Every("jobs.credit_pull.period_s"),)),
    Entry("CitiCreditPull", ("deposit",), Domain.STATEMENTS, (Every("jobs.credit_pull.period_s"),)),
    Entry("OtherBankPull", ("deposit",), Domain.STATEMENTS, (Every("jobs.other_bank.period_s"),)),
    # Monitoring
    Entry("FlowMonitor", ("deposit",), Domain.MONITORING, _MONITOR),
    Entry("AutoBsApprovalMonitor", ("withdraw",), Domain.MONITORING, _MONITOR),
    Entry("ProcMonitor", _BOTH, Domain.MONITORING, _MONITOR),
    Entry("CanalMonitor", _BOTH, Domain.MONITORING, _MONITOR),
    Entry("SocketMonitor", _BOTH, Domain.MONITORING, _MONITOR),
    Entry("QueueMonitor", _BOTH, Domain.MONITORING, _MONITOR),
    Entry("S16Monitor", _BOTH, Domain.MONITORING, _MONITOR),
    # Documentation
    Entry("QuarterlyDocCheck", ("docs",), Domain.DOCUMENTATION, (
        Daily("jobs.quarterly_doc_check.at", Days.QUARTER_START),)),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in REGISTRY}


def entry_of(name: str) -> Entry:
    """The entry of a job's name; `Misconfigured` if there is none."""
    try:
        return ENTRIES[name]
    except KeyError:
        raise Misconfigured(f"no job {name!r}", where="jobs", remedy="add it to core/jobs/registry.py") from None


def periodic(entry: Entry) -> tuple[Periodic, ...]:
    """The schedules that the timetable runs."""
    return tuple(schedule for schedule in entry.schedules if isinstance(schedule, Every | Daily))


def queued(entry: Entry) -> OnEvent | Ladder | None:
    """The way into the queue, if the job has one."""
    return next((schedule for schedule in entry.schedules if isinstance(schedule, OnEvent | Ladder)), None)


def in_connection(entry: Entry) -> bool:
    """Whether a connection does it as long as it stands."""
    return any(isinstance(schedule, InConnection) for schedule in entry.schedules)


def unbuilt(handlers: Container[str], functions: Container[str]) -> tuple[str, ...]:
    """Names of jobs that have no handler or no function here though the table asks for one."""
    return tuple(entry.name for entry in REGISTRY if (queued(entry) is not None and entry.name not in handlers)
                 or ((periodic(entry) or in_connection(entry)) and entry.name not in functions))


def waits_of(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Waits in milliseconds after a failed run, by name of queued job; the last one repeats."""
    schedules = {entry.name: queued(entry) for entry in REGISTRY}
    return {name: _waits(schedule.waits, settings) if schedule.waits else ()
            for name, schedule in schedules.items() if schedule is not None}


def _waits(key: str, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """A setting with one wait, a list of them, or pairs [how often, wait]; its name ends with its unit."""
    written = settings[key]
    steps = written if isinstance(written, list) else [written]
    scale = 1 if key.endswith("_ms") else MS_PER_S
    pairs = (step if isinstance(step, list) else (1, step) for step in steps)
    return tuple(wait for times, value in pairs for wait in (round(value * scale),) * times)


class DomainCount(NamedTuple):
    """One row of the overview of task domains."""

    domain: Domain
    documented: int | None
    actual: int
    jobs: tuple[str, ...]
    support: tuple[str, ...]


def domains() -> tuple[DomainCount, ...]:
    """Documented and actual number of jobs of each domain; support jobs are listed, not counted (JOB-001)."""
    rows = []
    for domain in Domain:
        mine = [entry for entry in REGISTRY if entry.domain is domain]
        jobs = tuple(entry.name for entry in mine if not entry.support)
        support = tuple(entry.name for entry in mine if entry.support)
        rows.append(DomainCount(domain, DOCUMENTED_COUNT.get(domain), len(jobs), jobs, support))
    return tuple(rows)


class Number(NamedTuple):
    """One number of a job's row: its value, and whether the documents give it."""

    key: str
    value: Any
    unit: str
    documented: bool
    ref: str


def numbers(entry: Entry, settings: Settings) -> tuple[Number, ...]:
    """The numbers behind an entry, each with its source."""
    return tuple(Number(key, settings[key], leaf.unit, leaf.source == "documented", leaf.ref)
                 for key, leaf in ((key, settings.leaf(key)) for key in keys_of(entry)))


def keys_of(entry: Entry) -> tuple[str, ...]:
    """The settings that an entry names."""
    keys = [key for schedule in entry.schedules for key in _keys(schedule)]
    return tuple(key for key in (*keys, *(entry.repeat or ()), entry.retries) if key)


def _keys(schedule: Schedule) -> tuple[str, ...]:
    if isinstance(schedule, Every):
        return (schedule.period, *(schedule.within or ()))
    if isinstance(schedule, InConnection):
        return (schedule.period,)
    return (schedule.times,) if isinstance(schedule, Daily) else (schedule.waits,)
