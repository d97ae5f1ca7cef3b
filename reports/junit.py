"""``junit.xml`` of a run: each expectation and each invariant is a test case, so any CI shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from reports.verdict import Summary, checked, unmet, violations

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, summary: Summary) -> None:
    """Write the file; failures carry detail and the reproducing command."""
    root = ElementTree.Element("testsuites", name=_clean(summary["scenario"]))
    _properties(_expectations(root, summary), summary)
    _invariants(root, summary)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, "utf-8", xml_declaration=True)


def _clean(value: object) -> str:
    return _NOT_XML.sub("\ufffd", str(value))


def _suite(root: ElementTree.Element, name: str, tests: int, failures: int, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(root, "testsuite", name=name, tests=str(tests), failures=str(failures), errors="0",
                                  skipped="0", time=f"{seconds:.3f}")


def _case(suite: ElementTree.Element, scenario: object, name: object) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_clean(f"{scenario}.{suite.get('name')}"),
                                  name=_clean(name), time="0")


def _fail(case: ElementTree.Element, message: object, more: str = "") -> None:
    failure = ElementTree.SubElement(case, "failure", message=_clean(message), type="violation")
    failure.text = _clean(more)


def _expectations(root: ElementTree.Element, summary: Summary) -> ElementTree.Element:
    expectations = list(summary.get("expectations", ()))
    suite = _suite(root, "expectations", len(expectations), len(unmet(summary)),
                   float(summary.get("wall_seconds", 0)))
    for each in expectations:
        case = _case(suite, summary["scenario"], each["name"])
        if not each["passed"]:
            _fail(case, each.get("detail", ""))
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(each.get("detail", ""))
    return suite


def _properties(suite: ElementTree.Element, summary: Summary) -> None:
    properties = ElementTree.Element("properties")
    for name in ("seed", "trace_hash", "events", "virtual_seconds", "speedup"):
        if name in summary:
            ElementTree.SubElement(properties, "property", name=name, value=_clean(summary[name]))
    suite.insert(0, properties)


def _invariants(root: ElementTree.Element, summary: Summary) -> None:
    names = summary.get("invariants", {}).get("checked", 0)
    broken: dict[str, list[Mapping[str, Any]]] = {}
    for each in violations(summary):
        broken.setdefault(str(each["invariant"]), []).append(each)
    listed = [] if isinstance(names, int) else [str(name) for name in names]
    held = checked(summary) - len(broken)
    cases = list(dict.fromkeys([*listed, *broken]))
    if not listed and held > 0:
        cases.append(f"the other {held} invariants" if broken else f"all {held} invariants")
    suite = _suite(root, "invariants", len(cases), len(broken), 0)
    for name in cases:
        case = _case(suite, summary["scenario"], name)
        if name in broken:
            _fail(case, broken[name][0].get("detail", ""), "\n".join(map(_told, broken[name])))


def _told(violation: Mapping[str, Any]) -> str:
    parts = [f"{key}: {violation[key]}" for key in ("detail", "event", "procedure", "reproduce") if violation.get(key)]
    return "\n".join(parts)
