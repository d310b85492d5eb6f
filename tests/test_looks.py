"""The small network against plain numpy; that it learns to name pictures it never saw; bad input."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import softmax

from reclab import data
from reclab.looks import PictureNamer, small_cnn

TRAITS = ("silhouette", "colour", "pattern")


def plain_cnn(network, picture):
    """Convolution, normalisation with running statistics, rectifier and maximum over 2 x 2, in numpy."""
    *layers, _, linear = network
    for conv, norm, *_ in zip(*[iter(layers)] * 4, strict=True):
        weight, bias = (p.detach().numpy() for p in conv.parameters())
        padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)))
        convolved = [
            sum(correlate2d(padded[i], w[i], mode="valid") for i in range(len(picture))) + b
            for w, b in zip(weight, bias, strict=True)
        ]
        mean, variance, scale, shift = (
            t.detach().numpy()[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        rectified = np.maximum((np.array(convolved) - mean) / np.sqrt(variance + norm.eps) * scale + shift, 0)
        n, height, width = rectified.shape
        picture = rectified.reshape(n, height // 2, 2, width // 2, 2).max((2, 4))
    weight, bias = (p.detach().numpy() for p in linear.parameters())
    return weight @ picture.ravel() + bias


def pictures(n=6, side=16, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, side, side, 3), dtype=np.uint8)


def test_description_is_a_softmax_over_a_plain_cnn():
    shown = pictures()
    model = PictureNamer(epochs=2, batch_size=3).fit(shown, {"a": list("xyxyxy"), "b": list("pqrpqr")})
    assert model.names_ == {"a": ["x", "y"], "b": ["p", "q", "r"]}
    found = model.describe(shown)
    for row, picture in zip(found, shown, strict=True):
        scores = plain_cnn(model.network_, picture.transpose(2, 0, 1) / 127.5 - 1)
        np.testing.assert_allclose(row[:2], softmax(scores[:2]), atol=1e-4)
        np.testing.assert_allclose(row[2:], softmax(scores[2:]), atol=1e-4)


@pytest.mark.parametrize("side", [8, 32])
def test_the_network_fits_the_side(side):
    assert small_cnn(5, side)(torch.zeros(2, 3, side, side)).shape == (2, 5)


@pytest.fixture(scope="module")
def namer():
    shop = data.shop(1000, n_users=8, n_items=500)
    return PictureNamer().fit(shop.pictures, shop.truth.items[list(TRAITS)])


def test_learns_to_name_the_pictures_of_another_shop(namer):
    shop = data.shop(3, n_users=8, n_items=200)
    found = namer.describe(shop.pictures)
    assert found.shape == (200, sum(len(values) for values in namer.names_.values()))
    start = 0
    for trait, values in namer.names_.items():
        part = found[:, start : start + len(values)]
        start += len(values)
        np.testing.assert_allclose(part.sum(1), 1, atol=1e-5)
        right = np.array(values)[part.argmax(1)] == shop.truth.items[trait].to_numpy()
        assert right.mean() > 0.9, trait


def test_a_seed_decides_the_model_and_many_pictures_are_read_in_pieces():
    shown, names = pictures(20), {"a": ["x", "y"] * 10}
    models = [PictureNamer(epochs=1, batch_size=8, seed=seed).fit(shown, names) for seed in (1, 1, 2)]
    first, same, other = (model.describe(shown) for model in models)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    many = models[0].describe(np.tile(shown, (30, 1, 1, 1)))
    np.testing.assert_allclose(many, np.tile(first, (30, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [pictures()[0], pictures().astype(float), pictures(side=12), pictures()[:, :8], pictures()[..., :1], pictures(0)],
)
def test_what_is_no_picture_is_refused(wrong, namer):
    message = r"^pictures must be \(n, side, side, 3\) uint8 with a side of 8, 16, 24 ... pixels, got "
    with pytest.raises(ValueError, match=message):
        PictureNamer().fit(wrong, {"a": ["x"] * len(wrong)})
    with pytest.raises(ValueError, match=message):
        namer.describe(wrong)


def test_names_are_one_for_each_picture_and_fit_comes_first():
    for names in ({"a": ["x"] * 5}, {}):
        with pytest.raises(
            ValueError, match=r"^names must hold, for each trait, one name for each of 6 pictures, got "
        ):
            PictureNamer().fit(pictures(), names)
    with pytest.raises(ValueError, match=r"^call fit before describe$"):
        PictureNamer().describe(pictures())
