"""Rows with defaults, so that a test states only what it is about."""

from __future__ import annotations

from typing import Any

NOW = 1_775_000_000_000


def procedure_row(**other: Any) -> dict[str, Any]:
    """A withdrawal that waits."""
    return {"biz_type": "cash_withdraw", "nn_uid": 1001, "market": 1, "trade_acc_id": 900_001, "status": "new",
            "ext_status": "waiting", "version": 0, "transaction_date": 20260401, "reason": "", "intent": "",
            "attempt_no": 1, "poll_exhausted": 0, "abnormal": 0, "bank_ack_at": None, "bank_result": "",
            "hold_id": "", "due_at": None, "revision": 0, "created_at": NOW,
            "updated_at": NOW} | other


def flow_row(**other: Any) -> dict[str, Any]:
    """An audit row."""
    return {"procedure_id": 1, "from_status": "new", "to_status": "new", "from_ext_status": "freeze",
            "to_ext_status": "waiting", "operator": "system", "remark": "", "created_at": NOW} | other


def apply_row(**other: Any) -> dict[str, Any]:
    """A deposit application."""
    return {"id": 1, "uid": 1007, "trade_acc_id": 900_001, "market": 1, "card_id": 1, "card_no": "6222", "ccy": "HKD",
            "bank_type": "bochk", "amount": 100_000, "status": 0, "source": 1, "trans_type": 201,
            "sba_procedure_id": None, "matched_flow_id": None, "credited_amount": None, "voucher_file_id": "",
            "reject_reason": "", "request_id": None, "bank_ref_id": None, "mandate_id": None, "fail_code": "",
            "created_at": NOW, "updated_at": NOW} | other


def task_row(**other: Any) -> dict[str, Any]:
    """A withdrawal task."""
    return {"uid": 1001, "trade_acc_id": 900_001, "market": 1, "card_id": 1, "card_no": "6222", "bank_code": "hase",
            "ccy": "HKD", "amount": 100_000, "method": "hase", "template": "default", "step": "CONFIRM", "status": 1,
            "channel_fee": 0, "fee_consent_at": None, "batch_date": None, "bank_launched": 0, "remark": "",
            "payee_name": "", "transfer_ref_id": None, "request_id": None, "mandate_id": None, "reviewed_by": "",
            "hold_id": "", "reason": "", "fail_code": "", "created_at": NOW, "updated_at": NOW} | other


def statement_row(**other: Any) -> dict[str, Any]:
    """A bank statement entry."""
    return {"id": 1, "bank_type": "bochk", "our_account": "01287500000011", "bank_ref": "R1", "seq_no": "",
            "ccy": "HKD", "amount": 100_000, "dr_cr": "C", "balance": None, "credit_time": NOW, "en_name": "",
            "payer_acct": "", "remark": "", "status": 0, "is_used": 0, "raw_id": None, "emergency": 0,
            "created_at": NOW, "updated_at": NOW} | other


def setting_row(**other: Any) -> dict[str, Any]:
    """A quota of automatic withdrawals."""
    return {"bank": "airstar", "ccy": "HKD", "enabled": 1, "balance": 5_000_000_000, "alarm_amount": 1_000_000_000,
            "stop_amount": 250_000_000, "alarm_count": 1600, "stop_count": 2000, "day_count": 0,
            "alarm_staff_name": "ops_bst", "last_alarm_at": None, "reset_at": NOW, "created_at": NOW,
            "updated_at": NOW} | other
