"""Names as a caller hands them in, and a small valid scenario, for the tests of this folder."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from core.alerts import RULES
from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.withdraw_table import WITHDRAW
from scenarios.schema import Names, Operation, Parameter

REMARK = {"remark": Parameter("text")}

NAMES = Names(
    markets={"HK": ("HKD", "CNH"), "US": ("USD",), "HKCC": ("CNH", "HKD")},
    deposit_channels={"airstar": "airstar", "hsbc_eddi": "hsbc_eddi"},
    withdrawal_channels={"airstar": "airstar", "hsbc": "hsbc"},
    settings={"airstar.poll.deposit.max": 60, "sim.airstar.share": 0.97, "withdraw.prehold": True,
              "reverse.unbind_policy": "always", "match.banks": ["hsbc"], "calendar.half_day_cutoff": None},
    faults={
        "airstar.slow": {"delay_s": Parameter("number", required=True)},
        "airstar.stuck_pending": {"paid": Parameter("flag"), "until_s": Parameter("number")},
        "airstar.refunded_after_credit": {"refund_s": Parameter("number")},
        "core.kill": {"at": Parameter("text", required=True, one_of=("send:AsbBstTransfer", "commit")),
                      "restart_after": Parameter("duration")},
        "rpc.fail": {"call": Parameter("text", required=True, one_of=("risk_control.freeze",))},
        "bank.debit": {"amount": Parameter("amount"), "times": Parameter("integer"), "until": Parameter("moment")},
        "job.stop": {"job": Parameter("text", required=True, one_of=("WithdrawDriveJob", "AsbBstTransfer"))},
    },
    operations={
        "CashDepositReverse": Operation("deposit", REMARK),
        "QueryBank": Operation("deposit"),
        "SetManualTransferDone": Operation("withdrawal", REMARK),
        "SetManualTransferFailed": Operation("withdrawal", REMARK),
        "CashWithdrawForceProcess": Operation("withdrawal", {
            **REMARK, "bank_status": Parameter("text", required=True, one_of=("TRANSFERRED", "NOT_TRANSFERRED"))}),
        "WithdrawFileExport": Operation("nothing"),
        "RetryJob": Operation("nothing", {"job": Parameter("text", True, ("AsbBstTransfer",))}),
    },
    deposit_states=tuple(DEPOSIT.by_label),
    withdrawal_states=tuple(WITHDRAW.by_label),
    jobs=("AsbBstCreateResultJob", "AsbBstTransfer", "WithdrawDriveJob"),
    alert_rules=tuple(RULES),
    exit_server_banks=("cmb",),
    statement_banks=("icbc",),
    debit_channels=("hsbc_eddi",),
    entry_states=("NEW", "CREDITED"),
    reasons=("BANK_FAILED", "MANUAL_TRANSFER_FAILED"),
    notices=("WITHDRAW_DEFERRED", "DEPOSIT_OK"),
)

HEAD = """\
name: small
title: A small scenario
start: 2026-03-12 09:00
end: 2026-03-12 18:00
seed: 7
customers:
  - {id: alice, balances: {HKD: "1,000"}, cards: [airstar]}
"""

FULL = HEAD + """\
wire: messages
settings: {airstar.poll.deposit.max: 30, sim.airstar.share: 1}
population:
  customers: 50
  balances: {HKD: {median: 1000, p99: 90000}, USD: {median: 500, p99: 5000, held_by: 0.5}}
  at_bank: {HKD: {median: 1000, p99: 90000}}
  cards: {airstar: 1.0, hsbc: 0.5, hsbc_eddi: 0.5}
  mandate: {OPEN: 0.9, SUSPENDED: 0.1}
workload:
  - deposits: {channel: airstar, count: 20, ccy: {HKD: 1}, amount: {HKD: {median: 100, p99: 2000}},
               hours: {9: 3, 10-12: 1}}
  - withdrawals: {channel: hsbc, count: 10, by: {app: 0.5, bank: 0.5}, ccy: {HKD: 0.5, USD: 0.5},
                  market: {HK: 0.5, US: 0.5}, amount: {of_balance: {from: 0.1, to: 0.5}}, from: 10:00, until: +4h}
  - recorded:
      - {at: 10:00, withdraw: {customer: alice, channel: airstar, ccy: HKD, amount: "10.50"}}
      - {at: +2h, deposit: {customer: 3, channel: airstar, market: HKCC, ccy: HKD, amount: 10, by: bank}}
      - {at: 11:00, authorise: {customer: 3, channel: hsbc_eddi}}
