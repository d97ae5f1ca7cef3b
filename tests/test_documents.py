"""The documents say what is so: their commands are run, their paths, words and tables are compared with the code.

* A ```console block of the README is a session: lines after ``$`` are run by a shell in an empty folder, the others
  are what they print. ``…`` stands for anything left out. White space, and figures that differ from run to run or
  from machine to machine (wall time, memory, number of events, trace hash), are not compared.
* A ```yaml block that begins with ``# name.yaml`` is a file, there before each session begins.
* ```text blocks (the long demo) are not run.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli import app
from core.domain import Market
from core.jobs import unbuilt
from core.orchestration.deposit_table import CREATION as DEPOSIT_CREATION
from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.withdraw_table import CREATION as WITHDRAW_CREATION
from core.orchestration.withdraw_table import WITHDRAW
from core.settings import Settings
from scenarios.banks import DIRECT_DEBIT, STATEMENT_BANKS
from scenarios.names import names
from scenarios.reading import load_text
from tests.rig import Rig, play

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
WIDTH = "96"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VOLATILE = re.compile(r"wall [\d.,]+ s \([\d,]+×\)|[\d,]+ events|[\d,]+ MB|trace [0-9a-f]{12}")
EXIT = re.compile("\x1e(\\d+)\x1e")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, kind: str) -> list[str]:
    return [body for language, body in FENCE.findall(read(name)) if language == kind]


def prose(name: str) -> str:
    """A document without its blocks."""
    return FENCE.sub("", read(name))


def in_code_type(name: str) -> list[str]:
    """What stands between single backticks, without the table of what is not built: that names what is not there."""
    return re.findall(r"`([^`\n]+)`", prose(name).partition("| Not built yet |")[0])


def section(name: str, title: str) -> str:
    """The text below a heading, down to the next of its level."""
    level = title.partition(" ")[0]
    rest = read(name).partition(f"\n{title}\n")[2]
    assert rest, f"{name} has no heading {title!r}"
    return re.split(rf"\n{level} ", rest)[0]


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose head begins with this cell."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


# --- the sessions of the README ---------------------------------------------------------------------------------------


def files() -> dict[str, str]:
    """Files that the README tells the reader to save."""
    named = ((re.match(r"# (\S+\.yaml)\n", body), body) for body in blocks("README.md", "yaml"))
    return {found[1]: body for found, body in named if found}


def steps(session: str) -> list[tuple[str, str]]:
    """(command, what it prints)."""
    return [(command, output) for command, _, output in (
        part.partition("\n") for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:])]


def run(commands: list[str], folder: Path) -> list[str]:
    """Run them one after another in one shell; what each printed. ``$?`` is that of the command before."""
    shim = folder / "bin" / "nostro"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m api.cli "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    script = "\n".join(f"{command}\n(code=$?; printf '\\036%d\\036' $code; exit $code)" for command in commands)
    environment = {**os.environ, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                   "COLUMNS": WIDTH, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["/bin/sh", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=300, check=False)
    return EXIT.split(done.stdout)[::2][:-1]


def plain(text: str) -> str:
    """One line, single spaces, without what differs from run to run."""
    return VOLATILE.sub("#", " ".join(text.split()))


def agrees(said: str, printed: str) -> bool:
    """Whether a text with gaps (``…``) is what was printed, from its beginning to its end."""
    pattern = ".*".join(re.escape(part.strip()) for part in plain(said).split("…"))
    return re.fullmatch(pattern, plain(printed), re.DOTALL) is not None


@pytest.mark.parametrize("session", blocks("README.md", "console"), ids=lambda session: steps(session)[0][0])
def test_a_session_of_the_readme_prints_what_it_says(session: str, tmp_path: Path) -> None:
    for program in ("curl", "sftp", "gpg"):
        if f"{program} " in session and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for name, body in files().items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    told = steps(session)
    printed = run([command for command, _ in told], tmp_path)
    assert len(printed) == len(told)
    for (command, said), output in zip(told, printed, strict=True):
        assert agrees(said, output), f"$ {command}\n{output}"


@pytest.mark.parametrize(("said", "agreed"), [
    ("a … d", True), ("a … c", False), ("… d", True), ("b …", False), ("a b c d", True), ("a c d", False),
    ("wall 9.9 s (1×) …", False)])
def test_a_gap_stands_for_anything_but_nothing_else_does(said: str, agreed: bool) -> None:
    assert agrees(said, "a b\n  c d\n") is agreed
    assert agrees("wall 1.2 s (3,456×)  12 events", "wall 0.3 s (9×) 4,711\nevents")


def test_the_files_of_the_readme_are_scenarios() -> None:
    assert files()
    for name, body in files().items():
        assert load_text(body, names(), file=name).name == Path(name).stem


# --- paths, links, words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(name)):
        if target.startswith("#"):
            anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
                       for title in re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)}
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def paths(name: str) -> Iterator[str]:
    """What is written like a path of the repository."""
    for word in in_code_type(name):
        made = word.startswith(("runs/", ".venv", "reports/web/node_modules"))  # by set-up and runs
        if "/" in word and not word.startswith(("/", "http")) and not made and re.fullmatch(r"[\w./-]+", word):
            yield word


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_is_named_exists(name: str) -> None:
    missing = [path for path in paths(name) if not (ROOT / path).exists()]
    assert not missing


@lru_cache(maxsize=1)
def repository() -> tuple[Path, ...]:
    """The program's and the tests' files but this one."""
    folders = ("core", "emulators", "scenarios", "reports", "api", "tests", "loadtests", ".ci")
    return (ROOT / "pyproject.toml", ROOT / "Makefile", *(
        path for folder in folders for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and not {"node_modules", "__pycache__"} & set(path.parts) and path != Path(__file__)))


@lru_cache(maxsize=1)
def sources() -> str:
    """Their text."""
    return "\n".join(path.read_text(encoding="utf-8") for path in repository()
                     if path.suffix in (".py", ".yaml", ".toml") or path.name == "Makefile")


@lru_cache(maxsize=1)
def file_names() -> frozenset[str]:
    """Their names."""
    return frozenset(path.name for path in repository())


def commands() -> dict[str, Any]:
    """``nostro run``, ``nostro spec jobs`` … and the groups themselves."""
    found: dict[str, Any] = {}

    def walk(group: Any, before: str) -> None:
        for word, command in group.commands.items():
            found[f"{before} {word}"] = command
            if hasattr(command, "commands"):
                walk(command, f"{before} {word}")

    walk(get_command(app), "nostro")
    return found


def known(word: str) -> bool:
    """Whether something in code type is a word of the program."""
    if word.startswith("make ") or " make " in word:
        return re.search(rf"^{word.rpartition('make ')[2]}:", read("Makefile"), re.MULTILINE) is not None
    if word.startswith("nostro "):
        return any(word.startswith(command) for command in commands())
    if word in WITHDRAW.by_label or word in DEPOSIT.by_label or word in tuple(Settings()) or word in file_names():
        return True
    bare = re.sub(r"_[a-z]+_YYYYMM$", "", word.strip("()").replace("_NN", ""))
    return bare in sources() or bare.rpartition(".")[2] in sources()


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_every_word_in_code_type_is_a_word_of_the_program(name: str) -> None:
    words = [word for word in in_code_type(name)
             if re.fullmatch(r"[A-Za-z_][\w.()]*|(?:nostro|make) \w[\w -]*", word) and word not in set(paths(name))]
    assert len(words) > 50
    assert not [word for word in words if not known(word)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_row_that_is_named_stands_in_a_transition_table(name: str) -> None:
    rows = {row.id for row in (*DEPOSIT.rows, *WITHDRAW.rows, DEPOSIT_CREATION, WITHDRAW_CREATION)}
    assert not set(re.findall(r"\b[DW]T-\d+[a-z]?\b", read(name))) - rows


# --- the command line and what is not built ---------------------------------------------------------------------------


def test_the_table_of_commands_is_the_command_line() -> None:
    told = {" ".join(re.findall(r"^`(nostro [a-z -]+?)(?: \[?[A-Z]+\]?)?`$", row[0]))
            for row in table(read("README.md"), "Command")}
    assert told == {name for name, command in commands().items() if not hasattr(command, "commands")}


def holdings(folder: str) -> set[str]:
    """What a package holds besides its ``__init__.py``."""
    return {path.name for path in (ROOT / folder).iterdir()} - {"__init__.py", "__pycache__"}


def dependencies() -> set[str]:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    listed = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    return {re.split(r"[<>=\[ ]", one)[0] for one in listed}


def is_absent(claim: str) -> bool:
    """Whether one claim of the table holds; an AssertionError for what is not a claim."""
    quoted = re.findall(r"`([^`]+)`", claim)
    match re.sub(r"`[^`]+`(?: `[^`]+`)*", "`", claim).strip():
        case "` holds only `":
            return holdings(quoted[0]) == set(quoted[1:])
        case "` holds no module":
            return not holdings(quoted[0])
        case "no `":
            return not (ROOT / quoted[0]).exists()
        case "no command `":
            return not set(quoted) & commands().keys()
        case "no dependency `":
            return not set(quoted) & dependencies()
        case "no job `":
            return not set(quoted) - set(jobs_not_built())
    raise AssertionError(f"not a claim this test can judge: {claim!r}")


@lru_cache(maxsize=1)
def jobs_not_built() -> tuple[str, ...]:
    """Jobs of the registry for which a core has neither a handler nor a function."""

    async def story(rig: Rig) -> tuple[str, ...]:
        run = {status.name for status in rig.core.timetable.status()} | set(rig.core.in_connection)
        return unbuilt(rig.core.jobs.handled, run)

    result: tuple[str, ...] = play(story, cards=("airstar", "cmb", "cmbc", *STATEMENT_BANKS, *DIRECT_DEBIT),
                                   statements=(*(bank for bank in STATEMENT_BANKS if bank != "ewb"), *DIRECT_DEBIT))
    return result


def not_built() -> list[list[str]]:
    return table(read("README.md"), "Not built yet")


@pytest.mark.parametrize("row", not_built(), ids=lambda row: row[0])
def test_what_is_said_to_be_missing_is_missing(row: list[str]) -> None:
    assert not [claim for claim in row[2].split(";") if not is_absent(claim)]


def test_every_job_without_a_handler_is_said_to_be_missing() -> None:
    told = [job for row in not_built() for claim in row[2].split(";") if claim.strip().startswith("no job")
            for job in re.findall(r"`([^`]+)`", claim)]
    assert sorted(told) == sorted(jobs_not_built())


@pytest.mark.parametrize("row", table(read("README.md"), "Built"), ids=lambda row: row[0])
def test_what_is_said_to_be_built_has_its_place(row: list[str]) -> None:
    places = re.findall(r"`([^`]+)`", row[2])
    assert places
    assert not [place for place in places if not (ROOT / place).exists()]


# --- the architecture -------------------------------------------------------------------------------------------------


def contracts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    return found


def test_the_drawing_of_the_rooms_is_the_import_contract() -> None:
    drawing = blocks("ARCHITECTURE.md", "text")[0].splitlines()
    outer = [match[1] for line in drawing if (match := re.match(r"(\w+)", line))]
    inner = [re.split(r" {3,}", line.strip())[0] for line in drawing if line.startswith("   ")]
    layers = [contract["layers"] for contract in contracts() if contract["type"] == "layers"]
    assert outer == layers[0]
    assert inner == [layer.replace("core.", "") for layer in layers[1]]


def test_every_room_of_core_has_a_line_in_the_table_of_folders() -> None:
    told = {row[0].strip("`") for row in table(read("ARCHITECTURE.md"), "Folder")}
    folders = {f"core/{path.name}/" for path in (ROOT / "core").iterdir()
               if path.is_dir() and path.name != "__pycache__"}
    packages = {"emulators/", "scenarios/", "reports/", "api/", "loadtests/", "tests/"}
    assert told == folders | packages


WRITTEN = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")


def transactions(ask: Callable[[Rig], Awaitable[Any]]) -> list[tuple[str, set[str]]]:
    """(database, tables written) of every transaction of one story, in order."""

    async def story(rig: Rig) -> list[tuple[str, set[str]]]:
        await asyncio.sleep(40)  # the line stands, and nothing is left of its beginning
        found: list[tuple[str, set[str]]] = []
        since: dict[str, set[str]] = {}
        for name in ("primary", "account", "procedure", "assets"):
            listen(getattr(rig.world.databases, name).connection, since.setdefault(name, set()))

        def committed(name: str, _number: int) -> None:
            found.append((name, set(since[name])))
            since[name].clear()

        rig.world.watch_commits(committed)
        await ask(rig)
        await asyncio.sleep(20 if ask is not by_transfer else 400)
        rig.world.watch_commits(None)
        return [(database, tables) for database, tables in found
                if tables not in ({"job_run"}, {"icbc_bank_flow"})]  # the timetable's own, and pulls without news

    steady = {"sim.cmb.outcome": [[0, 1.0]], "sim.cmb.unknown.share": 0.0}
    statements = ("icbc",) if ask is by_transfer else ()
    result: list[tuple[str, set[str]]] = play(story, start="2026-03-12 10:01", cards=("airstar", "cmb", *statements),
                                              settings=steady, statements=statements)
    return result


async def by_transfer(rig: Rig) -> None:
    """Alice announces a deposit and transfers it from ICBC."""
    alice, bank = rig.customer("alice"), "icbc"
    await rig.core.deposits_at[bank].submit(alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, bank),
                                            alice.cards[bank].number, "HKD", 100_000)
    assert rig.world.receivers[bank].pay(alice, "HKD", 100_000)


async def at_cmb(rig: Rig) -> None:
    """Alice deposits in CMB's app."""
    assert rig.world.banks["cmb"].ask(rig.customer("alice"), "deposit", Market.HK, "HKD", 100_000) == 0


