"""A small convolutional network that learns to name what pictures show, and describes others by
those names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

WIDTHS = (3, 16, 32, 32)  # channels before and after each convolution


def small_cnn(n_out: int, side: int = 32) -> nn.Sequential:
    """Three convolutions, each followed by a halving of the picture, and one layer on what is left.

    Parameters
    ----------
    n_out : numbers that come out: ``(n, 3, side, side)`` to ``(n, n_out)``.
    side : pixels of a side, a multiple of 8.

    Source: Simonyan and Zisserman, arXiv 1409.1556, in small; batch normalisation: Ioffe and
        Szegedy, arXiv 1502.03167.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(WIDTHS):
        layers += [
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1] * (side // 8) ** 2, n_out))


class PictureNamer:
    """Names several traits of a picture, such as its colour and its shape: ``fit``, ``describe``.

    Parameters
    ----------
    epochs, batch_size, learning_rate : of AdamW.
    seed : of the weights and the order.

    Attributes
    ----------
    names_ : trait -> its values, in the order of the columns that `describe` returns.
    network_ : the `small_cnn`, which returns all columns of scores.
    """

    def __init__(
        self, epochs: int = 8, batch_size: int = 64, learning_rate: float = 3e-3, seed: int = 0
    ):
        self.epochs, self.batch_size, self.learning_rate, self.seed = (
            epochs,
            batch_size,
            learning_rate,
            seed,
        )

    def fit(self, pictures: np.ndarray, names: Mapping[str, Sequence[str]]) -> PictureNamer:
        """Learn to name from labelled pictures.

        Parameters
        ----------
        pictures : ``(n, side, side, 3)`` uint8, with a side that is a multiple of 8.
        names : trait -> the name of its value in each picture, ``(n,)``; a table with a column a
            trait will do.

        Raises ValueError: the pictures have another form, or a trait has not one name for each
            picture.
        """
        pixels = _pixels(pictures)
        wrong = {trait: len(given) for trait, given in names.items() if len(given) != len(pixels)}
        if wrong or len(names) == 0:
            raise ValueError(
                f"names must hold, for each trait, one name for each of {len(pixels)} pictures, "
                f"got {wrong}"
            )
        found = {
            trait: np.unique(np.asarray(given, str), return_inverse=True)
            for trait, given in names.items()
        }
        self.names_ = {trait: values.tolist() for trait, (values, _) in found.items()}
        targets = [torch.from_numpy(codes) for _, codes in found.values()]
        torch.manual_seed(self.seed)
        self.network_ = small_cnn(sum(self._sizes), pixels.shape[-1])
        optimizer = torch.optim.AdamW(self.network_.parameters(), lr=self.learning_rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(pixels)).split(self.batch_size):
                scores = self.network_(pixels[rows]).split(self._sizes, dim=1)
                each = zip(scores, targets, strict=True)
                loss = sum(
                    nn.functional.cross_entropy(score, target[rows]) for score, target in each
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.network_.eval()
        return self

    def describe(self, pictures: np.ndarray) -> np.ndarray:
        """Probability of every value of every trait, the traits side by side: ``(n, n_values)``.

        Raises ValueError: the pictures have another form than those of `fit`, or there was no
            `fit`.
        """
        if not hasattr(self, "network_"):
            raise ValueError("call fit before describe")
        pixels = _pixels(pictures)
        with torch.inference_mode():
            scores = [self.network_(part).split(self._sizes, dim=1) for part in pixels.split(256)]
        shares = [torch.cat([trait.softmax(1) for trait in part], dim=1) for part in scores]
        return torch.cat(shares).numpy()

    @property
    def _sizes(self) -> list[int]:
        return [len(values) for values in self.names_.values()]


def _pixels(pictures: np.ndarray) -> torch.Tensor:
    """From -1 to 1, ``(n, 3, side, side)``."""
    pictures = np.asarray(pictures)
    shape = pictures.shape
    square = (
        pictures.ndim == 4
        and shape[1] == shape[2]
        and shape[1] % 8 == 0
        and shape[3] == 3
        and shape[1] > 0
    )
    if not square or pictures.dtype != np.uint8 or not len(pictures):
        raise ValueError(
            "pictures must be (n, side, side, 3) uint8 with a side of 8, 16, 24 ... pixels, "
            f"got {pictures.dtype} {shape}"
        )
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
