"""What a fusion reads: vectors by modality, per example or once per user or item, and which are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch


class Lookup(NamedTuple):
    """A modality given once for each user or item, with the row of it that each example reads.

    Attributes
    ----------
    table : ``(n_rows, width)`` vectors, one for each user, or one for each item.
    rows : ``(n_examples,)`` integers, a row of the table for each example; -1: none, so the modality is missing.
    """

    table: np.ndarray
    rows: np.ndarray


def lookup(table: np.ndarray, known: Sequence, wanted: Sequence) -> Lookup:
    """Vectors by id: an id that is not known has no vector, so the modality is missing in its examples.

    Parameters
    ----------
    table : ``(n_known, width)`` vectors.
    known : id of each vector, every id once.
    wanted : ``(n_examples,)`` ids of the examples; they may repeat.

    Raises
    ------
    ValueError : an id stands twice among the known ones, or there is not one id for each vector.
    """
    index = pd.Index(known)
    if len(table) != len(index):
        raise ValueError(f"there must be one known id for each vector, got {len(index)} ids for {len(table)} vectors")
    if not index.is_unique:
        raise ValueError(f"the id {index[index.duplicated()].tolist()[0]!r} stands twice among the known ids: keep one")
    return Lookup(table, index.get_indexer(pd.Index(wanted)))


class Part(NamedTuple):
    """A checked modality: float32 table, its row for each example (None: row i for example i), bool mask."""

    table: torch.Tensor
    rows: torch.Tensor | None
    present: torch.Tensor

    def take(self, examples: torch.Tensor | slice) -> torch.Tensor:
        """Vectors of some examples, ``(n, width)``; what stands in an absent one is any number."""
        return self.table[examples if self.rows is None else self.rows[examples]]

    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of each column, and one deviation for all, over the examples that have the modality."""
        if self.rows is None:
            used = self.present.double()
        else:
            used = torch.bincount(self.rows[self.present], minlength=len(self.table)).double()
        share = (used / used.sum().clamp(min=1)).unsqueeze(1)
        mean = (share * self.table).sum(0)
        deviation = (share * (self.table - mean) ** 2).sum(0).mean().sqrt()
        # What never varies, or never occurs, in training must not be blown up when it does later.
        return mean.float(), deviation.float() if deviation > 1e-6 else torch.ones(())


def checked(inputs: Mapping[str, np.ndarray | Lookup], present: Mapping[str, np.ndarray] | None, n: int):
    """The modalities as tensors, all for n examples: name -> `Part`.

    Parameters
    ----------
    inputs, present : as `reclab.fusion.FusedClassifier.fit` takes them.

    Raises
    ------
    ValueError : a modality's rows, type or values do not fit, names it; or ``present`` names one that is not there.
    """
    if not inputs:
        raise ValueError("inputs holds no modality; give at least one, name -> (n, width)")
    present = present or {}
    unknown = set(present) - set(inputs)
    if unknown:
        raise ValueError(f"present names {sorted(unknown)}, which inputs does not have; it has {list(inputs)}")
    return {name: _part(name, given, present.get(name), n) for name, given in inputs.items()}


def n_examples(given: np.ndarray | Lookup) -> int:
    """For how many examples a modality is given."""
    return len(given.rows if isinstance(given, Lookup) else given)


def _part(name: str, given, present, n: int) -> Part:
    table, rows = given if isinstance(given, Lookup) else (given, None)
    try:
        table = np.array(table, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"modality {name!r} must hold numbers, (n, width)") from None
    mask = np.array(np.ones(n) if present is None else present, dtype=bool)
    rows = None if rows is None else _valid_rows(name, np.asarray(rows), table, n)
    if table.ndim != 2 or (rows is None and len(table) != n) or mask.shape != (n,):
        raise ValueError(
            f"modality {name!r} must be ({n}, width) with a mask of ({n},), got {table.shape} and {mask.shape}"
        )
    mask &= True if rows is None else rows >= 0
    read = mask if rows is None else np.isin(np.arange(len(table)), rows[mask])
    table[~read] = 0.0  # what nobody reads may be anything, and zero times NaN is NaN
    if not np.isfinite(table).all():
        row = int((~np.isfinite(table)).any(1).argmax())
        raise ValueError(f"modality {name!r} has a NaN or infinity in row {row}; mark it absent or fill it")
    rows = None if rows is None else torch.from_numpy(rows.clip(min=0).astype(np.int64))
    return Part(torch.from_numpy(table), rows, torch.from_numpy(mask))


def _valid_rows(name: str, rows: np.ndarray, table: np.ndarray, n: int) -> np.ndarray:
    if rows.shape != (n,) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"modality {name!r} needs {n} whole row numbers, got {rows.dtype} of shape {rows.shape}")
    if not len(table) or (len(rows) and not -1 <= rows.min() <= rows.max() < len(table)):
        raise ValueError(
            f"modality {name!r} has a table of {len(table)} rows, but is asked for rows "
            f"{rows.min(initial=0)} to {rows.max(initial=0)}; -1 means none"
        )
    return rows
