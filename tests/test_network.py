"""The memory network carries asyncio's streams and stock libraries, and breaks as real lines do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import socket
import ssl

import asyncssh
import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Misconfigured
from emulators.loop import SimLoop
from emulators.network import HOST, Link, Network, on_host
from emulators.streams import Streams, constant, lognormal_from, mixture

MS = 1_000
S = 1_000_000
LINES_RUN_DRY_S = 3_600


def play(main, *, seed=1, debug=False, **options):
    """Run ``main(network)`` with hosts core, bank and branch, 10 ms apart."""

    async def world():
        network = Network(asyncio.get_running_loop(), Streams(seed), default=Link(constant(10 * MS)), **options)
        network.host("bank", "10.0.0.2")
        network.host("branch", "10.0.0.3")
        try:
            return await main(network)
        finally:
            await asyncio.sleep(LINES_RUN_DRY_S)

    with asyncio.Runner(loop_factory=SimLoop, debug=debug) as runner:
        return runner.run(world())


async def echo(reader, writer):
    """Answers each chunk; ends with its client."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Listener(asyncio.Protocol):
    """Records what a protocol hears."""

    def __init__(self, keep_open=False):
        self.heard, self.data, self.ended = [], bytearray(), asyncio.get_running_loop().create_future()
        self.keep_open = keep_open

    def connection_made(self, transport):
        self.transport = transport
        self.heard.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.heard.append("eof")
        return self.keep_open

    def connection_lost(self, error):
        self.heard.append(type(error).__name__ if error else "closed")
        self.ended.set_result(asyncio.get_running_loop().now_us)

    def pause_writing(self):
        self.heard.append("pause")

    def resume_writing(self):
        self.heard.append("resume")


async def connected(network, *, keep_open=False):
    """A client on core and its server end on bank, both `Listener`s."""
    ends = []

    def accept():
        ends.append(Listener(keep_open))
        return ends[-1]

    server = await network.loop.create_server(accept, "bank", 9_000)
    _, client = await network.loop.create_connection(lambda: Listener(keep_open), "bank", 9_000)
    return client, ends[0], server


# -- carrying ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("TWIN-01")
def test_streams_echo_and_take_the_links_time():
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80)
        reader, writer = await asyncio.open_connection("bank", 80)
        shaken = network.loop.now_us
        writer.write(b"hello")
        answer = await reader.readexactly(5)
        answered = network.loop.now_us
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer, shaken, answered

    assert play(main) == (b"hello", 20 * MS, 40 * MS)


@settings(deadline=None, max_examples=60)
@given(
    chunks=st.lists(st.binary(min_size=0, max_size=3_000), max_size=25),
    reads=st.integers(1, 5_000),
    limit=st.sampled_from([1, 100, 65_536]),
    loss=st.sampled_from([0.0, 0.3]),
    bandwidth=st.sampled_from([None, 20_000]),
    seed=st.integers(0, 1_000),
)
def test_any_chunking_arrives_whole_and_in_order(chunks, reads, limit, loss, bandwidth, seed):
    jumpy = mixture([(0.7, constant(1 * MS)), (0.3, lognormal_from(30 * MS, 400 * MS))])

    async def main(network):
        network.link("core", "bank", Link(jumpy, bandwidth=bandwidth, loss=loss))
        received = asyncio.get_running_loop().create_future()

        async def collect(reader, writer):
            parts = []
            while part := await reader.read(reads):
                parts.append(part)
            received.set_result(b"".join(parts))
            writer.close()

        server = await asyncio.start_server(collect, "bank", 80, limit=limit)
        _, writer = await asyncio.open_connection("bank", 80)
        writer.transport.set_write_buffer_limits(limit)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        result = await received
        writer.close()
        server.close()
        return result

    assert play(main, seed=seed, window=1_000) == b"".join(chunks)


def test_bandwidth_takes_its_time():
    async def main(network):
        network.link("core", "bank", Link(constant(10 * MS), bandwidth=1_000_000))
        client, server_end, server = await connected(network)
        begun = network.loop.now_us
        client.transport.write(bytes(500_000))
        client.transport.write(bytes(500_000))
        client.transport.close()
        await server_end.ended
        server.close()
        return len(server_end.data), network.loop.now_us - begun

    assert play(main) == (1_000_000, 1 * S + 10 * MS)


