"""Which lines of a file are new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_agents import changed_lines
from diurna_agents.changed_lines import compare

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\r\n", b"\n", b"d"]), max_size=12).map(b"".join)


@given(LINES, LINES)
def test_the_lines_that_are_not_new_were_there_before_in_the_same_order(old: bytes, new: bytes):
    found = compare(old, new, patch_characters_max=10_000)
    after = new.splitlines(keepends=True)
    kept = [line for number, line in enumerate(after, 1) if number not in found.added]
    before = iter(old.splitlines(keepends=True))
    assert all(line in before for line in kept), "what is not new is a subsequence of the old file"
    assert len(old.splitlines()) - found.deleted_count == len(kept)


@given(LINES)
def test_an_unchanged_file_has_no_new_lines_and_no_patch(data: bytes):
    found = compare(data, data, patch_characters_max=100)
    assert (found.added, found.deleted_count, found.patch) == ((), 0, "")


def test_a_line_in_the_middle_is_found_by_its_number():
    found = compare(b"one\ntwo\nthree\n", b"one\ntwo and a half\ntwo\nthree\n", patch_characters_max=1_000)
    assert found.added == (2,)
    assert "+two and a half" in found.patch


def test_changed_line_endings_are_changed_lines():
    assert compare(b"a\nb\n", b"a\r\nb\r\n", patch_characters_max=0).added == (1, 2)


def test_bytes_that_are_not_utf8_are_compared_all_the_same():
    found = compare(b"caf\xe9\n", b"caf\xe9\nth\xe9\n", patch_characters_max=1_000)
    assert found.added == (2,)
    assert "\ufffd" in found.patch


def test_a_patch_too_long_is_cut_and_says_so():
    found = compare(b"", b"word\n" * 1_000, patch_characters_max=50)
    assert found.patch_cut
    assert len(found.patch) <= 50
    assert len(found.added) == 1_000


def test_files_too_big_to_compare_exactly_are_compared_by_counting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changed_lines, "_PAIRS_MAX", 3)
    old, new = b"x\nb\na\ny\n", b"x\na\nnew\nb\na\nc\ny\n"
    found = compare(old, new, patch_characters_max=1_000)
    assert found.approximate
    assert found.added == (3, 5, 6)
    assert found.deleted_count == 0


def test_the_patch_holds_every_new_line():
    old = b"".join(b"%d\n" % number for number in range(60))
    new = old.replace(b"7\n", b"seven\n", 1).replace(b"55\n", b"55\nmore\n", 1)
    found = compare(old, new, patch_characters_max=10_000)
    after = new.splitlines()
    assert [line[1:].encode() for line in found.patch.splitlines() if line.startswith("+")] == [
        after[number - 1] for number in found.added
    ]
