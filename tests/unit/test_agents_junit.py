"""JUnit reports, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from diurna_agents.cicd.junit import read_report

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests">
 <testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.25">
  <testcase classname="tests.test_a" name="test_good" time="0.1"/>
  <testcase classname="tests.test_a" name="test_bad">
   <failure message="assert 1 == 2">E  assert 1 == 2</failure></testcase>
  <testcase classname="tests.test_a" name="test_ill"><error message="fixture &amp; gone">trace</error></testcase>
  <testcase classname="" name="tests.test_b"><skipped message="not here"/></testcase>
 </testsuite>
</testsuites>"""


def written(path: Path, text: str) -> Path:
    report = path / "junit.xml"
    report.write_text(text, "utf-8")
    return report


def test_a_report_is_counted_and_its_failures_named(tmp_path: Path):
    report = read_report(written(tmp_path, REPORT))
    assert report is not None
    assert (report.tests, report.failures, report.errors, report.skipped) == (4, 1, 1, 1)
    assert report.duration_ms == 250
    assert report.ran == 3
    assert [test.name for test in report.failed] == ["tests.test_a::test_bad", "tests.test_a::test_ill"]
    assert "assert 1 == 2" in report.failed[0].message
    assert "fixture & gone" in report.failed[1].message


@pytest.mark.parametrize("letter", ["m", "é", "試"])
def test_many_long_failures_are_bounded(tmp_path: Path, letter: str):
    long = letter * 9_000
    case = f'<testcase classname="t" name="test[{long}]"><failure message="{long}">{long}</failure></testcase>'
    text = f'<testsuite tests="900" failures="900" errors="0" skipped="0">{case * 900}</testsuite>'
    report = read_report(written(tmp_path, text))
    assert report is not None
    assert report.failures == 900
    assert len(report.failed) == 50
    assert all(0 <= 1_500 - len(test.message.encode()) < 4 for test in report.failed)
    assert all(test.name.startswith(f"t::test[{letter}") for test in report.failed)
    assert all(len(test.name.encode()) <= 300 for test in report.failed), "an answer has to fit on the log"


@pytest.mark.parametrize(
    "text",
    [
        "",
        REPORT[:300],
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite name="&b;" tests="1"/>',
        '<testsuite tests="many"/>',
    ],
)
def test_a_broken_report_is_no_report(tmp_path: Path, text: str):
    assert read_report(written(tmp_path, text)) is None


def test_no_file_is_no_report(tmp_path: Path):
    assert read_report(tmp_path / "nothing.xml") is None
