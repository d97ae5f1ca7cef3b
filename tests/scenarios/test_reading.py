"""Every class of mistake is told with its line, its column, the key path and a remedy; nothing else is ever raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.clock import hkt
from core.errors import Misconfigured
from core.settings import Settings
from scenarios.names import names as platform_names
from scenarios.reading import (
    ScenarioInvalid,
    json_schema,
    load,
    load_text,
    parse_set,
    read_document,
)
from scenarios.schema import Names, Recorded, RecordedDeposit

Told = Callable[..., list[tuple[int, int, str, str]]]


@pytest.fixture(scope="session")
def problems(names: Names) -> Told:
    """(line, column, path, what + remedy) of each mistake; `head` has 7 lines, so what follows it begins at line 8."""

    def told(text: str, **options: Any) -> list[tuple[int, int, str, str]]:
        with pytest.raises(ScenarioInvalid) as caught:
            load_text(text, names, file="f.yaml", **options)
        return [(p.mark.line, p.mark.column, p.path, f"{p.what} ({p.remedy})") for p in caught.value.problems]

    return told


@pytest.mark.parametrize(("marked", "path", "words"), [
    ("»expct: []\n", "expct", "did you mean expect?"),
    ("wire: »ful\n", "wire", "'full' or 'messages'"),
    ("wire:»\n", "wire", "'full' or 'messages'"),
    ("faults: »{}\n", "faults", "not a list"),
    ("staff: »3\n", "staff", "not a mapping"),
    ("about: »3\n", "about", "not text"),
    ("staff: {reviewers: »two}\n", "staff.reviewers", "not a whole number"),
    ("staff: {forgets: »often}\n", "staff.forgets", "not a number"),
    ("staff: {forgets: »1.5}\n", "staff.forgets", "less than or equal to 1"),
    ("staff: {reviewers: »-1}\n", "staff.reviewers", "greater than or equal to 0"),
    ("overrides:\n  - {market: HK, date: 2026-03-13, closed: »1, known_from: 10:00}\n",
     "overrides[0].closed", "true or false"),
    ("workload:\n  - recorded:\n    - »{at: 10:00}\n", "workload[0].recorded[0]", "exactly one of: deposit"),
    ("workload:\n  - »deposit: {}\n", "workload[0]", "exactly one of: deposits, withdrawals"),
    ("»seed: 3\n", "seed", "the first is in line 5"),
    ("about: [\n»", "", "not YAML"),
    ("about: »!!python/object:os.system x\n", "about", "tag"),
    ("about: »&a text\n", "", "anchors"),
    ("? »[a]\n: b\n", "", "a key must be a word"),
    ("about: »\x01\n", "", "not allowed"),
    ("---\n»a: b\n", "", "second document"),
    ("settings: {»airstar.poll.deposit.mx: 3}\n",
     "settings.airstar.poll.deposit.mx", "did you mean airstar.poll.deposit.max?"),
    ("settings:\n  airstar.poll.deposit.max: »'3'\n", "settings.airstar.poll.deposit.max", "a whole number"),
    ("faults:\n  - {at: 10:00, inject: »airstar.slw}\n", "faults[0].inject", "did you mean airstar.slow"),
    ("faults:\n  - {at: 10:00, inject: airstar.slow, with: {»delay: 3, delay_s: 1}}\n",
     "faults[0].with.delay", "did you mean delay_s?"),
    ("faults:\n  - »{at: 10:00, inject: airstar.slow}\n", "faults[0].with", "needs the parameter 'delay_s'"),
    ("faults:\n  - {at: 10:00, inject: core.kill, with: {at: »comit}}\n", "faults[0].with.at", "commit"),
    ("faults:\n  - {at: 10:00, inject: core.kill, with: {at: commit, restart_after: »30}}\n",
     "faults[0].with.restart_after", "not a duration"),
    ("faults:\n  - {at: 10:00, inject: airstar.stuck_pending, with: {paid: »'yes', until_s: x}}\n",
     "faults[0].with.paid", "true or false"),
    ("faults:\n  - {at: 10:00, inject: bank.debit, with: {amount: »1.5}}\n", "faults[0].with.amount", "1.50"),
    ("staff:\n  actions:\n    - {at: 10:00, by: »boss, do: WithdrawFileExport}\n",
     "staff.actions[0].by", "supervisor"),
    ("staff:\n  actions:\n    - {at: 10:00, by: supervisor, do: »QueryBnk}\n", "staff.actions[0].do", "QueryBank"),
    ("expect:\n  - {that: alerts, rule: »AIRSTAR-6, equals: 1}\n", "expect[0].rule", "AIRSTAR-06"),
    ("expect:\n  - {that: deposits, state: »end_okay, equals: 1}\n", "expect[0].state", "no deposit state"),
    ("expect:\n  - {that: jobs, job: »AsbBstTransfr, equals: 1}\n", "expect[0].job", "AsbBstTransfer"),
    ("expect:\n  - {that: latency, channel: »airstr deposit, p95: {at_most: 3m}}\n",
     "expect[0].channel", "airstar deposit"),
    ("expect:\n  - {that: »procedur}\n", "expect[0].that", "did you mean procedure?"),
    ("expect:\n  - »{state: x}\n", "expect[0]", "'that' is missing"),
    ("expect:\n  - {that: balance, customer: alice, ccy: HKD, »avail: 3}\n", "expect[0].avail", "available"),
    ("expect:\n  - {that: balance, customer: »alcie, ccy: HKD, frozen: 0}\n", "expect[0].customer", "alice"),
    ("expect:\n  - {that: balance, customer: »4, ccy: hkd, frozen: 0}\n", "expect[0].customer", "0 customers"),
    ("population: {customers: 5, balances: {»HKDD: {median: 1, p99: 2}}}\n", "population.balances.HKDD", "HKD"),
    ("population: {customers: 5, cards: {»airstr: 1}}\n", "population.cards.airstr", "airstar"),
    ("overrides:\n  - {market: HK, date: »2026-02-30, known_from: 10:00}\n", "overrides[0].date", "calendar"),
    ("faults:\n  - {at: »20:00, inject: airstar.stuck_pending}\n", "faults[0].at", "outside the run"),
    ("workload:\n  - recorded:\n      - {at: 10:00, authorise: {customer: »alice, channel: hsbc_eddi}}\n",
     "workload[0].recorded[0].authorise.customer", "no card at hsbc_eddi"),
    ("workload:\n  - recorded:\n      - {at: 10:00, authorise: {customer: alice, channel: »airstar}}\n",
     "workload[0].recorded[0].authorise.channel", "no channel of direct debits"),
    ("expect:\n  - »{that: latency, channel: hsbc withdrawal, stage: crediting, p50: {at_most: 1s}}\n",
     "expect[0]", "stages are those of deposits"),
    ("expect:\n  - »{that: moment, of: {customer: alice, withdrawal: 1}, what: sent, by: 10:00}\n",
     "expect[0]", "moments are of deposits"),
    ("faults:\n  - {at: 10:00, for: »ten, inject: airstar.stuck_pending}\n", "faults[0].for", "not a duration"),
    ("expect:\n  - »{that: alerts}\n", "expect[0]", "nothing is expected"),
    ("expect:\n  - {that: alerts, equals: »many}\n", "expect[0].equals", "count nor a percentage"),
    ("expect:\n  - {that: balance, customer: alice, ccy: HKD, frozen: »0.5}\n", "expect[0].frozen", "'0.50'"),
    ("population: {customers: 5, balances: {HKD: »{median: 3, p99: 2}}}\n", "population.balances.HKD", "p99"),
    ("population: {customers: 5, mandate: »{OPEN: 0.5}}\n", "population.mandate", "add up to 0.5"),
    ("workload:\n  - deposits: »{channel: airstar, count: 3, ccy: {HKD: 1}, amount: {HKD: {median: 1, "
     "p99: 2}}}\n",
     "workload[0].deposits", "add a population"),
    ("population: {customers: 5, at_bank: {HKD: {median: 1, p99: 2}}, cards: {airstar: 1}}\nworkload:\n  "
     "- deposits: {channel: airstar, count: 3, ccy: {»USD: 1}, amount: {HKD: {median: 1, p99: 2}}}\n",
     "workload[0].deposits.ccy.USD", "no customer has USD"),
    ("population: {customers: 5, at_bank: {HKD: {median: 1, p99: 2}}, cards: {airstar: 1}}\nworkload:\n  "
     "- deposits: {channel: airstar, count: 3, ccy: {HKD: 1}, amount: {HKD: {median: 1, p99: 2}}, "
     "market: »{US: 1}}\n",
     "workload[0].deposits.market", "no market of this entry takes HKD"),
    ("population: {customers: 5, at_bank: {HKD: {median: 1, p99: 2}}, cards: {airstar: 1}}\nworkload:\n  "
     "- deposits: {channel: airstar, count: 3, ccy: {HKD: 1}, amount: {HKD: {median: 1, p99: 2}}, "
     "until: »10:00, from: 11:00}\n",
     "workload[0].deposits.until", "after"),
    ("population: {customers: 5, at_bank: {HKD: {median: 1, p99: 2}}, cards: {airstar: 1}}\nworkload:\n  "
     "- deposits: {channel: airstar, count: 3, ccy: {HKD: 1}, amount: {HKD: {median: 1, p99: 2}}, "
     "hours: »evening, until: 17:00}\n",
     "workload[0].deposits.hours", "no hour"),
    ("population: {customers: 5, at_bank: {HKD: {median: 1, p99: 2}}}\nworkload:\n  - deposits: {channel: "
     "»airstar, count: 3, ccy: {HKD: 1}, amount: {HKD: {median: 1, p99: 2}}}\n",
     "workload[0].deposits.channel", "population.cards"),
    ("workload:\n  - recorded:\n    - {at: 10:00, deposit: {customer: alice, channel: »hsbc, ccy: HKD, "
     "amount: 1}}\n",
     "workload[0].recorded[0].deposit.channel", "hsbc does not carry a deposit"),
    ("workload:\n  - recorded:\n    - {at: 10:00, withdraw: {customer: »alice, channel: hsbc, ccy: HKD, "
     "amount: 1}}\n",
     "workload[0].recorded[0].withdraw.customer", "no card at hsbc"),
    ("workload:\n  - recorded:\n    - {at: 10:00, deposit: {customer: alice, channel: airstar, market: "
     "US, ccy: »HKD, amount: 1}}\n",
     "workload[0].recorded[0].deposit.ccy", "US does not take HKD"),
    ("staff:\n  actions:\n    - »{at: 10:00, by: supervisor, do: QueryBank}\n", "staff.actions[0]", "on what"),
    ("staff:\n  actions:\n    - {at: 10:00, by: supervisor, do: QueryBank, on: »{customer: alice, "
     "withdrawal: 1}}\n",
     "staff.actions[0].on", "done on a deposit"),
    ("expect:\n  - {that: procedure, of: {customer: alice, withdrawal: »2}, state: end_reject}\n",
     "expect[0].of.withdrawal", "no recorded withdrawal"),
    ("expect:\n  - {that: procedure, of: »{customer: alice}, state: end_reject}\n",
     "expect[0].of", "one deposit or one withdrawal"),
])
def test_a_mistake_is_told_with_its_place_and_remedy(
    marked: str, path: str, words: str, head: str, problems: Told,
) -> None:
    """The sign » stands where the mistake must be told."""
    text = head + marked
    before = text[:text.index("»")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    found = problems(text.replace("»", ""))
    at = [entry for entry in found if entry[:3] == (line, column, path)]
    assert at, found
    assert any(words in entry[3] for entry in at)


def test_depth_and_size_of_numbers_are_limited(head: str, problems: Told) -> None:
    assert problems(head + "about: " + "[" * 50_000)[0][:2] == (8, 48)
    assert problems(head + "about: " + "9" * 5_000 + "\n")[0][:3] == (8, 8, "about")


def test_states_of_the_other_machine_are_mistakes(full: str, problems: Told) -> None:
    found = problems(full.replace("state: end_reject}", "state: end_ok(deposit_ok)}"))
    assert [(entry[2], "a withdrawal is never in" in entry[3]) for entry in found] == [("expect[5].state", True)]


def test_two_customers_or_entries_of_one_name(full: str, problems: Told) -> None:
    found = problems(full.replace("wire:", "  - {id: alice, cards: [airstar]}\nwire:"))
    assert [entry[2] for entry in found] == ["customers[1].id"]
    twice = full.replace("count: 20,", "count: 20, name: morning,").replace("count: 10,", "count: 10, name: morning,")
    assert [entry[2] for entry in problems(twice)] == ["workload[1].withdrawals.name"]


def test_missing_and_misplaced_times(head: str, problems: Told) -> None:
    assert problems(head.replace("seed: 7\n", ""))[0][2:] == ("seed", "this is missing (add 'seed: …')")
    assert problems(head.replace("18:00", "08:00"))[0][:3] == (4, 6, "end")
    assert problems(head.replace("2026-03-12 09:00", "2026-03-12"))[0][:3] == (3, 8, "start")


def test_all_mistakes_are_told_together_in_the_order_of_the_file(head: str, names: Names) -> None:
    with pytest.raises(Misconfigured) as caught:
        load_text(head + "wire: ful\nexpct: 1\nfaults:\n  - {at: x, inject: y}\n", names, file="f.yaml")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["f.yaml:8:7", "f.yaml:9:1", "f.yaml:11:10", "f.yaml:11:21"]
    assert (caught.value.where, caught.value.remedy) == ("f.yaml:8:7", "write one of these words")


def test_very_many_mistakes_are_cut(head: str, names: Names) -> None:
    text = head + "expect:\n" + "  - {that: nonsense}\n" * 100
    with pytest.raises(ScenarioInvalid) as caught:
        load_text(text, names)
    assert len(caught.value.problems) == 100
    assert str(caught.value).endswith("… and 80 more")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "3", "a: \ud800", "[" * 200_000, "{" * 200_000, "\t- x"])
def test_what_is_no_scenario_at_all(text: str, names: Names) -> None:
    with pytest.raises(Misconfigured):
        load_text(text, names)


def test_plain_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    text = "a: 10:00\nb: 2026-03-12\non: no\nc: 010\nd: .inf\ne: 1e3\nf: '3'\ng: ~\nh: true\ni:"
    assert read_document(text, "f").data == {
        "a": "10:00", "b": "2026-03-12", "on": "no", "c": 10, "d": ".inf", "e": 1000.0, "f": "3", "g": None,
        "h": True, "i": None}


# --- What is read ---------------------------------------------------------------------------------------------------


def test_values_arrive_converted(names: Names, full: str) -> None:
    scenario = load_text(full, names)
    slow, kill = scenario.faults
    assert (hkt(slow.at).strftime("%H:%M"), slow.lasts, slow.parameters, slow.times) == ("10:00", 600_000,
                                                                                         {"delay_s": 20}, 3)
    assert (kill.parameters, kill.lasts, kill.only) == ({"at": "commit", "restart_after": 30_000}, None, None)
    assert scenario.settings == {"airstar.poll.deposit.max": 30, "sim.airstar.share": 1.0}
    assert isinstance(scenario.settings["sim.airstar.share"], float)
    action = scenario.staff.actions[0]
    assert action.on is not None
    assert (action.on.kind, action.on.nth, str(action.on)) == ("withdrawal", 1, "withdrawal 1 of alice")
    assert (scenario.overrides[0].date, scenario.overrides[0].closed) == (20260313, True)


def test_seed_and_overlay_of_the_command_line_win(names: Names, full: str) -> None:
    scenario = load_text(full, names, seed=99, overlay={"airstar.poll.deposit.max": 5})
    assert (scenario.seed, scenario.settings["airstar.poll.deposit.max"]) == (99, 5)
    with pytest.raises(Misconfigured, match="did you mean"):
        load_text(full, names, overlay={"airstar.poll.deposit.mx": 5})
    with pytest.raises(Misconfigured, match="seed"):
        load_text(full, names, seed=-1)


def test_names_of_the_library_and_paths(names: Names, tmp_path: Path, full: str) -> None:
    assert load("normal_day", platform_names()).name == "normal_day"
    with pytest.raises(Misconfigured, match=r"did you mean normal_day\?"):
        load("normal_dya", names)
    file = tmp_path / "mine.yaml"
    file.write_text(full, "utf-8")
    assert load(file, names) == load(str(file), names)
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path / "none.yaml", names)
    file.write_bytes(b"name: \xff")
    with pytest.raises(Misconfigured, match="not UTF-8 text at byte 6"):
        load(file, names)


def test_recorded_lines_beside_the_scenario(names: Names, tmp_path: Path, head: str) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"at": "10:00", "deposit": {"customer": "alice", "channel": "airstar", "ccy": "HKD", "amount": "5"}}\n\n'
        '{"at": "11:00", "withdraw": {"customer": "alice", "channel": "airstar", "ccy": "HKD", "amount": "5"}}\n')
    entry = load_text(head + "workload: [{recorded_in: x.jsonl}]\n", names, folder=tmp_path).workload[0]
    assert isinstance(entry, Recorded)
    assert [isinstance(record, RecordedDeposit) for record in entry.recorded] == [True, False]


def test_mistakes_in_recorded_lines_are_told_at_their_line(tmp_path: Path, head: str, problems: Told) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"at": "10:00", "deposit": {"customer": "bob", "channel": "airstar", "ccy": "HKD", "amount": "5"}}\n')
    found = problems(head + "workload: [{recorded_in: x.jsonl}]\n", folder=tmp_path)
    assert [(entry[0], entry[2]) for entry in found] == [(1, "workload[0].recorded[0].deposit.customer")]
    (tmp_path / "x.jsonl").write_text('\n{"at": }\n{"a": 1, "a": 2}\nNaN\n' + "[" * 100_000)
    found = problems(head + "workload: [{recorded_in: x.jsonl}]\n", folder=tmp_path)
    assert {entry[0] for entry in found if "not JSON" in entry[3]} == {2, 3, 4, 5}


@pytest.mark.parametrize("name", ["../x.jsonl", "/etc/x.jsonl", "x.txt", "a/../x.jsonl", ".x.jsonl"])
def test_recorded_files_stay_beside_the_scenario(name: str, tmp_path: Path, head: str, problems: Told) -> None:
    assert problems(head + f"workload: [{{recorded_in: {name}}}]\n", folder=tmp_path)[0][2] == "workload[0].recorded_in"


def test_recorded_files_need_a_folder_and_must_exist(tmp_path: Path, head: str, problems: Told) -> None:
    assert "no folder" in problems(head + "workload: [{recorded_in: x.jsonl}]\n")[0][3]
    assert "cannot be read" in problems(head + "workload: [{recorded_in: x.jsonl}]\n", folder=tmp_path)[0][3]


# --- --set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [
    ("airstar.poll.deposit.max=5", 5), ("sim.airstar.share=1", 1.0), ("withdraw.prehold=false", False),
    ("reverse.unbind_policy=5", "5"), ("match.banks=[a, b]", ["a", "b"]), ("calendar.half_day_cutoff=12:15", "12:15"),
    (" airstar.poll.deposit.max = 5", 5), ("reverse.unbind_policy=a=b", "a=b")])
def test_set_reads_a_value_of_the_type_of_the_default(text: str, value: Any, names: Names) -> None:
    key, got = parse_set(text, names.settings)
    assert (got, type(got)) == (value, type(value))
    assert key in names.settings


@pytest.mark.parametrize(("text", "words"), [
    ("airstar.poll.deposit.max", "is not key=value"), ("=5", "is not key=value"),
    ("airstar.poll.deposit.max=x", "give a whole number"), ("airstar.poll.deposit.max=1.5", "give a whole number"),
    ("withdraw.prehold=1", "true or false"), ("withdraw.prehold=", "true or false"), ("match.banks=[", "not a value"),
    ("airstar.pol.deposit.max=5", r"did you mean airstar.poll.deposit.max")])
def test_set_refuses_with_a_remedy(text: str, words: str, names: Names) -> None:
    with pytest.raises(Misconfigured, match=words):
        parse_set(text, names.settings)


def test_the_platforms_own_settings_serve_as_names(names: Names, head: str) -> None:
    platform = Settings()
    with pytest.raises(Misconfigured, match=r"^--set: there is no setting 'no\.such\.key'"):
        parse_set("no.such.key=1", platform)
    with pytest.raises(ScenarioInvalid, match=r"^<text>:8:12: settings\.no\.such\.key: there is no setting"):
        load_text(head + "settings: {no.such.key: 1}\n", replace(names, settings=platform))


# --- Properties -----------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["alice", "10:00", "+2h", "airstar", "HKD", "95%", "1,000.00", "deposits", "open", "3m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["that", "at", "of", "deposits", "recorded", "with", "customer", "HKD", "median", "of_balance", "x"]), inner,
        max_size=3), max_leaves=6)
def places(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in below for place in places(value, (*path, key)))]


def mutated(data: Any, path: tuple[str | int, ...], act: str, value: Any) -> Any:
    """The document with one value replaced or deleted, or one put beside it."""
    data = json.loads(json.dumps(data))
    if not path:
        return value
    node = data
    for part in path[:-1]:
        node = node[part]
    if act == "replace":
        node[path[-1]] = value
    elif act == "delete":
        del node[path[-1]]
    elif isinstance(node, dict):
        node[f"{path[-1]}x"] = value
    else:
        node.insert(0, value)
    return data


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_documents_never_raise_anything_else_and_agree_with_the_schema(
    names: Names, full: str, data: st.DataObject,
) -> None:
    valid = read_document(full, "full").data
    changed = mutated(valid, data.draw(st.sampled_from(places(valid))),
                      data.draw(st.sampled_from(["replace", "delete", "insert"])), data.draw(JUNK))
    try:
        load_text(json.dumps(changed), names)
    except ScenarioInvalid as error:
        assert all(problem.mark.line >= 1 and problem.what for problem in error.problems)
    else:
        refused = [error.message for error in Draft202012Validator(json_schema(names)).iter_errors(changed)]
        assert refused == [], "the schema refuses what the reader accepts"


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, 12), st.text(max_size=6))
def test_damaged_text_never_raises_anything_else(
    names: Names, full: str, data: st.DataObject, cut: int, put: str,
) -> None:
    place = data.draw(st.integers(0, len(full) - 1))
    try:
        load_text(full[:place] + put + full[place + cut:], names)
    except Misconfigured as error:
        assert error.where


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_set_never_raises_anything_else(names: Names, text: str) -> None:
    try:
        parse_set(text, names.settings)
    except Misconfigured as error:
        assert error.where.startswith("--set")


# --- Several banks ---------------------------------------------------------------------------------------------------

BANKS = """\
name: banks
title: Customers at three banks
start: 2026-03-12 09:00
end: 2026-03-12 18:00
seed: 7
customers:
  - {id: dave, at_bank: {HKD: "1,000"}, cards: [cmbc]}
