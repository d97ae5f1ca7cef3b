"""The parts of a stand-alone server by themselves: its loop, its HTTP face, its memory of answers, its journal."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from core.errors import Misconfigured
from core.wire.sm2 import FastSm2, public_to_pem
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import Journal
from emulators.standalone.keys import load_or_create
from emulators.standalone.loop import ServedLoop
from emulators.standalone.web import Remembered
from emulators.standalone.words import decimal, moment_ms, positive_amount, show_moment, span_us
from emulators.streams import Streams


@pytest.fixture
def loop() -> Iterator[ServedLoop]:
    made = ServedLoop(0)
    yield made
    made.close()


# --- the loop ---------------------------------------------------------------------------------------------------


def test_real_timers_fire_while_the_virtual_clock_stands_still(loop: ServedLoop) -> None:
    fired: list[str] = []
    done = loop.create_future()
    loop.call_after_us(1, fired.append, "virtual")
    loop.call_after_real_us(2_000, done.set_result, None)
    loop.call_after_real_us(1_000, fired.append, "real")
    loop.call_after_real_us(500, fired.append, "cancelled").cancel()
    loop.run_until_complete(done)
    assert (fired, loop.now_us) == (["real"], 0)


def test_real_timers_wait_while_the_clock_is_advanced(loop: ServedLoop) -> None:
    fired: list[str] = []
    loop.call_after_real_us(60_000_000, fired.append, "real")
    loop.call_after_us(3_600_000_000, fired.append, "virtual")
    loop.run_until_complete(loop.advance(36_000_000_000))
    assert (fired, loop.now_us) == (["virtual"], 36_000_000_000)


def test_cancelled_real_timers_are_forgotten(loop: ServedLoop) -> None:
    for _ in range(10_000):
        loop.call_after_real_us(60_000_000, print).cancel()
    assert len(loop._real) < 2_000


def test_a_served_clock_begins_again(loop: ServedLoop) -> None:
    fired: list[str] = []
    loop.call_after_us(10, fired.append, "old")
    loop.run_until_complete(loop.advance(5))
    loop.begin_again()
    loop.call_after_us(3, fired.append, "new")
    loop.run_until_complete(loop.advance(100))
    assert (fired, loop.now_us) == (["new"], 100)


def test_a_served_clock_never_jumps(loop: ServedLoop) -> None:
    with pytest.raises(ValueError, match="jumps"):
        loop.set_speed(math.inf)
    with pytest.raises(ValueError, match="jumps"):
        ServedLoop(math.inf)


def test_two_ends_in_one_process_talk_while_the_clock_is_advanced(loop: ServedLoop) -> None:
    """An exchange over real sockets takes no virtual time, though every microsecond has an event of its own."""
    seen: list[tuple[bytes, int]] = []

    async def story() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for us in range(1, 2_000):
            loop.call_after_us(us, lambda: None)

        async def ask() -> None:
            writer.write(b"x")
            seen.append((await reader.readexactly(1), loop.now_us))

        asked = asyncio.ensure_future(ask())
        await loop.advance(2_000)
        await asked
        writer.close()
        server.close()

    loop.run_until_complete(story())
    assert seen[0][0] == b"x" and seen[0][1] < 2_000


# --- HTTP -------------------------------------------------------------------------------------------------------


def test_the_face_serves_closes_and_frees_its_port(loop: ServedLoop) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/never":
            await loop.create_future()
        await JSONResponse({"path": scope["path"]})(scope, receive, send)

    async def story() -> None:
        face = HttpFace(app, loop, idle_s=600)
        port = await face.listen("127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/a")).json() == {"path": "/a"}
            assert face.connections == 1
            with pytest.raises(Misconfigured, match="in use"):
                await HttpFace(app, loop, idle_s=600).listen("127.0.0.1", port)
            hanging = asyncio.ensure_future(client.get("/never"))
            while not face._state.tasks:
                await asyncio.sleep(0)
            await face.close()
            with pytest.raises(httpx.HTTPError):
                await hanging
        again = HttpFace(app, loop, idle_s=600)
        assert await again.listen("127.0.0.1", port) == port
        await again.close()

    loop.run_until_complete(story())


class Counting:
    """An application that counts what reaches it, and answers when it is told."""

    def __init__(self, gate: asyncio.Future[None] | None = None) -> None:
        self.times = 0
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.times += 1
        times = self.times
        if self._gate is not None:
            await self._gate
        await JSONResponse({"times": times})(scope, receive, send)


async def post(app: Any, key: str, body: bytes = b"{}") -> tuple[int, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/a", content=body, headers={"Idempotency-Key": key})
        return answer.status_code, answer.json()


def test_two_requests_with_one_key_at_once_act_once() -> None:
    async def story() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inner = Counting(gate)
        app = Remembered(inner, 10, 100)
        asked = [asyncio.ensure_future(post(app, "k")) for _ in range(3)]
        while not inner.times:
            await asyncio.sleep(0)
        gate.set_result(None)
        assert await asyncio.gather(*asked) == [(200, {"times": 1})] * 3
        assert inner.times == 1

    asyncio.run(story())


def test_remembered_answers_are_bounded_and_long_bodies_refused() -> None:
    async def story() -> None:
        inner = Counting()
        app = Remembered(inner, 2, 100)
        for key in ("a", "b", "c", "a"):
            await post(app, key)
        assert inner.times == 4  # a had been forgotten
        assert (await post(app, "z", b"x" * 101))[0] == 413
        assert (await post(app, "c", b"other"))[0] == 409
        app.forget()
        assert (await post(app, "c"))[1] == {"times": 5}

    asyncio.run(story())


# --- journal, words, keys ---------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 70), st.integers(1, 70))
def test_the_journal_gives_what_is_kept_after_a_number(limit: int, entries: int, after: int, page: int) -> None:
    journal = Journal(limit)
    for number in range(entries):
        journal.append({"at_ms": 0, "number": number})
    kept = [n for n in range(1, entries + 1) if n > entries - limit and n > after]
    assert [entry["n"] for entry in journal.after(after, page)] == kept[:page]


@given(st.integers(-10**15, 10**15))
def test_money_is_written_exactly(minor: int) -> None:
    text = decimal(minor)
    assert round(float(text) * 100) == minor or abs(minor) > 2**52
    assert minor <= 0 or positive_amount(text) == minor


@given(st.integers(0, 2**41))
def test_moments_are_read_as_they_are_shown(ms: int) -> None:
    assert moment_ms(show_moment(ms)) == ms


def test_durations() -> None:
    assert [span_us(text) for text in ("1ms", "90s", "10m", "1h30m", "2d")] == [
        1_000, 90_000_000, 600_000_000, 5_400_000_000, 172_800_000_000]
    for wrong in ("", "10", "1.5h", "-1m", "1w", "1 h", 5, None):
        with pytest.raises(ValueError, match="is no duration"):
            span_us(wrong)


WRONG_KEYS: list[Callable[[str], str]] = [
    lambda pem: "", lambda pem: pem[:80], lambda pem: pem.replace("PRIVATE", "PUBLIC")]


@pytest.mark.parametrize("spoil", WRONG_KEYS)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    entropy = Streams(1)("keys").randbytes
    made = load_or_create(tmp_path, "bank", FastSm2(), entropy)
    assert load_or_create(tmp_path, "bank", FastSm2(), entropy) == made
    made.public.unlink()
    assert load_or_create(tmp_path, "bank", FastSm2(), entropy).public.read_text() == public_to_pem(made.pair.public)
    made.private.write_text(spoil(made.private.read_text()))
    with pytest.raises(Misconfigured, match=r"bank\.key\.pem"):
        load_or_create(tmp_path, "bank", FastSm2(), entropy)
