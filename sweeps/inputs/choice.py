"""Choices that 32-bit words make: one of n, or several different ones."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

import numpy as np

from sweeps import randomness


def words(name: str, values: dict[str, int], index: int, tensor: int, size: int) -> list[int]:
    """Uniform 32-bit words of the `index`-th set of a family; `name` and `values` make its key, see randomness.key."""
    key = np.array([randomness.key(0, f"inputs/{name}", values)], dtype=np.uint64)
    return randomness.words(key, np.array([index], dtype=np.uint64), tensor, size)[0].tolist()


def below(word: int, n: int) -> int:
    """A 32-bit word made an integer in [0, n)."""
    return word * n >> 32


def distinct(chosen_by: Iterable[int], n: int) -> list[int]:
    """Different integers in [0, n), one a word: the first m do not depend on the words after them."""
    chosen: list[int] = []
    in_order: list[int] = []
    for word in chosen_by:
        choice = below(word, n - len(chosen))  # which of those that are left
        for taken in in_order:
            choice += choice >= taken
        chosen.append(choice)
        insort(in_order, choice)
    return chosen