def listen(connection: Any, written: set[str]) -> None:
    """Note the tables that statements on a connection write, shards as ``_NN``."""

    def note(statement: str) -> None:
        match = WRITTEN.match(statement)
        if match:
            written.add(re.sub(r"_20\d{4}$", "_YYYYMM", re.sub(r"_\d\d$", "_NN", match[1])))

    connection.set_trace_callback(note)


@pytest.mark.parametrize(("kind", "letter", "ask"), [
    ("deposit", "D", Rig.deposit), ("withdrawal", "W", Rig.withdraw), ("pushed deposit", "P", at_cmb),
    ("CMB withdrawal", "C", partial(Rig.withdraw, channel="cmb")), ("standard deposit", "S", by_transfer)])
def test_the_way_through_the_rooms_is_the_way_that_is_told(
    kind: str, letter: str, ask: Callable[[Rig], Awaitable[Any]]
) -> None:
    rows = table(section("ARCHITECTURE.md", f"## The way of a {kind}"), "#")
    assert [row[0] for row in rows] == [f"{letter}{number + 1}" for number in range(len(rows))]
    told = [(row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows]
    assert transactions(ask) == told


def test_the_table_of_postings_is_the_ledgers() -> None:
    from core.assets import OPERATIONS

    told = {word for row in table(section("ARCHITECTURE.md", "## Money"), "Operation") for word in row[0].split(", ")}
    assert told == set(OPERATIONS)


def test_every_decision_says_why() -> None:
    numbers = re.findall(r"^### N-(\d{3}) .+$", read("ARCHITECTURE.md"), re.MULTILINE)
    assert numbers == [f"{number + 1:03d}" for number in range(len(numbers))]
    for title in re.findall(r"^(### N-\d{3} .+)$", read("ARCHITECTURE.md"), re.MULTILINE):
        text = section("ARCHITECTURE.md", title)
        parts = re.findall(r"^\* \*\*(\w+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Status", "Background", "Alternatives", "Decision", "Consequences"], title
    mentioned = set(re.findall(r"\bN-(\d{3})\b", read("ARCHITECTURE.md")))
    assert mentioned == set(numbers)


# --- the changelog ----------------------------------------------------------------------------------------------------


def test_the_changelog_begins_with_the_version_of_the_program() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
