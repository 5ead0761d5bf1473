"""An update is a JSON Merge Patch: the RFC's own examples, and what sharing must not spoil."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_schemas.merge_patch import DEPTH_MAX, is_too_deep, merged

# RFC 7396, appendix A, where both sides are objects.
EXAMPLES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ({"a": "foo"}, {"b": None}, {"a": "foo"}),
]


@pytest.mark.parametrize(("state", "patch", "result"), EXAMPLES, ids=[json.dumps(one[1]) for one in EXAMPLES])
def test_the_examples_of_the_rfc_come_out_as_it_says(state: Any, patch: Any, result: Any) -> None:
    assert merged(state, patch) == result


DOCUMENTS: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text("xyz", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def by_the_rfc(target: Any, patch: Any) -> Any:
    """The pseudo-code of RFC 7396, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            if name in target:
                del target[name]
        else:
            target[name] = by_the_rfc(target.get(name), value)
    return target


@given(state=DOCUMENTS, patches=st.lists(DOCUMENTS, max_size=4))
def test_patches_do_what_the_pseudo_code_of_the_rfc_does_and_change_none_of_their_arguments(
    state: Any, patches: list[Any]
) -> None:
    expected = copy.deepcopy(state)
    for patch in patches:
        before, said = copy.deepcopy(state), copy.deepcopy(patch)
        after = merged(state, patch)
        expected = by_the_rfc(expected, copy.deepcopy(patch))
        assert after == expected
        assert list(after) == list(expected), "the order of names is part of the bytes"
        assert (state, patch) == (before, said)
        state = after


@given(state=DOCUMENTS, patch=DOCUMENTS)
def test_the_same_patch_twice_is_the_same_as_once(state: Any, patch: Any) -> None:
    once = merged(state, patch)
    assert merged(once, patch) == once


def nested(levels: int, bracket: str = "{") -> str:
    return '{"a":' * levels + "1" + "}" * levels if bracket == "{" else "[" * levels + "]" * levels


@pytest.mark.parametrize("bracket", ["{", "["])
def test_a_document_of_too_many_levels_is_told_from_one_with_many_brackets(bracket: str) -> None:
    for text, expected in ((nested(DEPTH_MAX, bracket), False), (nested(DEPTH_MAX + 1, bracket), True)):
        assert is_too_deep(text) is expected
    wide = json.dumps({"a": [[]] * 500, "text": "{" * 500})
    assert not is_too_deep(wide)
