"""The trace, read back with Perfetto's own generated classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.trace import Event
from reports.perfetto import varint, write_trace


@pytest.fixture(scope="module")
def packets(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        Trace,
    )

    path: Path = tmp_path_factory.mktemp("trace") / "trace.pftrace"
    size = write_trace(path, events)
    content = path.read_bytes()
    assert size == len(content)
    trace = Trace()
    assert trace.ParseFromString(content) == len(content)
    assert trace.ByteSize() == len(content), "fields that Perfetto does not know, or not in its form"
    return list(trace.packet)


class Decoded:
    """Packets with interned strings resolved, as a reader would."""

    def __init__(self, packets: list[Any]) -> None:
        self.tracks: dict[int, Any] = {}
        self.events: list[tuple[int, int, int, str, dict[str, object]]] = []
        names: dict[int, str] = {}
        keys: dict[int, str] = {}
        values: dict[int, str] = {}
        for packet in packets:
            for each in packet.interned_data.event_names:
                names[each.iid] = each.name
            for each in packet.interned_data.debug_annotation_names:
                keys[each.iid] = each.name
            for each in packet.interned_data.debug_annotation_string_values:
                values[each.iid] = each.str.decode()
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if packet.HasField("track_event"):
                event = packet.track_event
                said = {keys[each.name_iid]: values[each.string_value_iid] if each.string_value_iid
                        else each.int_value for each in event.debug_annotations}
                name = names[event.name_iid] if event.name_iid else ""
                self.events.append((packet.timestamp, event.type, event.track_uuid, name, said))


@pytest.fixture(scope="module")
def decoded(packets: list[Any]) -> Decoded:
    return Decoded(packets)


def test_the_sequence_begins_clean_and_carries_the_clock(packets: list[Any], events: list[Event]) -> None:
    assert packets[0].sequence_flags == 1
    assert {clock.clock_id: clock.timestamp for clock in packets[0].clock_snapshot.clocks} == {
        6: events[0][1] * 1_000, 1: events[0][1] * 1_000}
    assert {packet.trusted_packet_sequence_id for packet in packets} == {1}
    assert all(packet.sequence_flags == 2 for packet in packets if packet.HasField("track_event"))


def test_tracks_are_declared_before_use_and_named_apart(packets: list[Any], decoded: Decoded) -> None:
    seen: set[int] = set()
    for packet in packets:
        if packet.HasField("track_descriptor"):
            parent = packet.track_descriptor.parent_uuid
            assert parent == 0 or parent in seen
            seen.add(packet.track_descriptor.uuid)
        elif packet.HasField("track_event"):
            assert packet.track_event.track_uuid in seen
    siblings = Counter((track.parent_uuid, track.name) for track in decoded.tracks.values())
    assert max(siblings.values()) == 1


def test_each_procedure_has_a_track_below_its_channel_and_bank(decoded: Decoded, events: list[Event]) -> None:
    channels = {data["id"]: data["channel"] for _, _, kind, _, data in events if kind == "procedure"}
    found = {}
    for track in decoded.tracks.values():
        if track.name.startswith("P") and track.name[1].isdigit():
            channel = decoded.tracks[track.parent_uuid]
            assert decoded.tracks[channel.parent_uuid].name == channel.name.split()[0]
            found[int(track.name.split()[0][1:])] = channel.name
    assert found == channels


def test_slices_are_the_states_in_virtual_nanoseconds(decoded: Decoded, events: list[Event]) -> None:
    numbers = {uuid: int(track.name.split()[0][1:]) for uuid, track in decoded.tracks.items()
               if track.name.startswith("P") and track.name[1].isdigit()}
    told = [(t_ns, numbers[uuid], name, said["row"]) for t_ns, kind, uuid, name, said in decoded.events
            if uuid in numbers and kind != 2 and "row" in said]
    assert told == [(t_us * 1_000, data["id"], data["to"], data["row"]) for _, t_us, kind, _, data in events
                    if kind == "procedure"]


def test_slices_are_balanced_and_time_never_runs_back(decoded: Decoded) -> None:
    depth: Counter[int] = Counter()
    last = 0
    for t_ns, kind, uuid, _, _ in decoded.events:
        assert t_ns >= last
        last = t_ns
        depth[uuid] += {1: 1, 2: -1, 3: 0}[kind]
        assert 0 <= depth[uuid] <= 1
    assert not +depth


def test_bank_messages_are_instants(decoded: Decoded, events: list[Event]) -> None:
    kinds = Counter(kind for _, _, kind, _, _ in events)
    messages = {uuid for uuid, track in decoded.tracks.items() if track.name.endswith(" messages")}
    assert sum(1 for _, kind, uuid, _, _ in decoded.events if uuid in messages and kind == 3) == sum(
        kinds[name] for name in ("bank.request", "bank.reply", "bank.book", "bank.gate"))


def test_varints_of_negative_numbers_have_ten_bytes() -> None:
    assert varint(0) == b"\0" and varint(300) == b"\xac\x02" and len(varint(-1)) == 10


def test_an_empty_run_is_an_empty_trace(tmp_path: Path) -> None:
    assert write_trace(tmp_path / "trace.pftrace", []) == 0
