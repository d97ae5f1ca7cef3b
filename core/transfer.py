"""How money comes and goes: TransTypes of deposits and channels of withdrawals, one literal table each.

TransTypes: gaps.md B-03. Channels and their groups: gaps.md B-12, channels.md §6-7.
"""

from __future__ import annotations

from typing import NamedTuple


class TransType(NamedTuple):
    bank: str
    way: str
    is_bs_transfer: bool
    channel: str  # label of reports and latencies


TRANS_TYPES: dict[int, TransType] = {
    101: TransType("any", "Ops-keyed deposit (cheque, voucher)", False, "ops-keyed deposit"),
    102: TransType("internal", "Internal transfer / fund redemption proceeds", False, "internal deposit"),
    201: TransType("bochk", "statement transfer", False, "bochk deposit"),
    202: TransType("hsbc", "statement transfer", False, "hsbc deposit"),
    203: TransType("hase", "statement transfer", False, "hase deposit"),
    204: TransType("icbc", "statement transfer", False, "icbc deposit"),
    205: TransType("cgb", "FPS credit", False, "cgb deposit"),
    206: TransType("scb", "FPS credit", False, "scb deposit"),
    207: TransType("ccba", "statement transfer", False, "ccba deposit"),
    208: TransType("dbs", "statement transfer", False, "dbs deposit"),
    209: TransType("za", "statement transfer", False, "za deposit"),
    210: TransType("citi", "FPS credit", False, "citi deposit"),
    211: TransType("spd", "statement transfer", False, "spd deposit"),
    212: TransType("ewb", "CSV/BAI2 statement", False, "ewb deposit"),
    251: TransType("hsbc", "eDDI", False, "hsbc_eddi deposit"),
    252: TransType("hase", "eDDI", False, "hase_eddi deposit"),
    301: TransType("cmb", "BST", True, "cmb deposit"),
    302: TransType("cmbc", "BST", True, "cmbc deposit"),
    303: TransType("airstar", "BST, source=1", True, "airstar deposit"),
    304: TransType("airstar", "BST, source=2", True, "airstar deposit"),
}


class Channel(NamedTuple):
    name: str
    kind: str  # bst | ebank | fps | fps_api | file | manual | cheque | wire
    groups: frozenset[str]
    starts_at: str  # the approval step that starts the transfer
    name_screening: bool


_EBANK = frozenset({"EBank", "Set", "Tab", "all"})
_TELE = frozenset({"Tele", "Tab", "all"})
CHANNELS: dict[str, Channel] = {
    "auto_bs": Channel("BST", "bst", frozenset({"all"}), "REMITTANCE", False),
    "hsbc": Channel("HSBC online banking", "ebank", _EBANK, "CONFIRM", False),
    "hase": Channel("Hang Seng online banking", "ebank", _EBANK, "CONFIRM", False),
    "boc": Channel("BOC same-bank online banking", "ebank", _EBANK, "CONFIRM", False),
    "boc_fps": Channel("BOC FPS", "fps", _EBANK, "CONFIRM", False),
    "sc": Channel("Standard Chartered FPS", "fps", _EBANK, "CONFIRM", False),
    "cgb_fps_api": Channel("CGB FPS API", "fps_api", _EBANK, "CONFIRM", False),
    "chats_rtgs": Channel("CHATS/RTGS file", "file", _EBANK, "CONFIRM", False),
    "manual": Channel("Ops-defined", "manual", _EBANK, "CONFIRM", False),
    "check": Channel("Cheque", "cheque", frozenset({"Set", "Tab", "all"}), "CONFIRM", False),
    "tele_transfer": Channel("Cross-border wire", "wire", _TELE, "CONFIRM", True),
    "ewb": Channel("EWB wire", "wire", _TELE, "CONFIRM", True),
}