def test_loss_is_delay_on_a_stream():
    async def main(network):
        network.link("core", "bank", Link(constant(10 * MS), loss=0.5, retry_us=200 * MS), Link(constant(10 * MS)))
        client, server_end, server = await connected(network)
        begun = network.loop.now_us
        for _ in range(20):
            client.transport.write(b"x")
        client.transport.close()
        await server_end.ended
        server.close()
        return bytes(server_end.data), network.loop.now_us - begun

    data, took = play(main)
    assert data == b"x" * 20
    assert took >= 210 * MS


def test_addresses_are_ips_and_the_socket_stands_in():
    async def main(network):
        client, server_end, server = await connected(network)
        near, far = client.transport.get_extra_info("sockname"), client.transport.get_extra_info("peername")
        stand_in = client.transport.get_extra_info("socket")
        stand_in.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert stand_in.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert (stand_in.getsockname(), stand_in.getpeername()) == (near, far)
        assert server_end.transport.get_extra_info("peername") == near
        assert server_end.transport.get_extra_info("nothing", "default") == "default"
        assert server.sockets[0].getsockname() == far == ("10.0.0.2", 9_000)
        client.transport.close()
        assert stand_in.fileno() == -1
        server.close()
        assert server.sockets == ()
        return near[0]

    assert play(main) == "10.0.0.1"


def test_each_coroutine_has_its_host():
    async def main(network):
        seen = []

        async def record(reader, writer):
            seen.append(HOST.get())
            _, onward = await asyncio.open_connection("core", 81)
            seen.append(onward.get_extra_info("sockname")[0])
            onward.close()
            writer.close()

        first = await asyncio.start_server(record, "10.0.0.2", 80)
        second = await asyncio.start_server(echo, None, 81)
        with on_host("branch"):
            reader, writer = await asyncio.open_connection("bank", 80)
            own = writer.get_extra_info("sockname")[0]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("localhost", 81)
        assert await reader.read() == b""
        writer.close()
        first.close()
        second.close()
        return own, seen, HOST.get()

    assert play(main) == ("10.0.0.3", ["bank", "10.0.0.2"], "core")


def test_a_host_talks_to_itself_over_its_loopback():
    async def main(network):
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"me")
        answer = await reader.readexactly(2)
        writer.close()
        server.close()
        return answer, network.loop.now_us < MS

    assert play(main) == (b"me", True)


# -- flow control and the ends of a stream -----------------------------------------------------------------------------


def test_a_paused_reader_stops_its_writer():
    async def main(network):
        client, server_end, server = await connected(network)
        server_end.transport.pause_reading()
        client.transport.set_write_buffer_limits(high=1_000, low=100)
        client.transport.write(bytes(1_500))
        await asyncio.sleep(60)
        before = (list(client.heard), client.transport.get_write_buffer_size(), len(server_end.data))
        assert not server_end.transport.is_reading()
        server_end.transport.resume_reading()
        await asyncio.sleep(1)
        client.transport.close()
        await server_end.ended
        server.close()
        return before, client.heard[:3], len(server_end.data)

    assert play(main, window=0) == ((["made", "pause"], 1_500, 0), ["made", "pause", "resume"], 1_500)


def test_a_paused_reader_hears_of_the_end_after_its_bytes():
    async def main(network):
        client, server_end, server = await connected(network)
        server_end.transport.pause_reading()
        client.transport.write(b"last words")
        client.transport.close()
        await asyncio.sleep(5)
        assert server_end.heard == ["made"]
        server_end.transport.resume_reading()
        await server_end.ended
        server.close()
        return bytes(server_end.data), server_end.heard

    assert play(main) == (b"last words", ["made", "eof", "closed"])


def test_a_half_closed_stream_still_answers():
    async def main(network):
        client, server_end, server = await connected(network, keep_open=True)
        assert client.transport.can_write_eof()
        client.transport.writelines([b"que", b"stion"])
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            client.transport.write(b"more")
        await asyncio.sleep(1)
        server_end.transport.write(b"answer to " + server_end.data)
        server_end.transport.close()
        await asyncio.sleep(1)
        client.transport.close()
        await client.ended
        server.close()
        return bytes(client.data), client.heard

    assert play(main) == (b"answer to question", ["made", "eof", "closed"])


def test_abort_loses_what_travels_and_resets_the_other_end():
    async def main(network):
        client, server_end, server = await connected(network)
        client.transport.write(b"lost")
        client.transport.abort()
        await server_end.ended
        server.close()
        return bytes(server_end.data), client.heard, server_end.heard

    assert play(main) == (b"", ["made", "closed"], ["made", "ConnectionResetError"])


