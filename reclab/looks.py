"""A small convolutional network that learns to name what pictures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

_WIDTHS = (3, 16, 32, 32)  # channels before and after each convolution


@dataclass(eq=False)
class PictureNamer:
    """Names several traits of a picture, such as its colour and its shape: ``fit``, ``describe``.

    After ``fit``, ``names_`` is trait -> its values, in the order of the columns that `describe`
    returns, and ``network_`` the network, which returns a score for each.
    """

    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0  # of the weights and the order

    def fit(self, pictures: np.ndarray, names: Mapping[str, Sequence[str]]) -> PictureNamer:
        """Learn to name from labelled pictures.

        Parameters
        ----------
        pictures : ``(n, side, side, 3)`` uint8, with a side that is a multiple of 8.
        names : trait -> the name of its value in each picture, ``(n,)``; or a table with a column
            for each trait.

        Raises ValueError: the pictures have another form, or a trait lacks names.
        """
        pixels = _pixels(pictures)
        wrong = {trait: len(given) for trait, given in names.items() if len(given) != len(pixels)}
        if wrong or len(names) == 0:
            each = f"for each trait, one name for each of {len(pixels)} pictures"
            raise ValueError(f"names must hold, {each}, got {wrong}")
        self.names_, targets = {}, []
        for trait, given in names.items():
            values, codes = np.unique(np.asarray(given, str), return_inverse=True)
            self.names_[trait] = values.tolist()
            targets.append(torch.from_numpy(codes))
        torch.manual_seed(self.seed)
        self.network_ = small_cnn(sum(self._sizes), pixels.shape[-1])
        optimizer = torch.optim.AdamW(self.network_.parameters(), lr=self.learning_rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(pixels)).split(self.batch_size):
                scores = self.network_(pixels[rows]).split(self._sizes, dim=1)
                losses = map(
                    nn.functional.cross_entropy, scores, [codes[rows] for codes in targets]
                )
                loss = sum(losses)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.network_.eval()
        return self

    @torch.inference_mode()
    def describe(self, pictures: np.ndarray) -> np.ndarray:
        """Probability of every value of every trait, the traits side by side: ``(n, n_values)``."""
        if not hasattr(self, "network_"):
            raise ValueError("call fit before describe")
        shares = []
        for part in _pixels(pictures).split(256):
            scores = self.network_(part).split(self._sizes, dim=1)
            shares.append(torch.cat([trait.softmax(1) for trait in scores], dim=1))
        return torch.cat(shares).numpy()

    @property
    def _sizes(self) -> list[int]:
        return [len(values) for values in self.names_.values()]


def small_cnn(n_out: int, side: int = 32) -> nn.Sequential:
    """Three convolutions, each halving the picture, and a layer: ``(n, 3, side, side)`` to n_out.

    Source: Simonyan and Zisserman, arXiv 1409.1556, in small; batch normalisation: Ioffe and
    Szegedy, arXiv 1502.03167.
    """
    layers = []
    for before, after in pairwise(_WIDTHS):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTHS[-1] * (side // 8) ** 2, n_out))


def _pixels(pictures: np.ndarray) -> torch.Tensor:
    """From -1 to 1, ``(n, 3, side, side)``."""
    pictures = np.asarray(pictures)
    n, side, *rest = pictures.shape if pictures.ndim == 4 else (0, 0)
    if pictures.dtype != np.uint8 or not n or not side or side % 8 or rest != [side, 3]:
        wanted = "(n, side, side, 3) uint8 with a side of 8, 16, 24 ... pixels"
        raise ValueError(f"pictures must be {wanted}, got {pictures.dtype} {pictures.shape}")
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