"""


@pytest.mark.parametrize(("text", "path", "words"), [
    ("workload:\n  - recorded:\n    - {at: 10:00, deposit: {customer: dave, channel: cmbc, ccy: CNH, amount: 5}}\n",
     "workload[0].recorded[0].deposit.ccy", "cmbc does not carry CNH (it carries HKD, USD)"),
    ("workload:\n  - recorded:\n    - {at: 10:00, withdraw: {customer: dave, channel: cmbc, ccy: CNH, amount: 5}}\n",
     "workload[0].recorded[0].withdraw.ccy", "cmbc does not carry CNH (it carries HKD, USD)"),
    ("population: {customers: 3, cards: {cmbc: 1.0}, at_bank: {CNH: {median: 9, p99: 9}}}\n"
     "workload:\n  - deposits: {channel: cmbc, count: 1, ccy: {CNH: 1}, amount: {CNH: {median: 1, p99: 2}}}\n",
     "workload[0].deposits.ccy.CNH", "cmbc does not carry CNH (it carries HKD, USD)"),
    ("population: {customers: 3, cards: {ewb: 1.0}, at_bank: {HKD: {median: 9, p99: 9}}}\n"
     "workload:\n  - deposits: {channel: ewb, count: 1, ccy: {HKD: 1}, amount: {HKD: {median: 1, p99: 2}}}\n",
     "workload[0].deposits.ccy.HKD", "ewb does not carry HKD (it carries USD)"),
    ("workload:\n  - recorded:\n    - {at: 10:00, deposit: {customer: dave, channel: cmb, ccy: HKD, amount: 5}}\n",
     "workload[0].recorded[0].deposit.customer", "dave has no card at cmb (add cards: [cmb] to the customer)"),
    ("faults:\n  - {at: 10:00, inject: cmb.reject}\n", "faults[0].inject",
     "nobody has a card at cmb: the bank is not in this run (add cards: [cmb] to a customer, or population.cards)"),
    ("faults:\n  - {at: 10:00, inject: cmbc.drop, only: {customer: dave}}\n", "faults[0].only",
     "cmbc.drop strikes whole lines (remove 'only')"),
    ("faults:\n  - {at: 10:00, inject: cmbc.half_open, share: 0.5}\n", "faults[0].share",
     "cmbc.half_open strikes whole lines (remove 'share')"),
    ("faults:\n  - {at: 10:00, inject: cmbc.drop, with: {server: third}}\n", "faults[0].with.server",
     "there is no value 'third' (there are: primary, backup, both)"),
    ("faults:\n  - {at: 10:00, inject: cmbc.timeout, with: {message: qury}}\n", "faults[0].with.message",
     "there is no value 'qury' (did you mean query?)"),
])
def test_mistakes_about_banks_are_told(text: str, path: str, words: str) -> None:
    from scenarios.names import names

    with pytest.raises(ScenarioInvalid) as caught:
        load_text(BANKS + text, names(), file="f.yaml")
    assert [(p.path, f"{p.what} ({p.remedy})") for p in caught.value.problems] == [(path, words)]


@pytest.mark.parametrize(("ccy", "taken"), [("USD", True), ("HKD", False)])
def test_a_deposit_is_in_a_currency_of_our_accounts_there(ccy: str, taken: bool) -> None:
    from scenarios.names import names

    text = BANKS.replace("cards: [cmbc]", "cards: [ewb]") + (
        "workload:\n  - recorded:\n"
        f"    - {{at: 10:00, deposit: {{customer: dave, channel: ewb, ccy: {ccy}, amount: 5}}}}\n")
    if not taken:
        with pytest.raises(ScenarioInvalid, match=r"ewb does not carry HKD \(it carries USD\)"):
            load_text(text, names(), file="f.yaml")
        text += 'settings: {receiving.ewb.accounts: {USD: "8600000001", HKD: "8600000002"}}\n'
    assert load_text(text, names(), file="f.yaml").name == "banks"


@pytest.mark.parametrize("text", [
    "population: {customers: 3, cards: {cmb: 0.5, hsbc: 1.0}, at_bank: {CNH: {median: 9, p99: 9}}}\n"
    "workload:\n  - deposits: {channel: cmb, count: 1, ccy: {CNH: 1}, amount: {CNH: {median: 1, p99: 2}}}\n",
    "faults:\n  - {at: 10:00, inject: airstar.slow}\n",  # Airstar is there whether anybody has a card or not
    "faults:\n  - {at: 10:00, inject: cmbc.drop, times: 1, for: 5m, with: {server: both}}\n",
    "faults:\n  - {at: 10:00, inject: core.kill, with: {at: 'ack:MsCredit', restart_after: 5s}}\n",
    "expect:\n  - {that: latency, channel: cmbc withdrawal, p50: {at_most: 5s}}\n",
])
def test_what_several_banks_allow_is_read(text: str) -> None:
    from scenarios.names import names

    known = names()
    load_text(BANKS + text, known)
    Draft202012Validator(json_schema(known)).validate(read_document(BANKS + text, "f.yaml").data)