def test_writing_to_a_closed_end_is_answered_by_a_reset():
    async def main(network):
        client, server_end, server = await connected(network, keep_open=True)
        client.transport.close()
        await asyncio.sleep(1)
        assert server_end.heard == ["made", "eof"]
        server_end.transport.write(b"anybody?")
        await server_end.ended
        server.close()
        return server_end.heard

    assert play(main) == ["made", "eof", "ConnectionResetError"]


def test_a_protocol_that_fails_loses_its_connection():
    async def main(network):
        reports = []
        network.loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
        client, server_end, server = await connected(network)
        server_end.data_received = lambda data: 1 / 0
        client.transport.write(b"x")
        await client.ended
        server.close()
        return reports, client.heard, server_end.heard

    assert play(main) == (["protocol.data_received() call failed"], ["made", "ConnectionResetError"],
                          ["made", "ZeroDivisionError"])  # fmt: skip


def test_a_server_stops_listening_and_its_connections_go_on():
    async def main(network):
        client, server_end, server = await connected(network)
        assert server.is_serving()
        with pytest.raises(OSError, match="in use"):
            await network.loop.create_server(Listener, "bank", 9_000)
        server.close()
        assert not server.is_serving()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await network.loop.create_connection(Listener, "bank", 9_000)
        client.transport.write(b"still here")
        await asyncio.sleep(1)
        server.abort_clients()
        await client.ended
        return bytes(server_end.data), client.heard[-1]

    assert play(main) == (b"still here", "ConnectionResetError")


def test_serve_forever_ends_with_its_task():
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80, start_serving=False)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("bank", 80)
        task = asyncio.create_task(server.serve_forever())
        _, writer = await asyncio.open_connection("bank", 80)
        writer.close()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), server.is_serving()

    assert play(main) == (True, False)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_nobody_listening_refuses_after_one_round_trip():
    async def main(network):
        with pytest.raises(ConnectionRefusedError) as caught:
            await asyncio.open_connection("bank", 80)
        return caught.value.errno, network.loop.now_us

    assert play(main) == (errno.ECONNREFUSED, 20 * MS)


@pytest.mark.parametrize("both_ways", [True, False])
def test_connecting_across_a_partition_hangs_until_the_callers_timeout(both_ways):
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80)
        network.partition("core", "bank", both_ways=both_ways)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.open_connection("bank", 80)
        server.close()
        return network.loop.now_us

    assert play(main) == 30 * S


def test_a_patient_caller_gets_the_systems_timeout():
    async def main(network):
        network.partition("core", "bank")
        with pytest.raises(TimeoutError) as caught:
            await asyncio.open_connection("bank", 80)
        return caught.value.errno, network.loop.now_us

    assert play(main) == (errno.ETIMEDOUT, 127 * S)


def test_connecting_succeeds_when_the_partition_heals_in_time():
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80)
        network.partition("core", "bank")
        network.loop.call_later(20, network.heal, "core", "bank")
        async with asyncio.timeout(30):
            _, writer = await asyncio.open_connection("bank", 80)
        writer.close()
        server.close()
        return network.loop.now_us > 20 * S

    assert play(main)


@given(st.integers(0, 40), st.integers(1, 60_000))
@settings(deadline=None, max_examples=25)
def test_a_healed_partition_loses_and_doubles_nothing(cut_after_ms, lasts_ms):
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80)
        reader, writer = await asyncio.open_connection("bank", 80)
        network.loop.call_later(cut_after_ms / 1e3, network.partition, "core", "bank")
        network.loop.call_later((cut_after_ms + lasts_ms) / 1e3, network.heal, "core", "bank")
        for number in range(30):
            writer.write(b"%03d" % number)
            await asyncio.sleep(0.003)
        answer = await reader.readexactly(90)
        writer.close()
        server.close()
        return answer

    assert play(main) == b"".join(b"%03d" % number for number in range(30))


def test_a_connection_outlives_a_partition_that_healed_in_time():
    async def main(network):
        client, server_end, server = await connected(network)
        for _ in range(3):
            network.partition("core", "bank")
            client.transport.write(b"held ")
            await asyncio.sleep(600)
            network.heal("core", "bank")
            await asyncio.sleep(600)
        heard = list(client.heard)
        client.transport.close()
        server.close()
        return heard, bytes(server_end.data)

    assert play(main) == (["made"], b"held held held ")


