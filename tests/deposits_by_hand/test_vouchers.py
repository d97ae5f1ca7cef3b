"""Vouchers: which files are taken, whose they are, and how they are found again."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from by_hand_world import JPG, OPS, PDF, PNG, Counter, tell
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from core.deposits.vouchers import BEGINNINGS, Voucher, kind_of
from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Statement
from core.storage.primary import VOUCHER_KINDS, applys

LIMIT = 10 * 1024 * 1024


def refused(found: Voucher | Refusal) -> Code:
    assert isinstance(found, Refusal) and found.detail
    return found.code


@pytest.mark.req("DEP-16")
def test_a_voucher_is_linked_to_its_application_and_found_by_name_time_and_customer() -> None:
    async def story(counter: Counter) -> None:
        rig, vouchers = counter.rig, counter.vouchers
        apply = await rig.deposit()
        began = rig.now_ms
        slip = await vouchers.upload(apply.uid, "Slip 100%.PNG", PNG + b"slip", counter.user(), apply.id)
        assert slip == Voucher(slip.file_id, apply.uid, apply.id, "Slip 100%.PNG", "png", len(PNG) + 4,
                               hashlib.sha256(PNG + b"slip").hexdigest(), f"user_{apply.uid}", began)
        row = Statement(select(applys[f"{apply.uid % 100:02d}"].c.voucher_file_id))
        assert await rig.core.given.databases.primary.all(row, {}) == [(slip.file_id,)]
        await asyncio.sleep(60)
        later = await vouchers.upload(counter.uid("bob"), "slip_2.jpeg", JPG + b"bob", OPS)
        mine = await vouchers.upload(apply.uid, "contract.pdf", PDF, OPS)
        assert isinstance(later, Voucher) and isinstance(mine, Voucher) and later.kind == "jpg"

        assert await vouchers.of_apply(apply.id) == [slip] and await vouchers.find(slip.file_id) == slip
        assert await vouchers.contents(slip.file_id) == PNG + b"slip"
        assert await vouchers.search(filename="slip") == [later, slip], "newest first, in capitals or not"
        assert await vouchers.search(filename="100%") == [slip] and await vouchers.search(filename="slip_") == [later]
        assert await vouchers.search(uid=counter.uid("bob")) == [later]
        assert await vouchers.search(until_ms=began + 1) == [slip]
        assert {one.file_id for one in await vouchers.search(since_ms=began + 1)} == {later.file_id, mine.file_id}
        assert await vouchers.search(filename="slip", uid=apply.uid, since_ms=began, until_ms=began + 60_000) == [slip]
        assert len(await vouchers.search()) == 3 and len(await vouchers.search(limit=1)) == 1
        assert await vouchers.contents("nothing") is None

    tell(story)


@pytest.mark.req("DEP-16")
@pytest.mark.parametrize(("name", "contents", "taken"), [
    ("a.png", PNG, True), ("a.PNG", PNG, True), ("a.jpg", JPG, True), ("a.JPEG", JPG, True), ("a.pdf", PDF, True),
    ("dir/../a.pdf", PDF, True), (r"C:\slips\a.pdf", PDF, True),
    ("a.png", JPG, False), ("a.exe", PNG, False), ("a.png", b"MZ", False), ("a.png", b"", False), ("png", PNG, False),
    ("", PNG, False), (f"{'a' * 140}.png", PNG, False), ("a.gif", b"GIF89a", False)])
def test_only_images_of_three_kinds_are_taken_by_what_they_are(name: str, contents: bytes, taken: bool) -> None:
    async def story(counter: Counter) -> None:
        found = await counter.vouchers.upload(counter.uid(), name, contents, counter.user())
        if taken:
            assert isinstance(found, Voucher) and "/" not in found.filename and "\\" not in found.filename
        else:
            assert refused(found) is Code.INVALID_PARAM and await counter.vouchers.search() == []

    tell(story)


@pytest.mark.req("DEP-16")
@pytest.mark.parametrize("over", [0, 1])
def test_a_file_has_at_most_ten_megabytes(over: int) -> None:
    async def story(counter: Counter) -> None:
        contents = PNG + bytes(LIMIT - len(PNG) + over)
        found = await counter.vouchers.upload(counter.uid(), "a.png", contents, counter.user())
        if over:
            assert refused(found) is Code.INVALID_PARAM
        else:
            assert isinstance(found, Voucher) and await counter.vouchers.contents(found.file_id) == contents

    tell(story)
    assert Settings()["voucher.max_bytes"] == LIMIT


def test_a_file_is_one_however_often_it_comes_and_proves_one_application() -> None:
    async def story(counter: Counter) -> None:
        first, second = await counter.rig.deposit(), await counter.rig.deposit(amount=500_000)
        uid, vouchers, user = first.uid, counter.vouchers, counter.user()
        one = await vouchers.upload(uid, "a.png", PNG, user, first.id)
        again = await vouchers.upload(uid, "b.png", PNG, user, first.id)
        assert isinstance(one, Voucher) and again == one and len(await vouchers.search()) == 1
        assert refused(await vouchers.upload(uid, "c.png", PNG, user, second.id)) is Code.DUPLICATE
        other = await vouchers.upload(counter.uid("bob"), "a.png", PNG, counter.user("bob"))
        assert isinstance(other, Voucher) and other.file_id != one.file_id
        more = await vouchers.upload(uid, "d.png", PNG + b"2", user, first.id)
        assert await vouchers.of_apply(first.id) == sorted([one, more], key=lambda file: file.file_id)  # type: ignore[type-var]

    tell(story)


@pytest.mark.parametrize("role", list(Role))
def test_a_file_is_handled_by_its_customer_and_by_operations(role: Role) -> None:
    async def story(counter: Counter) -> None:
        apply, staff = await counter.rig.deposit(), Actor("somebody", role)
        allowed = role in (Role.FRONTLINE, Role.SUPERVISOR)
        found = await counter.vouchers.upload(apply.uid, "a.png", PNG, staff)
        assert isinstance(found, Voucher) if allowed else refused(found) is Code.FORBIDDEN
        mine = await counter.vouchers.upload(apply.uid, "a.png", PNG, counter.user())
        assert isinstance(mine, Voucher)
        linked = await counter.vouchers.link(mine.file_id, apply.id, staff)
        assert isinstance(linked, Voucher) if allowed else refused(linked) is Code.NOT_FOUND
        assert refused(await counter.vouchers.link(mine.file_id, apply.id, counter.user("bob"))) is Code.NOT_FOUND
        his = await counter.vouchers.upload(counter.uid("bob"), "a.png", PNG, counter.user("bob"))
        assert isinstance(his, Voucher)
        assert refused(await counter.vouchers.link(his.file_id, apply.id, OPS)) is Code.NOT_FOUND
        assert refused(await counter.vouchers.link("nothing", apply.id, OPS)) is Code.NOT_FOUND

    tell(story)


@given(st.binary(max_size=20))
def test_a_kind_is_told_by_the_first_bytes_only(contents: bytes) -> None:
    kind = kind_of(contents)
    assert kind is None or contents.startswith(BEGINNINGS[kind])
    assert all(kind_of(beginning + contents) == known for known, beginning in BEGINNINGS.items())
    assert tuple(BEGINNINGS) == VOUCHER_KINDS
