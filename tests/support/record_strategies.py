"""Hypothesis strategies for every record, derived from the models: any value a model allows may come."""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from diurna_schemas.ids import ID_PATTERN, NAME_PATTERN
from diurna_schemas.message import Part

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
NAMES: st.SearchStrategy[str] = st.tuples(st.sampled_from(_LETTERS), st.text(_LETTERS + "._-", max_size=30)).map(
    "".join
)
IDS = st.text("".join(map(chr, range(0x21, 0x7F))), min_size=1, max_size=40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@cache
def records_of(record: type[Part]) -> st.SearchStrategy[Any]:
    """Any record of this class."""
    hints = typing.get_type_hints(record, include_extras=True)
    return st.builds(record, **{name: _of(hints[name], []) for name in record.model_fields})


def _of(annotation: Any, constraints: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(arguments[0], constraints + _flat(arguments[1:]))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in {Union, types.UnionType}:
        return st.one_of([_of(part, constraints) for part in arguments])
    if origin is list:
        return st.lists(_of(arguments[0], []), max_size=3)
    if origin is dict:
        return st.dictionaries(_of(arguments[0], []), _of(arguments[1], []), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return records_of(typing.cast("type[Part]", annotation))
    return _plain(annotation, constraints)


def _plain(annotation: Any, constraints: list[Any]) -> st.SearchStrategy[Any]:
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return _whole_numbers(constraints)
    if annotation is float:
        return st.floats(allow_nan=False)
    if annotation is bytes:
        return st.binary(max_size=80)
    assert annotation is str, f"no strategy for {annotation!r}"
    return _texts(constraints)


def _whole_numbers(constraints: list[Any]) -> st.SearchStrategy[int]:
    least, most = -(2**63), 2**63 - 1
    for constraint in constraints:
        match constraint:
            case annotated_types.Ge(ge=bound):
                least = max(least, typing.cast("int", bound))
            case annotated_types.Gt(gt=bound):
                least = max(least, typing.cast("int", bound) + 1)
            case annotated_types.Le(le=bound):
                most = min(most, typing.cast("int", bound))
            case annotated_types.Lt(lt=bound):
                most = min(most, typing.cast("int", bound) - 1)
            case _:
                raise AssertionError(f"no strategy for {constraint!r}")
    return st.integers(least, most)


def _texts(constraints: list[Any]) -> st.SearchStrategy[str]:
    texts: st.SearchStrategy[str] = TEXTS
    least = 0
    for constraint in constraints:
        match constraint:
            case StringConstraints(pattern=pattern) if pattern == NAME_PATTERN:
                texts = NAMES
            case StringConstraints(pattern=pattern) if pattern == ID_PATTERN:
                texts = IDS
            case annotated_types.MinLen(min_length=bound):
                least = bound
            case StringConstraints(pattern=None) | annotated_types.MaxLen() | AfterValidator():
                pass  # far above what is drawn here
            case _:
                raise AssertionError(f"no strategy for {constraint!r}")
    return texts.filter(lambda text: len(text) >= least) if least else texts


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    return [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