def test_a_one_way_partition_lets_the_request_through_and_holds_the_answer():
    async def main(network):
        client, server_end, server = await connected(network)
        network.partition("bank", "core", both_ways=False)
        client.transport.write(b"pay")
        await asyncio.sleep(1)
        server_end.transport.write(b"paid")
        await asyncio.sleep(60)
        during = bytes(server_end.data), bytes(client.data)
        network.heal("core", "bank")
        await asyncio.sleep(1)
        client.transport.close()
        server.close()
        return during, bytes(client.data)

    assert play(main) == ((b"pay", b""), b"paid")


def test_other_hosts_are_not_touched_by_a_partition():
    async def main(network):
        server = await asyncio.start_server(echo, "branch", 80)
        network.partition("core", "bank")
        reader, writer = await asyncio.open_connection("branch", 80)
        writer.write(b"fine")
        answer = await reader.readexactly(4)
        writer.close()
        server.close()
        return answer

    assert play(main) == b"fine"


def test_who_writes_into_a_partition_gives_up_at_last():
    async def main(network):
        client, _, server = await connected(network)
        network.partition("core", "bank")
        client.transport.write(b"anybody?")
        ended = await client.ended
        server.close()
        return client.heard, ended // S

    assert play(main) == (["made", "TimeoutError"], 924)


def test_reset_ends_both_ends_at_once():
    async def main(network):
        client, server_end, server = await connected(network)
        client.transport.write(b"in flight")
        count = network.reset("bank", "core")
        await asyncio.gather(client.ended, server_end.ended)
        server.close()
        return count, client.heard, server_end.heard, network.reset("bank", "core")

    assert play(main) == (1, ["made", "ConnectionResetError"], ["made", "ConnectionResetError"], 0)


def test_a_reset_is_an_error_for_a_stream_reader():
    async def main(network):
        server = await asyncio.start_server(echo, "bank", 80)
        reader, writer = await asyncio.open_connection("bank", 80)
        network.loop.call_later(1, network.reset, "core", "bank")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        server.close()
        return network.loop.now_us

    assert play(main) == 1 * S + 20 * MS


def test_a_half_open_connection_is_silent_until_the_writer_gives_up():
    async def main(network):
        client, server_end, server = await connected(network)
        assert network.half_open("core", "bank") == 1
        await server_end.ended
        await asyncio.sleep(3_600)
        assert client.heard == ["made"]
        client.transport.write(b"are you there?")
        ended = await client.ended
        server.close()
        return server_end.heard, client.heard, ended > 3_600 * S + 900 * S

    assert play(main) == (["made", "ConnectionAbortedError"], ["made", "TimeoutError"], True)


def test_a_rebooted_peer_answers_a_half_open_connection_with_a_reset():
    async def main(network):
        client, _, server = await connected(network)
        network.half_open("core", "bank", rebooted=True)
        await asyncio.sleep(3_600)
        assert client.heard == ["made"]
        begun = network.loop.now_us
        client.transport.write(b"are you there?")
        ended = await client.ended
        server.close()
        return client.heard, ended - begun

    assert play(main) == (["made", "ConnectionResetError"], 20 * MS)


def test_a_caller_who_stops_waiting_leaves_no_connection_behind():
    async def main(network):
        accepted = []

        def accept():
            accepted.append(Listener())
            return accepted[-1]

        server = await network.loop.create_server(accept, "bank", 80)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.015):
                await asyncio.open_connection("bank", 80)
        await accepted[0].ended
        server.close()
        return accepted[0].heard, network.reset("core", "bank")

    assert play(main) == (["made", "ConnectionResetError"], 0)


# -- the map -----------------------------------------------------------------------------------------------------------


def test_unknown_places_are_named():
    async def main(network):
        with pytest.raises(socket.gaierror, match=r"no host 'nowhere' in the memory network \(core, bank, branch\)"):
            await asyncio.open_connection("nowhere", 80)
        with pytest.raises(OSError, match=r"10\.9\.9\.9"):
            await asyncio.open_connection("10.9.9.9", 80)
        with pytest.raises(Misconfigured, match="declared: core, bank, branch"):
            network.partition("core", "nowhere")
        with pytest.raises(Misconfigured, match="already the address of 'bank'"):
            network.host("other", "10.0.0.2")
        with pytest.raises(NotImplementedError, match="datagrams"):
            await network.loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        found = await network.loop.getaddrinfo("bank", 80, type=socket.SOCK_STREAM)
        assert await network.loop.getnameinfo(("10.0.0.2", 80)) == ("10.0.0.2", "80")
        return found[0][4]

    assert play(main) == ("10.0.0.2", 80)


