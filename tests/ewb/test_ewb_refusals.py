"""East West Bank's uploads: what one record is refused for, and what it costs the others."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from test_ewb_uploads import ACCOUNT, DAY, EwbWorld, ewb_world

from core.deposits.ewb import RefusedRecord, Uploaded
from core.wire.bai2 import Account, Detail, File, Group
from core.wire.bai2 import encode as bai2
from core.wire.ewb_csv import Row, encode


def upload(world: EwbWorld, content: bytes) -> Uploaded:
    done = world.upload(content)
    assert isinstance(done, Uploaded)
    return done


def rows(*days: date) -> bytes:
    return encode([Row(ACCOUNT, day, f"FT{number}", "WIRE", "C", 100, 100 + number)
                   for number, day in enumerate(days)])


@pytest.mark.req("STMT-EWB-01")
@pytest.mark.parametrize("days", [6, 400, -100, -400])
def test_a_row_of_another_time_is_told_and_spoils_no_other(days: int) -> None:
    with ewb_world() as world:
        done = upload(world, rows(DAY, DAY + timedelta(days=days), DAY))
        assert (done.accepted, [one.line for one in done.refused]) == (2, [3])
        assert str(DAY + timedelta(days=days)) in done.refused[0].reason


@pytest.mark.req("STMT-EWB-02")
@pytest.mark.parametrize("days", [6, -400])
def test_names_of_another_time_are_told(days: int) -> None:
    with ewb_world() as world:
        group = Group(DAY + timedelta(days=days), (Account(ACCOUNT, "USD", (Detail("195", 100, "FT0", "", "LEE"),)),))
        done = upload(world, bai2(File("EWB", "NOSTRO", DAY, "1", (group,))))
        assert (done.accepted, [one.line for one in done.refused]) == (0, [4])


@pytest.mark.req("STMT-EWB-02")
def test_a_name_with_a_character_that_no_name_has_costs_itself() -> None:
    with ewb_world() as world:
        assert upload(world, rows(DAY, DAY)).accepted == 2
        details = (Detail("195", 100, "FT0", "", "CHAN \u202eTAI"),
                   Detail("195", 100, "FT1", "", "\u9673\u3000\u5927\u6587"))
        done = upload(world, bai2(File("EWB", "NOSTRO", DAY, "1", (Group(DAY, (Account(ACCOUNT, "USD", details),)),))))
        assert done.refused == (RefusedRecord(4, "its text has the character U+202E"),) and done.accepted == 1
        assert [flow.en_name for flow in world.flows()] == ["", "\u9673\u3000\u5927\u6587"]
