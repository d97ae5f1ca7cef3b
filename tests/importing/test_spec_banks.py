"""The banks' table against the documents, the registry of jobs and the collectors."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from api.cli import app
from core.deposits.banks import BANKS
from core.deposits.collect_bochk import BochkCollector
from core.deposits.collect_hsbc import HsbcCollector
from core.jobs import REGISTRY
from core.runtime.statement_banks import COLLECTORS
from core.storage.primary import MATCHING_BANKS

FULLY = {"hsbc", "cmb", "cmbc", "airstar", "hase"}
MANUAL = {"ewb"}


@pytest.mark.req("STMT-12")
def test_the_automation_level_of_every_bank_is_reported():
    result = CliRunner().invoke(app, ["spec", "banks", "--json"])
    level = {row["bank"]: row["automation"] for row in json.loads(result.output)}
    assert level == {bank: "fully auto" if bank in FULLY else "manual" if bank in MANUAL else "semi-auto"
                     for bank in (*MATCHING_BANKS, "cmb", "cmbc", "airstar")}


def test_every_bank_is_shown_with_its_match_rules():
    result = CliRunner().invoke(app, ["spec", "banks"])
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == ["bank", *BANKS]
    assert all(("Match" in line) == (line.split()[0] in MATCHING_BANKS) for line in lines[1:])


def test_the_jobs_of_the_table_are_those_of_the_registry():
    known = {entry.name for entry in REGISTRY}
    assert {job for row in BANKS.values() for job in row.jobs} <= known
    assert {job for job in known if job.endswith(("CreditPull", "OtherBankPull"))} <= {
        job for row in BANKS.values() for job in row.jobs}


def test_every_statement_bank_has_a_collector():
    assert set(COLLECTORS) == set(MATCHING_BANKS)
    assert COLLECTORS["hsbc"] is HsbcCollector and COLLECTORS["bochk"] is BochkCollector
