"""Breaking a recommender on purpose, and its repairs: spoiled texts, swapped words, fake accounts,
fair exposure.

What is drawn hangs on the seed alone, and a larger rate spoils what a smaller one does, and more.
Source: Belinkov and Bisk, Synthetic and Natural Noise (2018), arXiv 1711.02173, for the typos.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from .errors import ReclabError, SchemaError, UnknownNameError
from .metrics import binary

NOT_GIVEN = "not given"
_TYPOS = ("leave out", "double", "swap", "replace")
# What can be found by its form. Names and addresses have none, and are missed.
PERSONAL = {
    "EMAIL": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "LINK": r"\b(?:https?://|www\.)\S+",
    "CARD": r"\b\d(?:[ -]?\d){12,18}\b",
    "PHONE": r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]?\d{4}\b",
    "HANDLE": r"(?<!\w)@[A-Za-z_]\w{2,}",
    "BODY": r"\b\d'\s?\d{1,2}\b\"?|\b\d{2,3}\s?(?:lbs?|pounds|kg)\b|\b\d{2}(?:aa|dd|[a-g])\b",
}


def typos(texts: Sequence[str], rate: float, seed: int = 0) -> list[str]:
    """Texts in which each letter is, with a chance of ``rate``, left out, doubled, swapped with the
    next or replaced; digits, spaces and punctuation stay.
    """
    return [_mistyped(text, rate, rng) for text, rng in _drawn(texts, rate, seed)]


def drop_words(texts: Sequence[str], rate: float, seed: int = 0) -> list[str]:
    """Texts in which each word is, with a chance of ``rate``, left out."""
    shortened = []
    for text, rng in _drawn(texts, rate, seed):
        words = np.array(text.split(), dtype=object)
        shortened.append(" ".join(words[rng.random(len(words)) >= rate]))
    return shortened


def swap_words(texts: Sequence[str], pairs: Mapping[str, str]) -> list[str]:
    """Counterfactual texts: each whole word of a pair, in small letters, stands where the other one
    stood; capitals stay. Source: Garg et al., AIES 2019, arXiv 1809.10610.
    """
    other = dict(pairs) | {b: a for a, b in pairs.items()}
    if not pairs or len(other) < 2 * len(pairs):
        raise ReclabError(
            f"each word may stand in one pair only, and there has to be one; got {dict(pairs)}"
        )
    longest = sorted(map(re.escape, other), key=len, reverse=True)
    finder = re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)", re.IGNORECASE)
    return [
        finder.sub(lambda found: _like(found[0], other[found[0].lower()]), text)
        for text in _checked(texts)
    ]


def find_personal(text: str) -> list[tuple[str, str]]:
    """Personal data in a text that have a form: ``(kind, what was found)``, in the order of the
    text; kinds are the keys of `PERSONAL`. A card number has to pass Luhn's check, so that an order
    number is not one.
    """
    return [(kind, text[start:stop]) for start, stop, kind in _places(text)]


def mask_personal(texts: Sequence[str]) -> list[str]:
    """Texts in which what `find_personal` finds is replaced by its kind, such as ``[EMAIL]``."""
    masked = []
    for text in _checked(texts):
        for start, stop, kind in reversed(_places(text)):
            text = f"{text[:start]}[{kind}]{text[stop:]}"
        masked.append(text)
    return masked


def fake_profiles(
    X: sparse.csr_array, target: int, n: int, *, spread: int = 10, likes: int = 10, seed: int = 0
) -> sparse.csr_array:
    """Rows of fake accounts, ``(n, n_items)``, that all like a target and some popular items, to be
    put under the matrix of real users.

    Parameters
    ----------
    X : ``(n_users, n_items)`` likes of real users.
    target : column of the item to be pushed.
    spread : each account's other likes are drawn from that many of the most popular items.
    likes : how many, from 1 to ``spread``; as many as ``spread`` makes clones of one another.

    Source: Mobasher et al., ACM TOIT 2007, doi 10.1145/1278366.1278372, the bandwagon attack.
    """
    X = binary(X)
    limits = {"target": (target, 0, X.shape[1] - 1), "n": (n, 0, np.inf)}
    limits |= {"spread": (spread, 1, X.shape[1] - 1), "likes": (likes, 1, spread)}
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ReclabError(f"{name} must be in {low}..{high}, got {value}")
    order = np.argsort(-X.sum(axis=0), kind="stable")
    popular = order[order != target][:spread]
    rng, rows = np.random.default_rng([seed, target]), np.zeros((n, X.shape[1]))
    chosen = popular[rng.permuted(np.tile(np.arange(spread), (n, 1)), axis=1)[:, :likes]]
    np.put_along_axis(rows, chosen, 1, axis=1)
    rows[:, target] = 1
    return sparse.csr_array(rows)


def groups_of(values: Iterable, known: Sequence[str] | None = None, least: int = 2) -> np.ndarray:
    """The group of each user or row as text, ``(n,)``; who gave none (None or NaN) is in the group
    ``not given``, and not left out.

    ``known`` : the groups that may occur; None: any. ``least`` : members that a group needs, since
    a mean over one person is that person; ``not given`` may be smaller.
    """
    named = pd.Series(list(values), dtype=object)
    found = named.where(named.notna(), NOT_GIVEN).astype(str)
    sizes = found[named.notna()].value_counts()
    if sizes.empty:
        raise SchemaError("nobody has a group: the profile is missing for all rows")
    for name in sizes.index:
        if known is not None and name not in known:
            raise UnknownNameError("group", name, known)
    if sizes.min() < least:
        raise SchemaError(
            f"group {sizes.idxmin()!r} has {sizes.min()} member(s), {least} are needed: join it "
            "with another group"
        )
    return found.to_numpy()


def exposure_gap(lists: np.ndarray, favoured: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Share of each list's exposure that items of a group get, less the share that is theirs,
    ``(n_lists,)``; NaN for an empty list. Position r gets an exposure of ``1 / log2(r + 1)``.

    Parameters
    ----------
    lists : ``(n_lists, k)`` item indices, -1 = no item.
    favoured : ``(n_items,)`` bool, the items of the group.
    share : what is theirs, one number or ``(n_lists,)``.

    Source: Singh and Joachims, KDD 2018, doi 10.1145/3219819.3220088.
    """
    weights = (lists >= 0) / np.log2(np.arange(2, lists.shape[1] + 2))
    total = weights.sum(axis=1)
    ours = (weights * favoured[lists]).sum(axis=1)
    return np.where(total > 0, ours / np.where(total > 0, total, 1), np.nan) - share


