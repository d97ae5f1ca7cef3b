"""Reading scenarios: YAML text -> `Scenario`, every mistake with file, line, column and remedy.

Text is parsed to YAML events (for their marks), turned into plain data with the scalar rules of YAML 1.2's core
schema (``10:00`` and ``2026-03-12`` are text, ``on`` and ``no`` are words), validated by the models of
``scenarios.schema``, then checked across the whole. Duplicate keys and aliases are refused. All mistakes
that one pass can see are reported together, as one `ScenarioInvalid` (a `Misconfigured`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from core.errors import Misconfigured
from scenarios.population import banks_of
from scenarios.schema import (
    AmountOfBalance,
    BankEffectsExpected,
    Context,
    Deposits,
    Flow,
    MomentExpected,
    Movement,
    Names,
    Parameter,
    ProcedureExpected,
    Recorded,
    RecordedAuthorisation,
    RecordedDeposit,
    RecordedIn,
    RecordedWithdrawal,
    Scenario,
    SendingsExpected,
    Target,
    Withdrawals,
    full_moment_ms,
    moment_ms,
)
from scenarios.workload import hours_between, markets_for

KeyPath = tuple[str | int, ...]

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_VALUES = 2_000_000
MAX_DEPTH = 40
MAX_PROBLEMS_SHOWN = 20


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """One mistake: where it stands, under which keys, what is wrong, what to do."""

    mark: Mark
    path: str
    what: str
    remedy: str

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        return f"{self.mark}: {subject}{self.what}" + (f" ({self.remedy})" if self.remedy else "")


class ScenarioInvalid(Misconfigured):
    """A scenario with mistakes; ``problems`` holds them in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        first, rest = self.problems[0], self.problems[1:]
        more = [str(problem) for problem in rest[:MAX_PROBLEMS_SHOWN - 1]]
        if len(rest) >= MAX_PROBLEMS_SHOWN:
            more.append(f"… and {len(rest) - len(more)} more")
        subject = f"{first.path}: " if first.path else ""
        super().__init__(subject + first.what, where=str(first.mark), remedy=first.remedy)
        self.args = ("\n".join([str(first), *more]),)


# --- YAML -> data with marks ----------------------------------------------------------------------------------------


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"~|null|Null|NULL|", re.ASCII), lambda text: None),  # noqa: ARG005 - one shape for all
    (re.compile(r"true|True|TRUE", re.ASCII), lambda text: True),  # noqa: ARG005
    (re.compile(r"false|False|FALSE", re.ASCII), lambda text: False),  # noqa: ARG005
    (re.compile(r"[-+]?[0-9]+", re.ASCII), int),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII), _finite),
)
"""Plain scalars of YAML 1.2's core schema (without .inf and .nan): everything else is text."""


@dataclass(slots=True)
class Document:
    """Plain data and, by key path, the marks of values and of keys."""

    file: str
    data: Any = None
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mark(self, path: KeyPath, *, key: bool = False) -> Mark:
        """The mark of a value (or of its key); of the nearest value around it if it stands nowhere."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Mark(self.file, 1, 1))

    def report(self, path: KeyPath, what: str, remedy: str = "", *, key: bool = False) -> None:
        """Note a mistake at a path."""
        self.problems.append(Problem(self.mark(path, key=key), shown(path), what, remedy))

    def refuse(self) -> None:
        """Raise what has been noted, if anything."""
        if self.problems:
            raise ScenarioInvalid(self.problems)


def shown(path: KeyPath) -> str:
    """``workload[0].deposits.count``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_document(text: str, file: str) -> Document:
    """Data and marks of a YAML text; raises `ScenarioInvalid` for what is not YAML as used here."""
    document = Document(file)
    try:
        _Builder(document, yaml.parse(text, Loader=_PARSER)).read()
    except yaml.YAMLError as error:
        raise ScenarioInvalid([_syntax(error, text, file)]) from None
    except UnicodeError as error:
        raise ScenarioInvalid([Problem(Mark(file, 1, 1), "", f"this is not text: {error}", "remove the character")]
                              ) from None
    document.refuse()
    return document


