"""A heap that never changes: pushing and popping give a new one and share the rest (a leftist heap, Crane 1972)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

Item = TypeVar("Item", bound=tuple[Any, ...])

# rank, item, left, right: a tuple, because making one is several times cheaper than making an object.
_Node = tuple[int, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Heap(Generic[Item]):
    """The smallest item first. Items are tuples that compare; `size` counts them."""

    size: int = 0
    root: _Node | None = None

    @property
    def first(self) -> Item | None:
        """The smallest item, if there is any."""
        return None if self.root is None else self.root[1]

    def push(self, item: Item) -> Self:
        return type(self)(self.size + 1, _merge((1, item, None, None), self.root))

    def pop(self) -> Self:
        """Without the smallest item; empty stays empty."""
        if self.root is None:
            return self
        return type(self)(self.size - 1, _merge(self.root[2], self.root[3]))

    def pruned(self, is_live: Callable[[Item], bool], live_count: int) -> Self:
        """Without dead items at the top, and without any where the dead outnumber the living by far.

        Items die in place: removing one from the middle would cost more than leaving it.
        """
        heap = self
        while heap.root is not None and not is_live(heap.root[1]):
            heap = heap.pop()
        if heap.size > 2 * live_count + _SLACK:
            return type(self).of(item for item in heap if is_live(item))
        return heap

    @classmethod
    def of(cls, items: Iterator[Item]) -> Self:
        """A heap of these items."""
        ordered = sorted(items, reverse=True)
        root: _Node | None = None
        for item in ordered:
            # Smaller than all before it: it goes on top, and what was there lies to its left. No merge needed.
            root = (1, item, root, None)
        return cls(len(ordered), root)

    def __iter__(self) -> Iterator[Item]:
        """All items, in no particular order."""
        pending = [self.root]
        while pending:
            node = pending.pop()
            if node is not None:
                yield node[1]
                pending += (node[2], node[3])


_SLACK = 64


def _merge(a: _Node | None, b: _Node | None) -> _Node | None:
    if a is None:
        return b
    if b is None:
        return a
    if b[1] < a[1]:
        a, b = b, a
    left, right = a[2], _merge(a[3], b)
    left_rank = 0 if left is None else left[0]
    right_rank = 0 if right is None else right[0]
    if left_rank < right_rank:
        left, right = right, left
        right_rank = left_rank
    return (right_rank + 1, a[1], left, right)
