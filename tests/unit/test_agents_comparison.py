"""When tests got worse, and when they did not."""

from __future__ import annotations

import pytest

from diurna_agents.feature_dev.comparison import SuiteRun, worse

PASSED = SuiteRun("passed", "3 tests passed", tests=3)
FAILED = SuiteRun("failed", "1 of 3 tests failed", tests=3, bad=1, failed=("a::x",))
NONE = SuiteRun("no_tests", "pytest found no tests")
BROKEN = SuiteRun("collection_error", "pytest could not run the tests")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PASSED, PASSED),
        (PASSED, SuiteRun("passed", "", tests=4)),
        (FAILED, PASSED),
        (FAILED, FAILED),
        (FAILED, SuiteRun("failed", "", tests=4, bad=1, failed=("a::x",))),
        (NONE, NONE),
        (NONE, PASSED),
        (BROKEN, BROKEN),
        (BROKEN, FAILED),
    ],
)
def test_as_good_as_before_is_not_worse(before: SuiteRun, after: SuiteRun):
    assert worse(before, after) is None


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (PASSED, FAILED, "all tests passed before; after, 1 of 3 tests failed"),
        (PASSED, NONE, "before, 3 tests passed; after, pytest found no tests"),
        (PASSED, BROKEN, "after, pytest could not run the tests"),
        (PASSED, SuiteRun("timed_out", "the tests took more than 3 s"), "took more than 3 s"),
        (PASSED, SuiteRun("passed", "", tests=3, skipped=1), "3 tests ran before and only 2 after"),
        (
            FAILED,
            SuiteRun("failed", "", tests=3, bad=1, failed=("a::y",)),
            "1 tests fail that did not before, first a::y",
        ),
        (FAILED, SuiteRun("failed", "", tests=3, bad=2, failed=("a::x",)), "1 tests failed before and 2 after"),
        (NONE, FAILED, "there were no tests, and now: 1 of 3 tests failed"),
    ],
)
def test_whatever_is_less_than_before_is_worse(before: SuiteRun, after: SuiteRun, why: str):
    assert why in str(worse(before, after))
