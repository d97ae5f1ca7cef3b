"""The emulated BOCHK by itself: what its interface shows and when, sessions, pages, its FTP server and S16 files."""

from __future__ import annotations

import asyncio
import ftplib
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from bochk_world import HKD, BochkWorld

from core.banks.bochk_ftp import FtpFiles
from core.clock import hkt, show_time
from core.errors import BankFault, OutcomeUnknown
from core.wire.bochk_b2e import ACTIVITY, SIGN_ON, STATEMENT, TODAY, Reply, Request
from core.wire.bochk_s16 import decode
from emulators.bochk.faults import FAULTS
from emulators.bochk.ftp import FtpDoor
from emulators.bochk.s16 import Stored

Make = Callable[..., BochkWorld]
ASKED = {TODAY: {"fromSeq": "0"}, STATEMENT: {"dateFrom": "20260311", "dateTo": "20260312"},
         ACTIVITY: {"date": "20260312", "seq": "0"}}


class Client:
    """Whoever speaks the protocol: one request after the other, straight to the bank."""

    def __init__(self, world: BochkWorld) -> None:
        self._world, self._who, self._number = world, world.place._credentials, 0
        self.token = ""

    def send(self, name: str, asked: dict[str, str], **head: str) -> Reply:
        self._number += 1
        request = Request(name, f"{self._number:017d}", {
            "CBSAcctNo": HKD, "UserId": self._who.user_id, "ECertName": self._who.cert_name, **head}, asked)
        reply = self._world.bank.handle(request).reply
        assert reply is not None
        return reply

    def sign_on(self, password: str | None = None) -> Reply:
        reply = self.send(SIGN_ON, {"custId": self._who.cust_id, "ts": "20260312060000"},
                          Password=self._who.password if password is None else password,
                          ECertPwd=self._who.cert_password)
        self.token = reply.records[0]["token"] if reply.records else ""
        return reply

    def listing(self, name: str = ACTIVITY, account: str = HKD, ccy: str = "HKD", **more: str) -> Reply:
        return self.send(name, {"acctNo": account, "ccy": ccy, **ASKED[name], **more}, Token=self.token)


@pytest.mark.req("BOCHK-06")
def test_most_real_time_records_lack_the_name(world: Make) -> None:
    one = world("2026-03-12 09:00", settings={"sim.bochk.page": 1_000})
    for _ in range(1_000):
        one.pay(100)
    one.pass_s(3_600)
    client = Client(one)
    client.sign_on()
    records = client.listing().records
    assert len(records) == 1_000
    named = [record for record in records if record.get("en_name")]
    assert 260 <= len(named) <= 340  # 30 %
    assert {record["en_name"] for record in named} == {"CHAN TAI MAN"}


@pytest.mark.req("BOCHK-07")
def test_the_interface_shows_a_statement_within_seconds(world: Make) -> None:
    one = world("2026-03-12 09:00", settings={"sim.bochk.page": 1_000})
    client = Client(one)
    client.sign_on()
    ages = []
    for number in range(60):
        line = one.pay(100 + number)
        for _ in range(120):
            if line.reference[5:].lstrip("0") in {record["seq_no"] for record in client.listing(TODAY).records}:
                break
            one.pass_s(0.5)
        ages.append((one.clock.now_ms() - line.booked_ms) / 1_000)
    assert 0 < sorted(ages)[30] < 10 and max(ages) < 60


@pytest.mark.parametrize("name", [TODAY, STATEMENT, ACTIVITY])
def test_pages_lead_through_all_lines_once(world: Make, name: str) -> None:
    one = world("2026-03-12 09:00", settings={"sim.bochk.page": 3})
    for number in range(8):
        one.pay(100 + number)
    one.pay(999, ccy="USD")
    one.pass_s(120)
    client = Client(one)
    client.sign_on()
    seen, key, pages = [], "", 0
    while True:
        reply = client.listing(name, **({"PageKey": key} if key else {}))
        seen += [record["amount"] for record in reply.records]
        pages += 1
        key = reply.facts.get("PageKey", "")
        if not key:
            break
    assert (seen, pages) == ([f"1.{number:02d}" for number in range(8)], 3)


