"""What can go wrong, in three kinds.

* An expected refusal is a *value*: `Refusal` with a `Code` from the one table below.
* Our own fault (a broken invariant, a bad setting) *raises* and stops: `NostroError` and below.
* A bank's fault or silence raises `BankFault` / `OutcomeUnknown`, translated in one place per adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Code(IntEnum):
    """Reply codes of the SBA service (gaps.md B-31)."""

    OK = 0
    REPLAYED = 10
    NOT_FOUND = 1001
    VERSION_CONFLICT = 1002
    ILLEGAL_STATE = 1003
    FORBIDDEN = 1004
    LOCK_BUSY = 1005
    DUPLICATE = 1006
    INSUFFICIENT_BALANCE = 1007
    INVALID_PARAM = 1008
    DEPENDENCY_TIMEOUT = 1009
    BANK_STATUS_REQUIRED = 1010
    BLOCKED = 1011


class CodeMeaning(NamedTuple):
    meaning: str
    fault_of: str  # nobody | caller | platform | customer | bank
    retryable: bool
    remedy: str


CODES: dict[Code, CodeMeaning] = {
    Code.OK: CodeMeaning("done", "nobody", False, ""),
    Code.REPLAYED: CodeMeaning("same rpc_request_id, stored result returned", "nobody", False, ""),
    Code.NOT_FOUND: CodeMeaning("no such Procedure", "caller", False, "check the id"),
    Code.VERSION_CONFLICT: CodeMeaning(
        "version differs", "nobody", True,
        "refresh and retry; after 3 conflicts in a row wait 10-30 seconds"),
    Code.ILLEGAL_STATE: CodeMeaning("prerequisite not met", "caller", False, "refresh; the state has moved on"),
    Code.FORBIDDEN: CodeMeaning("role", "caller", False, "ask somebody with the role named"),
    Code.LOCK_BUSY: CodeMeaning("lock not obtained", "nobody", True, "retry in a few seconds"),
    Code.DUPLICATE: CodeMeaning("business duplicate, existing id returned", "caller", False,
                                "use the existing Procedure"),
    Code.INSUFFICIENT_BALANCE: CodeMeaning("freeze, deduct or reversal", "customer", False,
                                           "check the available balance"),
    Code.INVALID_PARAM: CodeMeaning("validation", "caller", False, "correct the field named"),
    Code.DEPENDENCY_TIMEOUT: CodeMeaning("outcome unknown, state unchanged", "platform", True,
                                         "it is queried by its key; do not send again under a new reference"),
    Code.BANK_STATUS_REQUIRED: CodeMeaning("ForceProcess without a certain bank status", "caller", False,
                                           "ask the bank, then state NOT_TRANSFERRED or TRANSFERRED"),
    Code.BLOCKED: CodeMeaning("authorization, name screening or auto settings", "customer", False,
                              "see the detail: re-authorize, release or top up"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected 'no': never raised, always returned."""

    code: Code
    detail: str


class NostroError(Exception):
    """Our own fault; the process or the run stops."""


class Misconfigured(NostroError):
    """A setting, scenario or file of the user is wrong: names the place and the remedy."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(": ".join(part for part in (where, what) if part) + (f" ({remedy})" if remedy else ""))
        self.what, self.where, self.remedy = what, where, remedy


class InvalidAmount(NostroError, ValueError):
    """An amount that is not money as written on the wire."""


class InvariantBroken(NostroError):
    """Something that must never happen has happened; nothing may go on."""


class BankFault(Exception):
    """The bank answered, and the answer cannot be used (malformed, bad signature, refused)."""


class OutcomeUnknown(Exception):
    """No answer, or one that does not say what happened: query by the same reference, never guess."""


class CallFailed(Exception):
    """A service refused the call definitely and did nothing (as opposed to silence, `OutcomeUnknown`)."""