staff:
  reviewers: 2
  review: {from: 2m, to: 20m}
  forgets: 0.02
  actions:
    - {at: 11:00, by: supervisor, do: CashWithdrawForceProcess, on: {customer: alice, withdrawal: 1},
       with: {bank_status: TRANSFERRED, remark: telephone}}
    - {at: 12:00, by: frontline_ops, do: WithdrawFileExport}
    - {at: 12:00, by: frontline_ops, do: RetryJob, with: {job: AsbBstTransfer}}
faults:
  - {at: 10:00, for: 10m, inject: airstar.slow, with: {delay_s: 20}, share: 0.5, times: 3, only: {customer: alice}}
  - {at: 10:00, inject: core.kill, with: {at: commit, restart_after: 30s}}
overrides:
  - {market: HK, date: 2026-03-13, known_from: 2026-03-01 00:00}
expect:
  - {that: deposits, state: end_ok(deposit_ok), at_least: 95%}
  - {that: withdrawals, state: open, equals: 0, channel: hsbc}
  - {that: applications, status: DONE, at_least: 1}
  - {that: tasks, customer: alice, equals: 1}
  - {that: latency, channel: airstar deposit, p95: {at_most: 3m}}
  - {that: procedure, of: {customer: alice, withdrawal: 1}, way: [new(freeze), new(waiting)], visits: {new(freeze): 1},
     reason: BANK_FAILED, transaction_date: 20260312, deferred_to: [2026-03-13], ended_by: 17:00, state: end_reject}
  - {that: balance, customer: alice, ccy: HKD, available: "989.50", frozen: 0}
  - {that: bank_effects, of: {customer: alice, withdrawal: 1}, op: pay, equals: 1}
  - {that: sendings, of: {customer: alice, withdrawal: 1}, equals: 1}
  - {that: connections, bank: cmb, server: backup, phase: active, equals: 0}
  - {that: recovered, bank: cmb, equals: 0}
  - {that: entries, bank: icbc, status: CREDITED, equals: 0}
  - {that: matches, bank: icbc, tier: AUTO, at_least: 95%}
  - {that: reminders, bank: icbc, equals: 0}
  - {that: logged, says: balance mismatch, equals: 0}
  - {that: alerts, rule: AIRSTAR-06, phase: cleared, at_most: 1}
  - {that: jobs, job: AsbBstTransfer, state: DONE, retries: 10, equals: 1}
  - {that: notices, event: DEPOSIT_OK, at_least: 0}
  - {that: refusals, code: ILLEGAL_STATE, operation: SetManualTransferDone, equals: 0}
  - {that: latency, channel: airstar deposit, stage: crediting, p50: {at_most: 1s}}
  - {that: moment, of: {customer: 3, deposit: 1}, what: credited, not_before: 10:00, by: 17:00}
  - {that: debits, channel: hsbc_eddi, state: success, equals: 0}
  - {that: authorisations, channel: hsbc_eddi, status: ACTIVE, equals: 0}
"""


@pytest.fixture(scope="session")
def names() -> Names:
    return NAMES


@pytest.fixture(scope="session")
def head() -> str:
    """A valid scenario of seven lines with nothing in it but Alice; tests append to it."""
    return HEAD


@pytest.fixture(scope="session")
def full() -> str:
    """A valid scenario that uses every part of the schema."""
    return FULL


@pytest.fixture(scope="session")
def streams() -> Callable[[int], Callable[[str], random.Random]]:
    """Named streams by seed: a stream depends on the seed and its own name only."""

    def of(seed: int) -> Callable[[str], random.Random]:
        return lambda name: random.Random(hashlib.sha256(f"{seed}/{name}".encode()).digest())

    return of