def _syntax(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        what = getattr(error, "problem", None) or getattr(error, "context", None) or "not YAML"
        return Problem(Mark(file, mark.line + 1, mark.column + 1), "", f"this is not YAML: {what}",
                       "check the indentation, the quotes and the brackets")
    position = min(int(getattr(error, "position", 0) or 0), len(text))
    line = text.count("\n", 0, position)
    column = position - (text.rfind("\n", 0, position) + 1)
    return Problem(Mark(file, line + 1, column + 1), "", "this character is not allowed in YAML", "remove it")


class _Builder:
    """Turns the parser's events into data. From events and not from nodes: composing nodes recurses without limit."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self.document, self.events = document, events
        self.built = 0

    def read(self) -> None:
        """The one document of the stream."""
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                if self.built:
                    self._stop(event, "a second document begins here", "keep one document in the file")
                self.document.data = self._value(event, ())
        if not self.built:
            self.document.report((), "the file is empty", "see scenarios/library for examples")

    def _mark(self, event: Any) -> Mark:
        return Mark(self.document.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _stop(self, event: Any, what: str, remedy: str) -> None:
        raise ScenarioInvalid([*self.document.problems, Problem(self._mark(event), "", what, remedy)])

    def _value(self, event: Any, path: KeyPath) -> Any:
        self.document.values[path] = self._mark(event)
        self.built += 1
        if self.built > MAX_VALUES or len(path) > MAX_DEPTH:
            self._stop(event, "the file is too large or too deep", f"at most {MAX_VALUES} values, {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._stop(event, "anchors and aliases are not used in scenarios", "write the value out")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event, path)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(event, "a key must be a word", "put it in quotes")
            key = str(event.value)
            if key in result:
                self._twice(event, (*path, key))
            else:
                self.document.keys[(*path, key)] = self._mark(event)
            value = self._value(next(self.events), (*path, key))
            result.setdefault(key, value)
        return result

    def _twice(self, event: Any, path: KeyPath) -> None:
        first = self.document.keys[path]
        self.document.problems.append(Problem(
            self._mark(event), shown(path), f"the key {path[-1]!r} stands here twice",
            f"the first is in line {first.line}; keep one of them"))

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        text = str(event.value)
        if event.tag not in (None, "!"):
            self.document.report(path, f"the tag {event.tag} is not used in scenarios", "remove it")
        elif event.implicit[0] and event.tag is None:
            return self._plain(text, path)
        return text

    def _plain(self, text: str, path: KeyPath) -> Any:
        for pattern, read in _PLAIN:
            if pattern.fullmatch(text):
                try:
                    return read(text)
                except ValueError:
                    self.document.report(path, f"the number {text[:20]}… does not fit", "put it in quotes")
        return text


# --- Recorded workloads beside the scenario -------------------------------------------------------------------------


def _read_recorded(document: Document, folder: Path | None) -> None:
    """Replace each ``recorded_in: file`` by ``recorded: […]`` with the marks of that file's lines."""
    root = document.data if isinstance(document.data, dict) else {}
    workload = root["workload"] if isinstance(root.get("workload"), list) else []
    for index, entry in enumerate(workload):
        path: KeyPath = ("workload", index, "recorded_in")
        if isinstance(entry, dict) and entry.keys() == {"recorded_in"} and _acceptable_file(entry["recorded_in"]):
            if folder is None:
                document.report(path, "there is no folder to find this file in", "load the scenario from a file")
                continue
            workload[index] = {"recorded": _records(document, folder / entry["recorded_in"], index)}


def _acceptable_file(name: Any) -> bool:
    pattern = RecordedIn.model_json_schema()["properties"]["recorded_in"]["pattern"]
    return isinstance(name, str) and re.search(pattern, name) is not None


def _records(document: Document, file: Path, index: int) -> list[Any]:
    text = _text_of(file, document.mark(("workload", index, "recorded_in")))
    records: list[Any] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        document.values["workload", index, "recorded", len(records)] = Mark(str(file), number, 1)
        try:
            records.append(json.loads(line, object_pairs_hook=_no_duplicates, parse_constant=_no_constant))
        except (ValueError, RecursionError) as error:
            column = error.colno if isinstance(error, json.JSONDecodeError) else 1
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            document.problems.append(Problem(Mark(str(file), number, column), "", f"this line is not JSON: {what}",
                                             "write one JSON object per line"))
    return records


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _text_of(file: Path, cited: Mark | None = None) -> str:
    mark = cited or Mark(str(file), 1, 1)
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ScenarioInvalid([Problem(mark, "", f"{file} is larger than {MAX_FILE_BYTES} bytes", "divide it")])
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        what, remedy = f"{file} cannot be read: {error.strerror}", "check the path"
    except UnicodeDecodeError as error:
        what, remedy = f"{file} is not UTF-8 text at byte {error.start}", "save it as UTF-8"
    raise ScenarioInvalid([Problem(mark, "", what, remedy)])


# --- Models' errors -> problems -------------------------------------------------------------------------------------


def nearest(got: str, allowed: Iterable[str]) -> str:
    """``did you mean …?``, or what there is when nothing is near and there is little; '' when there is much."""
    known = list(allowed)
    folded = {name.casefold(): name for name in known}
    near = [folded[key] for key in difflib.get_close_matches(got.casefold(), list(folded), n=3, cutoff=0.5)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {', '.join(known)}" if 0 < len(known) <= 30 else ""


_WORDS: dict[str, tuple[str, str]] = {
    "int_type": ("this is not a whole number", "write digits without quotes"),
    "int_from_float": ("this is not a whole number", "write digits without a point"),
    "float_type": ("this is not a number", "write a number without quotes"),
    "finite_number": ("this is not a number", "write a number"),
    "string_type": ("this is not text", "put it in quotes"),
    "bool_type": ("this is neither true nor false", "write true or false"),
    "dict_type": ("this is not a mapping", "write key: value lines, or {key: value}"),
    "model_type": ("this is not a mapping", "write key: value lines, or {key: value}"),
    "model_attributes_type": ("this is not a mapping", "write key: value lines, or {key: value}"),
    "list_type": ("this is not a list", "begin each item with '- '"),
}


def _walk(loc: KeyPath, data: Any) -> tuple[KeyPath, Any]:
    """The part of a validation error's location that stands in the data (tags of unions do not)."""
    path: KeyPath = ()
    for part in loc:
        if _has(data, part):
            data, path = data[part], (*path, part)
    return path, data


def _has(data: Any, part: str | int) -> bool:
    """Whether the data has this key or index."""
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _note(document: Document, error: ErrorDetails) -> None:
    """Translate one validation error."""
    loc, kind = tuple(error["loc"]), error["type"]
    path, _ = _walk(loc, document.data)
    context = error.get("ctx", {})
    if kind == "scenario_with":
        inside = path if path[-1:] == ("with",) else (*path, "with")
        for key, unknown, problem in context["problems"]:
            _note_custom(document, (*inside, key) if key else inside, problem.context or {}, key=unknown)
    elif kind == "scenario":
        _note_custom(document, path, context, key=loc[-1:] == ("[key]",))
    elif kind == "missing":
        document.report((*path, loc[-1]), "this is missing", f"add '{loc[-1]}: …'")
    elif kind == "extra_forbidden":
        fields = fields_at(path[:-1], document.data)
        document.report(path, f"there is no key {path[-1]!r} here", nearest(str(path[-1]), fields), key=True)
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        _note_tag(document, path, context)
    elif kind == "literal_error":
        document.report(path, f"this must be {context['expected']}", "write one of these words")
    else:
        what, remedy = _WORDS.get(kind, (error["msg"].replace("Input", "this").replace("String", "this"), "correct it"))
        document.report(path, what, remedy)


def _note_custom(document: Document, path: KeyPath, context: Mapping[str, Any], *, key: bool) -> None:
    remedy = context.get("remedy", "")
    if context.get("allowed"):
        remedy = nearest(context.get("got", ""), [name for name in context["allowed"] if name]) or remedy
    document.report(path, context["what"], remedy, key=key)


def _note_tag(document: Document, path: KeyPath, context: Mapping[str, Any]) -> None:
    """An expectation without ``that``, or with one that does not exist."""
    _, data = _walk(path, document.data)
    known = [schema["properties"]["that"]["const"] for schema in _alternatives(("expect", 0))]
    if isinstance(data, dict) and "that" in data:
        got = str(context.get("tag", data["that"]))
        document.report((*path, "that"), f"nothing can be expected of {got!r}", nearest(got, known))
    else:
        document.report(path, "'that' is missing", f"add 'that: …', one of {', '.join(known)}")


@lru_cache(maxsize=1)
def _plain_schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


def _resolved(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a schema, references followed."""
    if "$ref" in schema:
        yield from _resolved(_plain_schema()["$defs"][schema["$ref"].rpartition("/")[2]])
        return
    choices = [*schema.get("oneOf", []), *schema.get("anyOf", []), *schema.get("allOf", [])]
    for choice in choices:
        yield from _resolved(choice)
    if not choices:
        yield schema


def _alternatives(path: KeyPath, data: Any = None) -> list[dict[str, Any]]:
    """The object schemas that can stand at a path, given the ``that`` of the data on the way."""
    schemas = list(_resolved(_plain_schema()))
    for part in path:
        below = [
            found
            for schema in schemas
            for inner in [schema.get("items") if isinstance(part, int) else
                          schema.get("properties", {}).get(part) or schema.get("additionalProperties")]
            if isinstance(inner, dict)
            for found in _resolved(inner)]
        data = data[part] if _has(data, part) else None
        that = data.get("that") if isinstance(data, dict) else None
        fitting = [schema for schema in below if that is not None and
                   schema.get("properties", {}).get("that", {}).get("const", that) == that]
        schemas = fitting or below
    return schemas


def fields_at(path: KeyPath, data: Any) -> list[str]:
    """The keys a mapping at a path may have."""
    return list(dict.fromkeys(key for schema in _alternatives(path, data) for key in schema.get("properties", {})))


# --- The whole ------------------------------------------------------------------------------------------------------


def library() -> dict[str, Path]:
    """The scenarios that come with the program, by name."""
    folder = Path(str(resources.files("scenarios"))) / "library"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find(path_or_name: str | Path) -> Path:
    """The file of a scenario: a path (anything with a suffix or a folder), or a name of the library."""
    given = str(path_or_name)
    if isinstance(path_or_name, Path) or given.endswith((".yaml", ".yml")) or "/" in given:
        return Path(given)
    known = library()
    if given not in known:
        raise Misconfigured(f"there is no scenario {given!r}", where="scenarios/library",
                            remedy=nearest(given, known) or "give a name of the library or a path ending in .yaml")
    return known[given]


def load(
    path_or_name: str | Path, names: Names, *, seed: int | None = None, overlay: Mapping[str, Any] | None = None,
) -> Scenario:
    """A scenario by path or by its name in the library; raises `Misconfigured` (`ScenarioInvalid`).

    ``seed`` (``--seed``) and ``overlay`` (``--set``, dotted keys) win over the file.
    """
    file = find(path_or_name)
    return load_text(_text_of(file), names, file=str(file), folder=file.parent, seed=seed, overlay=overlay)


def load_text(
    text: str, names: Names, *, file: str = "<text>", folder: Path | None = None, seed: int | None = None,
    overlay: Mapping[str, Any] | None = None,
) -> Scenario:
    """A scenario from text; ``folder`` is where its ``recorded_in`` files stand."""
    document = read_document(text, file)
    _read_recorded(document, folder)
    try:
        scenario = Scenario.model_validate(document.data, context=_context_of(document.data, names))
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            _note(document, error)
        raise ScenarioInvalid(document.problems) from None
    document.refuse()
    for check in _CHECKS:
        check(scenario, names, document)
    document.refuse()
    return _overlaid(scenario, names, seed, overlay or {})


def _overlaid(scenario: Scenario, names: Names, seed: int | None, overlay: Mapping[str, Any]) -> Scenario:
    laid = {key: fitting(key, value, names.settings, "--set")
            for key, value in {**scenario.settings, **overlay}.items()}
    if seed is not None and not 0 <= seed < 2**63:
        raise Misconfigured(f"{seed} is not a seed", where="--seed", remedy="give a whole number from 0 up")
    return scenario.model_copy(update={"settings": laid, "seed": scenario.seed if seed is None else seed})


def _context_of(data: Any, names: Names) -> Context:
    """What values are read against, as far as the file says it readably."""
    root: dict[str, Any] = data if isinstance(data, dict) else {}
    start = _readable(lambda: full_moment_ms(root.get("start")))
    end = _readable(lambda: moment_ms(root.get("end"), start or 0)) if start is not None else None
    listed = root.get("customers")
    customers = listed if isinstance(listed, list) else []
    ids = tuple(str(entry.get("id")) for entry in customers if isinstance(entry, dict))
    population = root.get("population")
    drawn = population.get("customers") if isinstance(population, dict) else 0
    return Context(names, start, end if end is None or start is None or end > start else None, ids,
                   drawn if isinstance(drawn, int) else 0)


def _readable(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except PydanticCustomError:
        return None


# --- Settings -------------------------------------------------------------------------------------------------------


def fitting(key: str, value: Any, defaults: Mapping[str, Any], where: str) -> Any:
    """The value in the type of the key's default; raises `Misconfigured` for an unknown key or another type."""
    if key not in tuple(defaults):  # core.settings.Settings raises for an unknown key: ask its keys
        raise Misconfigured(f"there is no setting {key!r}", where=where or "settings",
                            remedy=nearest(key, defaults) or "see `nostro config show`")
    default = defaults[key]
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise Misconfigured(f"{value!r} does not fit", where=f"{where} {key}",
                        remedy=f"give a {_TYPE_WORDS[type(default)]}; the default is {default!r}")


_TYPE_WORDS: dict[type, str] = {
    int: "whole number", float: "number", str: "text", bool: "true or false", list: "list", dict: "mapping"}


def parse_set(text: str, defaults: Mapping[str, Any]) -> tuple[str, Any]:
    """``key=value`` of ``--set``: the value by the scalar rules of scenarios and the type of the key's default."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise Misconfigured(f"{text!r} is not key=value", where="--set", remedy="write it like bank.poll.max=60")
    if key in tuple(defaults) and isinstance(defaults[key], str):
        return key, raw.strip()
    try:
        value = read_document(raw, "--set").data if raw.strip() else None
    except ScenarioInvalid as error:
        raise Misconfigured(f"{raw!r} is not a value: {error.problems[0].what}", where=f"--set {key}",
                            remedy="put it in quotes") from None
    return key, fitting(key, value, defaults, "--set")


# --- Checks across the file -----------------------------------------------------------------------------------------


def _check_settings(scenario: Scenario, names: Names, document: Document) -> None:
    for key, value in scenario.settings.items():
        try:
            fitting(key, value, names.settings, "")
        except Misconfigured as error:
            document.report(("settings", key), error.what, error.remedy, key=key not in tuple(names.settings))


def _check_ids(scenario: Scenario, names: Names, document: Document) -> None:  # noqa: ARG001 - one shape for all checks
    seen: set[str] = set()
    for index, customer in enumerate(scenario.customers):
        if customer.id in seen:
            document.report(("customers", index, "id"), f"there are two customers {customer.id!r}", "rename one")
        seen.add(customer.id)
    seen = set()
    for path, flow, _ in _flows(scenario):
        if flow.name and flow.name in seen:
            document.report((*path, "name"), f"two entries have the name {flow.name!r}", "rename one of them")
        seen.add(flow.name)


def _flows(scenario: Scenario) -> Iterator[tuple[KeyPath, Flow, str]]:
    for index, entry in enumerate(scenario.workload):
        if isinstance(entry, Deposits):
            yield ("workload", index, "deposits"), entry.deposits, entry.deposits.channel
        elif isinstance(entry, Withdrawals):
            yield ("workload", index, "withdrawals"), entry.withdrawals, entry.withdrawals.channel


def _check_flows(scenario: Scenario, names: Names, document: Document) -> None:
    for path, flow, channel in _flows(scenario):
        if scenario.population is None:
            document.report(path, "there are no customers to draw from", "add a population")
            continue
        deposits = path[-1] == "deposits"
        bank = (names.deposit_channels if deposits else names.withdrawal_channels)[channel]
        if not scenario.population.cards.get(bank):
            document.report((*path, "channel"), f"no customer has a card at {bank}",
                            f"add population.cards: {{{bank}: 0.5}}")
        taken = _taken(scenario, names, bank, deposits)
        for ccy in (ccy for ccy, share in flow.ccy.items() if share and ccy not in taken):
            document.report((*path, "ccy", ccy), *_not_carried(bank, ccy, taken), key=True)
        _check_window(scenario, flow, path, document)
        _check_currencies(scenario, names, flow, path, document)


def _check_window(scenario: Scenario, flow: Flow, path: KeyPath, document: Document) -> None:
    since, until = flow.since or scenario.start, flow.until or scenario.end
    if since >= until:
        document.report((*path, "until"), "this is not after 'from'", "let it be later")
    elif not hours_between(since, until, flow.hours):
        document.report((*path, "hours"), "no hour between 'from' and 'until' has a weight", "change one of them")


def _check_currencies(scenario: Scenario, names: Names, flow: Flow, path: KeyPath, document: Document) -> None:
    assert scenario.population is not None
    source = "at_bank" if path[-1] == "deposits" else "balances"
    held = getattr(scenario.population, source)
    by_share = isinstance(flow.amount, AmountOfBalance)
    for ccy in (ccy for ccy, share in flow.ccy.items() if share):
        if not markets_for(ccy, flow.market, names):
            document.report((*path, "market" if flow.market else "ccy"), f"no market of this entry takes {ccy}",
                            f"markets with {ccy}: {', '.join(m for m, taken in names.markets.items() if ccy in taken)}")
        if isinstance(flow.amount, dict) and ccy not in flow.amount:
            document.report((*path, "amount"), f"there is no amount for {ccy}", f"add {ccy}: {{median: …, p99: …}}")
        if ccy not in held and (by_share or flow.affordable):
            document.report((*path, "ccy", ccy), f"no customer has {ccy}: population.{source} lacks it",
                            f"add population.{source}.{ccy}" + ("" if by_share else ", or set affordable: false"),
                            key=True)


def _taken(scenario: Scenario, names: Names, bank: str, deposits: bool) -> tuple[str, ...]:
    """The currencies that a bank takes; of deposits at a statement bank, those in which we have an account there."""
    if deposits and bank in names.receiving:
        accounts = scenario.settings.get(f"receiving.{bank}.accounts", names.receiving[bank])
        return tuple(accounts) if isinstance(accounts, Mapping | Sequence) else names.currencies
    return tuple(ccy for ccy in names.currencies if names.carries(bank, ccy))


def _not_carried(bank: str, ccy: str, taken: Sequence[str]) -> tuple[str, str]:
    return f"{bank} does not carry {ccy}", f"it carries {', '.join(taken)}"


def _movements(scenario: Scenario) -> Iterator[tuple[KeyPath, str, Movement]]:
    for index, entry in enumerate(scenario.workload):
        if isinstance(entry, Recorded):
            for number, record in enumerate(entry.recorded):
                path: KeyPath = ("workload", index, "recorded", number)
                if isinstance(record, RecordedDeposit):
                    yield (*path, "deposit"), "deposit", record.deposit
                elif isinstance(record, RecordedWithdrawal):
                    yield (*path, "withdraw"), "withdrawal", record.withdraw


def _check_movements(scenario: Scenario, names: Names, document: Document) -> None:
    cards = {customer.id: customer.cards for customer in scenario.customers}
    for path, kind, movement in _movements(scenario):
        channels = names.deposit_channels if kind == "deposit" else names.withdrawal_channels
        bank = channels.get(movement.channel)
        if bank is None:
            document.report((*path, "channel"), f"{movement.channel} does not carry a {kind}", nearest("", channels))
        elif isinstance(movement.customer, str) and bank not in cards[movement.customer]:
            document.report((*path, "customer"), f"{movement.customer} has no card at {bank}",
                            f"add cards: [{bank}] to the customer")
        taken = names.currencies if bank is None else _taken(scenario, names, bank, kind == "deposit")
        if bank is not None and movement.ccy not in taken:
            document.report((*path, "ccy"), *_not_carried(bank, movement.ccy, taken))
        if movement.market and movement.ccy not in names.markets[movement.market]:
            document.report((*path, "ccy"), f"market {movement.market} does not take {movement.ccy}",
                            f"it takes {', '.join(names.markets[movement.market])}")
        elif names.home_market(movement.ccy) is None:
            document.report((*path, "ccy"), f"no market takes {movement.ccy}", "choose another currency")


def _check_authorisations(scenario: Scenario, names: Names, document: Document) -> None:
    cards = {customer.id: customer.cards for customer in scenario.customers}
    for index, entry in enumerate(scenario.workload):
        for number, record in enumerate(entry.recorded if isinstance(entry, Recorded) else ()):
            if isinstance(record, RecordedAuthorisation):
                wish = record.authorise
                bank = names.deposit_channels[wish.channel]
                if isinstance(wish.customer, str) and bank not in cards[wish.customer]:
                    document.report(("workload", index, "recorded", number, "authorise", "customer"),
                                    f"{wish.customer} has no card at {bank}",
                                    f"add cards: [{bank}] and mandate: INIT to the customer")


def _check_faults(scenario: Scenario, names: Names, document: Document) -> None:
    there = (*names.residents, *banks_of(scenario))
    for index, fault in enumerate(scenario.faults):
        path: KeyPath = ("faults", index)
        place = fault.inject.partition(".")[0]
        if place in names.banks and place not in there:
            document.report((*path, "inject"), f"nobody has a card at {place}: the bank is not in this run",
                            f"add cards: [{place}] to a customer, or population.cards")
        if fault.inject in names.unaimed and fault.only is not None:
            document.report((*path, "only"), f"{fault.inject} strikes whole lines", "remove 'only'", key=True)
        if fault.inject in names.unaimed and fault.share < 1:
            document.report((*path, "share"), f"{fault.inject} strikes whole lines", "remove 'share'", key=True)


def _check_actions(scenario: Scenario, names: Names, document: Document) -> None:
    for index, action in enumerate(scenario.staff.actions):
        needed = names.operations[action.do].on
        path: KeyPath = ("staff", "actions", index)
        if needed == "nothing" and action.on is not None:
            document.report((*path, "on"), f"{action.do} is not done on a deposit or a withdrawal", "remove 'on'")
        elif needed != "nothing" and action.on is None:
            document.report(path, f"{action.do} needs to know on what", "add on: {customer: …, withdrawal: 1}")
        elif action.on is not None and needed not in ("either", action.on.kind):
            document.report((*path, "on"), f"{action.do} is done on a {needed}, not on a {action.on.kind}",
                            f"write {needed}: 1")


def _targets(scenario: Scenario) -> Iterator[tuple[KeyPath, Target]]:
    for index, action in enumerate(scenario.staff.actions):
        if action.on is not None:
            yield ("staff", "actions", index, "on"), action.on
    for index, expectation in enumerate(scenario.expect):
        if isinstance(expectation, ProcedureExpected | BankEffectsExpected | SendingsExpected | MomentExpected):
            yield ("expect", index, "of"), expectation.of


def _check_targets(scenario: Scenario, names: Names, document: Document) -> None:  # noqa: ARG001 - one shape
    """A named customer moves money only as recorded, so a higher number is a mistake."""
    recorded = Counter((movement.customer, kind) for _, kind, movement in _movements(scenario))
    for path, target in _targets(scenario):
        has = recorded[target.customer, target.kind]
        if isinstance(target.customer, str) and target.nth > has:
            document.report((*path, target.kind), f"{target.customer} has {has or 'no'} recorded {target.kind}"
                            f"{'s' if has > 1 else ''}", "correct the number, or record it in the workload")


def _check_states(scenario: Scenario, names: Names, document: Document) -> None:
    for index, expected in enumerate(scenario.expect):
        if isinstance(expected, ProcedureExpected):
            known = names.deposit_states if expected.of.kind == "deposit" else names.withdrawal_states
            path: KeyPath = ("expect", index)
            places: list[tuple[KeyPath, str | None]] = [
                ((*path, "state"), expected.state),
                *(((*path, "visits", state), state) for state in expected.visits),
                *(((*path, "way", step), state) for step, state in enumerate(expected.way or ()))]
            for place, state in places:
                if state is not None and state not in known:
                    document.report(place, f"a {expected.of.kind} is never in {state}", nearest(state, known))


_CHECKS = (_check_settings, _check_ids, _check_flows, _check_movements, _check_authorisations, _check_faults,
           _check_actions, _check_targets, _check_states)


# --- JSON Schema ----------------------------------------------------------------------------------------------------


def json_schema(names: Names) -> dict[str, Any]:
    """JSON Schema 2020-12 of a scenario file with every name filled in, for editors (``nostro spec scenario-schema``).

    The schema accepts everything the reader accepts; the reader also checks what a schema cannot say (dates that
    exist, shares that add up, customers that exist).
    """
    schema: dict[str, Any] = _filled(Scenario.model_json_schema(), names)
    definitions = schema["$defs"]
    _choose_parameters(definitions["Fault"], "inject", names.faults)
    _choose_parameters(definitions["Action"], "do", {name: op.parameters for name, op in names.operations.items()})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:nostro:scenario", **schema}


def _filled(schema: Any, names: Names) -> Any:
    """The schema with ``names: group`` replaced by the names of that group."""
    if isinstance(schema, list):
        return [_filled(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    group = schema.get("names")
    if not isinstance(group, str):
        return {key: _filled(part, names) for key, part in schema.items()}
    rest = {key: part for key, part in schema.items() if key != "names"}
    if group == "settings":
        properties = {key: _setting_schema(value) for key, value in names.settings.items()}
        return {**rest, "properties": properties, "additionalProperties": False}
    allowed = list(getattr(names, group))
    return {**rest, "enum": allowed} if allowed else rest


_JSON_TYPES: dict[type, str] = {
    int: "integer", float: "number", str: "string", bool: "boolean", list: "array", dict: "object"}


def _setting_schema(default: Any) -> dict[str, Any]:
    if type(default) not in _JSON_TYPES:
        return {}
    return {"type": _JSON_TYPES[type(default)], "default": default}


def _choose_parameters(schema: dict[str, Any], key: str, known: Mapping[str, Mapping[str, Parameter]]) -> None:
    schema["allOf"] = [
        {"if": {"properties": {key: {"const": name}}, "required": [key]},
         "then": _parameters_schema(shape)}
        for name, shape in known.items()]


def _parameters_schema(shape: Mapping[str, Parameter]) -> dict[str, Any]:
    required = [key for key, parameter in shape.items() if parameter.required]
    inner = {"type": "object", "additionalProperties": False, "required": required,
             "properties": {key: _parameter_schema(parameter) for key, parameter in shape.items()}}
    return {"properties": {"with": inner}, "required": ["with"]} if required else {"properties": {"with": inner}}


def _parameter_schema(parameter: Parameter) -> dict[str, Any]:
    definitions = _plain_schema()
    match parameter.kind:
        case "text":
            return {"type": "string", "enum": list(parameter.one_of)} if parameter.one_of else {"type": "string"}
        case "integer" | "number":
            return {"type": parameter.kind}
        case "flag":
            return {"type": "boolean"}
        case "duration" | "moment" | "amount":
            return _value_schema(parameter.kind, definitions)


def _value_schema(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a duration, a moment or an amount, as the models state it."""
    model, key = {"duration": ("SomeTime", "from"), "moment": ("Action", "at"), "amount": ("Movement", "amount")}[kind]
    stated: dict[str, Any] = schema["$defs"][model]["properties"][key]
    return {name: value for name, value in stated.items() if name != "title"}