def test_statement_balances_and_padding(world: Make) -> None:
    one = world("2026-03-11 09:00")
    one.pay_at("2026-03-11 10:00", 1_000)
    one.pay_at("2026-03-12 08:00", 500)
    assert one.bank.charge("HKD", 200, "fee") is not None
    one.pass_s(120)
    client = Client(one)
    client.sign_on()
    whole, today = client.listing(STATEMENT), client.listing(STATEMENT, dateFrom="20260312")
    assert (whole.facts["opening"], whole.facts["closing"]) == ("0.00", "13.00")
    assert (today.facts["opening"], today.facts["closing"]) == ("10.00", "13.00")
    assert [(one["seq_no"], one["drCr"]) for one in today.records] == [("0000000002", "C"), ("0000000003", "D")]
    assert [record["seq_no"] for record in client.listing(TODAY).records] == ["2", "3"]
    assert [record.get("bankCode") for record in client.listing(ACTIVITY).records] == ["012", None]


def test_sessions(world: Make) -> None:
    one = world("2026-03-12 09:00")
    client = Client(one)
    assert client.listing().code == "0001"
    assert client.sign_on("wrong").code == "0004"
    assert client.sign_on().code == "0000"
    assert client.listing().code == "0002"
    one.pass_s(1_799)
    assert client.listing().code == "0002"
    one.pass_s(1)
    assert client.listing().code == "0001"  # 30 minutes
    client.sign_on()
    assert client.listing(account="01287500000012").code == "0004"  # not the account of that currency
    assert client.listing(date="20261340").code == "0004"
    client._number -= 1
    assert client.listing().code == "0003"  # a PackageId used before
    one.until("2026-03-15 20:30")  # Sunday: maintenance
    assert client.sign_on().code == "9999"
    one.until("2026-03-16 08:00")
    assert client.sign_on().code == "0000"


def test_the_http_face_answers_what_it_cannot_read(world: Make) -> None:
    one = world("2026-03-12 09:00", wire="full")
    from core.wire.bochk_b2e import decode_reply
    from emulators.bochk.app import bochk_app

    endpoint = one.run(one.places.endpoint(bochk_app(one.bank), "bochk", lambda: 1_000))

    def post(body: bytes, path: str = "/b2e") -> tuple[int, bytes]:
        return one.run(endpoint.send("POST", path, {}, body, 10.0))

    for body in (b"", b"<a/>", b"\xff", b"<!DOCTYPE x><BOCHKE2B/>", b" " * 2_000_000):
        status, document = post(body)
        assert (status, decode_reply(document).code) == (200, "0004")
    assert post(b"", "/other")[0] == 404


# --- FTP --------------------------------------------------------------------------------------------------------


MOMENTS = ("00:00", "04:00", "07:59", "08:00", "12:00", "19:59", "20:00", "23:59")


@pytest.mark.req("BOCHK-S16-08")
def test_ftp_is_served_monday_to_saturday_from_8_to_20(world: Make) -> None:
    """A Friday to Monday, by real FTP sessions: served in the hours, 421 outside."""
    one = world("2026-03-12 23:50", wire="full")
    one.run(one.timetable.stop())
    files: FtpFiles = one.place._files

    async def served() -> bool:
        try:
            await files.fetch(lambda listed: [])
        except OutcomeUnknown as away:
            assert "421" in str(away)
            return False
        return True

    for day, weekday in (("2026-03-13", 4), ("2026-03-14", 5), ("2026-03-15", 6), ("2026-03-16", 0)):
        for moment in MOMENTS:
            one.until(f"{day} {moment}")
            assert one.run(served()) == (weekday != 6 and "08:00" <= moment < "20:00"), (day, moment)


@pytest.mark.req("BOCHK-S16-09")
def test_s16_comes_about_half_an_hour_after_the_statement(world: Make) -> None:
    """From the booking to the record's arrival in our books, over a day of statements in service hours."""
    one = world("2026-03-12 07:59")
    lines = {}
    for minute in range(1, 671, 7):
        one.until(f"2026-03-12 {8 + minute // 60:02d}:{minute % 60:02d}")
        lines[one.pay(10_000 + minute).reference] = one.clock.now_ms()
    one.until("2026-03-12 20:00")
    rows = one.databases.primary.connection.execute(
        "SELECT reference, created_at FROM bochk_s16_record").fetchall()
    waits = sorted((created - lines[reference]) / 60_000 for reference, created in rows)
    assert len(waits) == len(lines)
    assert 25 <= sum(waits) / len(waits) <= 35
    assert waits[0] >= 5 and waits[-1] <= 30 + 15 + 10