def _drawn(texts: Sequence[str], rate: float, seed: int):
    if not 0 <= rate <= 1:
        raise ReclabError(f"rate must be from 0 to 1, got {rate!r}")
    return [(text, np.random.default_rng([seed, row])) for row, text in enumerate(_checked(texts))]


def _checked(texts: Sequence[str]) -> list[str]:
    from .text import check_texts

    check_texts(texts)
    return list(texts)


def _mistyped(text: str, rate: float, rng: np.random.Generator) -> str:
    letters, n = list(text), len(text)
    chance, kind, new = rng.random(n), rng.integers(len(_TYPOS), size=n), rng.integers(26, size=n)
    for at in np.flatnonzero(chance < rate):
        if not text[at].isalpha():
            continue
        if _TYPOS[kind[at]] == "swap" and at + 1 < n:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif _TYPOS[kind[at]] == "replace":
            letters[at] = chr(ord("a") + new[at])
        else:
            letters[at] = letters[at] * 2 if _TYPOS[kind[at]] == "double" else ""
    return "".join(letters)


def _like(pattern: str, word: str) -> str:
    """The word with the capitals of the pattern."""
    if len(pattern) > 1 and pattern.isupper():
        return word.upper()
    return word.capitalize() if pattern[0].isupper() else word


def _places(text: str) -> list[tuple[int, int, str]]:
    """What was found, in order; of two that overlap, the kind that is named first."""
    found = []
    for kind, pattern in PERSONAL.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            start, stop = match.span()
            free = all(stop <= a or start >= b for a, b, _ in found)
            if free and (kind != "CARD" or _luhn(match[0])):
                found.append((start, stop, kind))
    return sorted(found)


def _luhn(number: str) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", number)][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2]) % 10
