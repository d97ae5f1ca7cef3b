"""Every name a scenario may use, gathered from the tables that define them."""

from __future__ import annotations

from core.alerts import RULES
from core.deposits.statements import STATUS_NAMES
from core.jobs import REGISTRY
from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.engine import REASONS
from core.orchestration.operations import OPERATIONS, REVERSE_CONFIRMATIONS
from core.orchestration.withdraw_table import WITHDRAW
from core.settings import Settings
from core.transfer import CHANNELS
from emulators.airstar.faults import AIM, FAULTS
from emulators.bst.faults import BACKUP, BOTH, PRIMARY
from emulators.bst.faults import FAULTS as SOCKET_FAULTS
from emulators.bst.faults import NAMES as SOCKET_MESSAGES
from emulators.faults import FaultKind
from emulators.rpc import FAULTS as RPC_FAULTS
from emulators.rpc import REJECTING
from scenarios.banks import AIRSTAR, DIRECT_DEBIT, KILL_POINTS, SOCKET_BANKS, STATEMENT_BANKS, WHOLE_LINES, faults_of
from scenarios.banks.edda import REPORT_FAULTS
from scenarios.runbook import actions
from scenarios.schema import Names, Operation, Parameter, ParameterKind

MARKETS = {"HK": ("HKD", "CNH"), "US": ("USD",), "HKCC": ("CNH", "HKD")}  # gaps.md B-41
CALLS = ("risk_control", "risk_control.freeze", "risk_control.deduct", "risk_control.release", "risk_control.restore",
         "risk_control.consume", "risk_control.add", "risk_control.add_held", "risk_control.debit",
         "risk_control.refreeze", "risk_control.hold", "risk_control.settle", "risk_control.void",
         "sba.create_deposit", "sba.create_withdrawal", "screening", "screening.deposit_black",
         "screening.deposit_white", "screening.withdraw", "owner")
JOBS = tuple(entry.name for entry in REGISTRY)
_REMARK = {"remark": Parameter("text")}
_KINDS: dict[type, ParameterKind] = {float: "number", int: "integer", bool: "flag", str: "text"}
_FLAGS = {"paid", "processed"}


_SOCKET_AIM = {"message": Parameter("text", False, tuple(SOCKET_MESSAGES)),
               "server": Parameter("text", False, (PRIMARY, BACKUP, BOTH))}


def _fault_parameters(kind: FaultKind) -> dict[str, Parameter]:
    """Parameters of a bank's fault; whom and when it strikes is said by ``only``, ``at``, ``for``, ``times``."""
    return {key: Parameter(_kind(key, parameter.default)) for key, parameter in kind.parameters.items()}


def _kind(key: str, default: object) -> ParameterKind:
    if key in _FLAGS:
        return "flag"
    return "number" if default is None else _KINDS[type(default)]


def _message_of(kind: FaultKind) -> dict[str, Parameter]:
    """Which of the messages, files or lines that a fault may strike it is to strike."""
    return {"message": Parameter("text", False, kind.messages)} if len(kind.messages) > 1 else {}


def _faults() -> dict[str, dict[str, Parameter]]:
    found = {f"{AIRSTAR}.{name}": _fault_parameters(kind) for name, kind in FAULTS.items()}
    for bank in SOCKET_BANKS:
        for name, kind in SOCKET_FAULTS.items():
            aim = {"server": _SOCKET_AIM["server"]} if name in WHOLE_LINES else _SOCKET_AIM
            found[f"{bank}.{name}"] = _fault_parameters(kind) | aim
    for bank, of in STATEMENT_BANKS.items():
        found |= {f"{bank}.{name}": _fault_parameters(kind) | _message_of(kind) for name, kind in of.faults.items()}
    for channel in DIRECT_DEBIT:
        found |= {f"{channel}.{name}": _fault_parameters(kind) for name, kind in faults_of(channel).items()}
    for failure in RPC_FAULTS:
        found[f"rpc.{failure}"] = {"call": Parameter("text", True, REJECTING if failure == "reject" else CALLS)}
    found["core.kill"] = {"at": Parameter("text", True, tuple(KILL_POINTS)),
                          "restart_after": Parameter("duration", True)}
    found["job.stop"] = {"job": Parameter("text", True, JOBS)}
    return found


def _operations() -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for operation in OPERATIONS.values():
        if not operation.button:
            continue
        parameters = dict(_REMARK)
        if operation.name == "CashWithdrawForceProcess":
            parameters |= {"action": Parameter("text", True, ("Rollback", "Complete")),
                           "bank_status": Parameter("text", True, ("NOT_TRANSFERRED", "TRANSFERRED", "UNCERTAIN"))}
        found[operation.name] = Operation(
            "deposit" if operation.biz == "cash_deposit" else "withdrawal", parameters)
    found["QueryBank"] = Operation("either", {})
    found["SuspendMandate"] = Operation("deposit", {})
    found["MatchByHand"] = Operation("deposit", dict(_REMARK))
    return found | actions(JOBS)


def names() -> Names:
    """All names of this version of the platform."""
    ebank = {key: key for key, channel in CHANNELS.items() if channel.kind in ("ebank", "fps", "file", "manual",
                                                                               "cheque", "wire")}
    settings, sockets = Settings(), {bank: bank for bank in SOCKET_BANKS}
    return Names(
        markets=MARKETS, deposit_channels={AIRSTAR: AIRSTAR, **sockets, **{bank: bank for bank in STATEMENT_BANKS},
                                             **{channel: channel for channel in DIRECT_DEBIT}},
        withdrawal_channels={AIRSTAR: AIRSTAR, **ebank, **sockets},
        settings=settings, faults=_faults(), operations=_operations(),
        bank_currencies={**{bank: tuple(settings[f"socket.{bank}.currencies"]) for bank in SOCKET_BANKS},
                         **dict.fromkeys(DIRECT_DEBIT, ("HKD",))},
        receiving={bank: tuple(settings[f"receiving.{bank}.accounts"]) for bank in STATEMENT_BANKS},
        residents=(AIRSTAR,), exit_server_banks=tuple(SOCKET_BANKS),
        unaimed=(*(f"{bank}.{name}" for bank in SOCKET_BANKS for name in WHOLE_LINES),
                 *(f"{bank}.{name}" for bank, of in STATEMENT_BANKS.items() for name in of.unaimed),
                 *(f"hsbc_eddi.{name}" for name in REPORT_FAULTS)),
        statement_banks=tuple(STATEMENT_BANKS), entry_states=STATUS_NAMES, debit_channels=tuple(DIRECT_DEBIT),
        deposit_states=tuple(state.label for state in DEPOSIT.states),
        withdrawal_states=tuple(state.label for state in WITHDRAW.states), jobs=JOBS,
        alert_rules=tuple(RULES), reasons=tuple(sorted({*REASONS.values(), "INSUFFICIENT_BALANCE", "USER_CANCEL",
                                                        "BANK_REJECTED", "RC_ERROR"})))


__all__ = ["AIM", "REVERSE_CONFIRMATIONS", "names"]