def test_a_given_real_socket_stays_real():
    async def main(network):
        listening, served = socket.create_server(("127.0.0.1", 0)), asyncio.Event()

        async def serve(reader, writer):
            await echo(reader, writer)
            await writer.wait_closed()
            served.set()

        server = await asyncio.start_server(serve, sock=listening)
        calling = socket.create_connection(listening.getsockname())
        calling.setblocking(False)
        with network.loop.outside_work():
            reader, writer = await asyncio.open_connection(sock=calling)
            writer.write(b"real")
            answer = await reader.readexactly(4)
            writer.close()
            await writer.wait_closed()
            await served.wait()
        server.close()
        await server.wait_closed()
        return answer

    assert play(main) == b"real"


# -- stock libraries ---------------------------------------------------------------------------------------------------


def a_certificate(folder):
    """A self-signed certificate for host bank; files (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bank")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(dt.datetime(2020, 1, 1)).not_valid_after(dt.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "bank.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "bank.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip
    return folder / "bank.crt", folder / "bank.key"


@pytest.mark.parametrize("upgrade", [False, True], ids=["ssl=", "start_tls"])
def test_tls_runs_over_a_memory_link(tmp_path, upgrade):
    certificate, key = a_certificate(tmp_path)

    async def main(network):
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certificate, key)
        client_side = ssl.create_default_context(cafile=certificate)

        async def serve(reader, writer):
            if upgrade:
                await writer.start_tls(server_side)
            await echo(reader, writer)

        server = await asyncio.start_server(serve, "bank", 443, ssl=None if upgrade else server_side)
        reader, writer = await asyncio.open_connection("bank", 443, ssl=None if upgrade else client_side)
        if upgrade:
            await writer.start_tls(client_side, server_hostname="bank")
        writer.write(b"secret" * 10_000)
        answer = await reader.readexactly(60_000)
        assert writer.get_extra_info("peercert")["subject"]
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()
        server.close()
        return answer == b"secret" * 10_000

    assert play(main)


@pytest.mark.req("TWIN-01")
def test_uvicorn_and_httpx_run_in_virtual_time():
    async def application(scope, receive, send):
        assert scope["type"] == "http"
        body = (await receive())["body"]
        await asyncio.sleep(600)
        answer = body + b" from " + scope["client"][0].encode() + b" on " + HOST.get().encode()
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", str(len(answer)).encode())]})  # fmt: skip
        await send({"type": "http.response.body", "body": answer})

    async def main(network):
        config = uvicorn.Config(application, host="bank", port=80, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        with on_host("bank"):
            serving = asyncio.create_task(server.serve())
        await asyncio.sleep(1)
        async with httpx.AsyncClient(timeout=900, trust_env=False) as client:
            answers = [(await client.post("http://bank/", content=b"%d" % n)).text for n in range(3)]
            ports = network._next_port["core"]
        server.should_exit = True
        await serving
        return answers, ports - 49_152, network.loop.now_us > 1_800 * S

    expected = [f"{n} from 10.0.0.1 on bank" for n in range(3)]
    assert play(main) == (expected, 1, True)


@pytest.mark.req("TWIN-01")
@pytest.mark.parametrize("debug", [False, True])
def test_asyncssh_transfers_files_and_stays_up_a_virtual_day(tmp_path, debug):
    class OpenHouse(asyncssh.SSHServer):
        def begin_auth(self, username):
            return False

    async def main(network):
        server = await asyncssh.listen(
            "bank", 22, server_factory=OpenHouse, config=[], rekey_seconds=10**9, keepalive_interval=30,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(tmp_path).encode()),
        )  # fmt: skip
        async with (
            asyncssh.connect("bank", 22, known_hosts=None, config=[], username="broker", client_keys=None,
                             rekey_seconds=10**9, keepalive_interval=60) as connection,
            connection.start_sftp_client() as sftp,
        ):  # fmt: skip
            async with sftp.open("/payments.csv", "w") as remote:
                await remote.write("x" * 200_000)
            await asyncio.sleep(3_600 if debug else 86_400)
            listed = sorted(await sftp.listdir("/"))
            async with sftp.open("/payments.csv") as remote:
                length = len(await remote.read())
        server.close()
        await server.wait_closed()
        return listed, length

    assert play(main, debug=debug) == ([".", "..", "payments.csv"], 200_000)