def test_a_days_files_hold_every_line_once_and_names_come_again(world: Make) -> None:
    one = world("2026-03-11 21:00")
    night, first = one.pay(1_000), one.pay_at("2026-03-12 08:10", 2_000)
    second = one.pay_at("2026-03-12 08:31", 3_000)
    one.until("2026-03-12 21:00")
    mine = {name: decode(stored.content) for name, stored in one.place.writer.files.items() if HKD in name}
    assert list(mine) == [f"AGS{HKD}UC{period:02d}.TXT" for period in range(1, 25)]
    told = {name[-8:-4]: [record.reference for record in report.records]
            for name, report in mine.items() if report.records}
    assert told == {"UC01": [night.reference, first.reference], "UC02": [second.reference]}
    assert mine[f"AGS{HKD}UC01.TXT"].records[0].name == "CHAN TAI MAN"
    assert mine[f"AGS{HKD}UC01.TXT"].records[0].remitter == "01233300000001"
    one.until("2026-03-13 08:50")
    again = decode(one.place.writer.files[f"AGS{HKD}UC01.TXT"].content)
    assert (again.day, again.records) == (20260313, ())


def test_the_standard_librarys_client_reads_the_server(tmp_path: Any) -> None:
    """ftplib over real sockets: passive and extended passive, listing, download; nothing can be written."""
    files = {"AGS01287500000011UC01.TXT": Stored(b"H|S16\r\n" * 5_000, 1_773_288_000_000)}
    door = FtpDoor(SimpleNamespace(open=True, files=files), "nostro", "secret", "/S16")

    def visit(port: int) -> None:
        with ftplib.FTP() as ftp:
            ftp.connect("127.0.0.1", port, timeout=10)
            with pytest.raises(ftplib.error_perm):
                ftp.login("nostro", "wrong")
        with ftplib.FTP() as ftp:
            ftp.connect("127.0.0.1", port, timeout=10)
            ftp.login("nostro", "secret")
            for passive in ("EPSV", "PASV"):
                ftp.af = ftplib.socket.AF_INET6 if passive == "EPSV" else ftplib.socket.AF_INET
                listed = dict(ftp.mlsd("/S16"))
                assert listed["AGS01287500000011UC01.TXT"]["modify"] == "20260312040000"
                assert listed["AGS01287500000011UC01.TXT"]["size"] == "35000"
                got = io.BytesIO()
                ftp.retrbinary("RETR /S16/AGS01287500000011UC01.TXT", got.write)
                assert got.getvalue() == files["AGS01287500000011UC01.TXT"].content
            for refused in (lambda: ftp.delete("/S16/AGS01287500000011UC01.TXT"), lambda: ftp.mkd("/S16/x"),
                            lambda: ftp.storbinary("STOR /S16/x", io.BytesIO(b"x")),
                            lambda: ftp.retrbinary("RETR /S16/none", got.write)):
                with pytest.raises(ftplib.error_perm):
                    refused()

    async def main() -> None:
        port = await door.listen("127.0.0.1", 0)
        try:
            await asyncio.to_thread(visit, port)
        finally:
            await door.close()

    asyncio.run(main())


def test_every_fault_can_be_put_and_cleared(world: Make) -> None:
    one = world()
    for name in FAULTS:
        one.bank.clear(one.bank.fault(name))
    assert one.bank.state()["faults"] == []
    assert len(one.told("fault", phase="end")) == len(FAULTS)


def test_our_adapter_refuses_a_listing_that_cannot_be(world: Make) -> None:
    from core.banks.bochk import entry_of

    record = {"seq_no": "7", "txnTime": "20260312081502", "ccy": "HKD", "drCr": "C", "amount": "1.00",
              "balance": "1.00"}
    assert show_time(entry_of(TODAY, HKD, "HKD", record).credit_time)[:19] == "2026-03-12 08:15:02"
    assert hkt(entry_of(TODAY, HKD, "HKD", record).credit_time).hour == 8
    for change in ({"txnTime": "20260230081502"}, {"ccy": "USD"}, {"amount": "0.00"}):
        with pytest.raises(BankFault):
            entry_of(TODAY, HKD, "HKD", record | change)
