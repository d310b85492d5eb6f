"""Breaking a recommender on purpose, and its repairs: spoiled texts, swapped profiles, fake
accounts, fair exposure.

Whatever is drawn hangs on the seed alone, and a larger rate spoils what a smaller one spoils, and
more.
Source: Belinkov and Bisk, Synthetic and Natural Noise (2018), arXiv 1711.02173, for the typos.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from .errors import ReclabError, SchemaError, UnknownNameError
from .rank import binary

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
_FINDERS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in PERSONAL.items()}


def typos(texts: Sequence[str], rate: float, seed: int = 0) -> list[str]:
    """Texts in which each letter is, with that chance, left out, doubled, swapped with the next or
    replaced.

    Parameters
    ----------
    rate : chance of a letter, 0 to 1. Digits, spaces and punctuation stay.

    Raises ReclabError: the rate is out of range. ValueError : a text is missing, names its row.
    """
    return [_mistyped(text, rate, rng) for text, rng in _drawn(texts, rate, seed)]


def drop_words(texts: Sequence[str], rate: float, seed: int = 0) -> list[str]:
    """Texts in which each word is, with that chance, left out; a rate of 1 leaves empty texts.

    Parameters, Raises: as `typos`.
    """
    drawn = [(text.split(), rng) for text, rng in _drawn(texts, rate, seed)]
    return [
        " ".join(
            word
            for word, chance in zip(words, rng.random(len(words)), strict=True)
            if chance >= rate
        )
        for words, rng in drawn
    ]


def swap_words(texts: Sequence[str], pairs: Mapping[str, str]) -> list[str]:
    """Counterfactual texts: each word of a pair stands where the other one stood; capitals stay.

    Only whole words are swapped. A text without any of them comes back as it was.

    Parameters
    ----------
    pairs : word -> the word for it, and back; in small letters.

    Raises ReclabError: no pair, or a word that stands in two of them, so that the way back is lost.
        ValueError : as `typos`.

    Source: Garg et al., AIES 2019, arXiv 1809.10610.
    """
    words = [*pairs, *pairs.values()]
    if not words or len(set(words)) < len(words):
        raise ReclabError(
            f"each word may stand in one pair only, and there has to be one; got {dict(pairs)}"
        )
    other = dict(pairs) | {b: a for a, b in pairs.items()}
    longest = sorted(map(re.escape, other), key=len, reverse=True)
    finder = re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)", re.IGNORECASE)
    return [
        finder.sub(lambda found: _like(found[0], other[found[0].lower()]), text)
        for text in _checked(texts)
    ]


def find_personal(text: str) -> list[tuple[str, str]]:
    """Personal data in a text that have a form: ``(kind, what was found)``, in the order of the
    text.

    Kinds are the keys of `PERSONAL`. A card number has to pass Luhn's check, so that an order
    number is not one. Names, streets and what a sentence gives away are not found: that needs
    people, or a model with a measured recall.
    """
    return [(kind, text[start:stop]) for start, stop, kind in _places(text)]


def mask_personal(texts: Sequence[str]) -> list[str]:
    """Texts in which what `find_personal` finds is replaced by its kind in brackets, such as
    ``[EMAIL]``.

    Raises ValueError: a text is missing, names its row.
    """
    masked = []
    for text in _checked(texts):
        for start, stop, kind in reversed(_places(text)):
            text = f"{text[:start]}[{kind}]{text[stop:]}"
        masked.append(text)
    return masked


def fake_profiles(
    X: sparse.csr_array, target: int, n: int, *, spread: int = 10, likes: int = 10, seed: int = 0
) -> sparse.csr_array:
    """Rows of fake accounts that all like a target and some popular items, to be put under the
    matrix of real users.

    Parameters
    ----------
    X : ``(n_users, n_items)`` likes of real users.
    target : column of the item to be pushed.
    n : accounts, 0 or more.
    spread : each account's other likes are drawn from that many of the most popular items.
    likes : how many, from 1 to ``spread``; as many as ``spread`` makes clones of one another.

    Returns: ``(n, n_items)``.

    Raises ReclabError: an argument is out of range.

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
    """The group of each user or row as text, checked; who gave none is in the group ``not given``,
    and not left out.

    Parameters
    ----------
    values : group names; None or NaN where there is none.
    known : the groups that may occur; None: any.
    least : members that a group needs, since a mean over one person is that person; ``not given``
        may be smaller.

    Returns: ``(n,)`` of text.

    Raises UnknownNameError: a group that is not known. SchemaError : nobody has a group, or a group
        is too small.
    """
    named = pd.Series(list(values), dtype=object)
    found = named.where(named.notna(), NOT_GIVEN).astype(str)
    if not named.notna().any():
        raise SchemaError(
            "nobody has a group: the profile is missing for all rows, so there is nothing to "
            "compare"
        )
    sizes = found[named.notna()].value_counts()
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
    """Share of each list's exposure that items of a group get, less the share that is theirs; 0 =
    as it should be.

    A place r gets an exposure of ``1 / log2(r + 1)``, as in DCG.

    Parameters
    ----------
    lists : ``(n_lists, k)`` item indices, -1 = no item.
    favoured : ``(n_items,)`` bool, the items of the group. share : what is theirs, one number or
        ``(n_lists,)``.

    Returns: ``(n_lists,)``, NaN for an empty list.

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
    """What was found, in order and without overlaps; of two that overlap, the kind that is named
    first.
    """
    found = []
    for kind, finder in _FINDERS.items():
        for match in finder.finditer(text):
            start, stop = match.span()
            free = all(stop <= a or start >= b for a, b, _ in found)
            if free and (kind != "CARD" or _luhn(match[0])):
                found.append((start, stop, kind))
    return sorted(found)


def _luhn(number: str) -> bool:
    digits = [int(digit) for digit in re.sub(r"\D", "", number)][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2]) % 10
