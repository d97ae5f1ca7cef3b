"""A setting that the lines cannot work with is refused by its key, by whoever makes an end of a line."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from api.cli import main
from core.banks.socket.gateway import SocketGateway
from core.banks.socket.settings import check_socket_settings
from core.clock import MachineClock
from core.errors import Misconfigured
from core.settings import Settings
from core.trace import Trace
from core.wire.socket import CMB
from emulators.bst.values import BankValues

WAITS: list[Any] = [[], [0], [-1], [1, 0], ["1"], [True], [None], [float("nan")], [float("inf")], [1e300], [[1]]]
NAMES: list[Any] = ["", " ", "NOSTRO 01", "NOSTRÖ", "NOSTRO\n"]
ADDRESSES: list[Any] = ["", "127.0.0.1", "127.0.0.1:", ":7101", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "h:-1",
                        "http://h:x", "127.0.0.1:7101:1"]
SECONDS = [f"socket.{name}" for name in (
    "heartbeat.period_s", "heartbeat.loss_s", "response_wait_s", "push.repeat_s", "key.renewal_s", "handshake_wait_s",
    "return_to_primary_s", "no_server_s", "result.give_up_s", "recovery.retry_s", "recovery.period_s",
    "day_end.overdue_s", "day_end.compare_s")]
BAD: list[tuple[str, Any]] = [
    *((key, waits) for key in ("socket.reconnect_s", "socket.result.query_s") for waits in WAITS),
    *((key, wrong) for key in SECONDS for wrong in (0, -1, None, "5", True, 10**12)),
    ("socket.heartbeat.loss_s", 20), ("socket.heartbeat.loss_s", 19), ("socket.heartbeat.period_s", 60),
    *(("socket.frame.limit", limit) for limit in (0, -1, 1_023, 65_537, None)),
    *(("socket.push.repeats", wrong) for wrong in (-1, None, "5")), ("socket.refuse.max", 0),
    *((key, name) for key in ("socket.broker", "socket.certificate_serial", "socket.cmb.name") for name in NAMES),
    ("socket.broker", "N" * 13), ("socket.cmb.name", "C" * 13), ("socket.certificate_serial", "2" * 33),
    *((f"socket.cmb.{server}", address) for server in ("primary", "backup") for address in ADDRESSES),
    ("socket.cmb.backup", "127.0.0.1:7101"),
    *(("socket.cmb.currencies", wrong) for wrong in ([], ["EUR"], ["HKD", "HKD"], [1], [["HKD"]])),
    *((key, share) for key in ("alerts.socket.timeout_share", "alerts.socket.rejection_share")
      for share in (-0.01, 1.01, None, float("nan"))),
    ("alerts.socket.least", 0), ("alerts.socket.window_s", 0), ("sim.cmb.unread.limit", 0),
    *((f"sim.cmb.unknown.{name}", share) for name in ("share", "processed_share") for share in (-0.01, 1.01, None)),
]  # fmt: skip
NAMED = {("socket.heartbeat.period_s", 60): "socket.heartbeat.loss_s"}
"""Where two settings disagree, the one that is named."""


def the_core(settings: Settings) -> None:
    clock = MachineClock()
    SocketGateway("cmb", CMB, cast(Any, None), clock, Trace(clock, lambda _: None), settings, cast(Any, None))


def the_bank(settings: Settings) -> None:
    BankValues.of("cmb", settings, random.Random(1))


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{key}={value!r}"[:60] for key, value in BAD])
def test_a_value_that_the_lines_cannot_work_with_is_refused_by_its_key(key: str, value: Any) -> None:
    named = NAMED.get((key, value) if not isinstance(value, list) else (key, None), key)
    makers: list[Callable[[Settings], None]] = [the_bank] if key.startswith("sim.") else [the_core, the_bank]
    for make in makers:
        with pytest.raises(Misconfigured) as refused:
            make(Settings({key: value}))
        assert named in str(refused.value) and refused.value.remedy


GOOD: list[tuple[str, Any]] = [
    ("socket.reconnect_s", [0.5]), ("socket.result.query_s", [30, 60.5]), ("socket.heartbeat.loss_s", 21),
    ("socket.frame.limit", 1_024), ("socket.frame.limit", 65_536), ("socket.push.repeats", 1),
    ("socket.broker", "N" * 12), ("socket.certificate_serial", "2" * 32), ("socket.cmb.primary", "[::1]:7101"),
    ("socket.cmb.primary", "bank.example:65535"), ("socket.cmb.currencies", ["HKD"]),
    ("alerts.socket.timeout_share", 0.0), ("alerts.socket.rejection_share", 1.0),
]


@pytest.mark.parametrize(("key", "value"), GOOD)
def test_the_edges_of_what_is_allowed_are_allowed(key: str, value: Any) -> None:
    settings = Settings({key: value})
    check_socket_settings(settings)
    the_core(settings)
    the_bank(settings)


@pytest.mark.parametrize("given", ["socket.reconnect_s=[]", "socket.frame.limit=10", "socket.cmbc.backup=nowhere"])
def test_a_run_with_such_a_setting_does_not_begin(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nostro", "run", "minus6_storm", "--set", given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and given.partition("=")[0] in said and "Traceback" not in said, said
    assert not (tmp_path / "out" / "result.json").exists()
