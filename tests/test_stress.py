"""Attacks and repairs do what they say, on inputs small enough to count by hand; bad input is named."""

import numpy as np
import pytest
from scipy import sparse

from reclab import stress
from reclab.errors import ReclabError, SchemaError, UnknownNameError
from reclab.stress import NOT_GIVEN

REVIEWS = ["The dress is lovely, and it fits well.", "Cheap fabric. It fell apart in a week!", ""]
LETTERS = "abcdefghij" * 400


def test_typos_have_their_rate_and_leave_what_is_no_letter():
    assert stress.typos(REVIEWS, 0) == REVIEWS
    assert stress.typos(["1234 5678, 90!"], 1) == ["1234 5678, 90!"]
    # a double makes a text longer and an omission shorter, as often: a quarter of the typos each
    assert abs(len(stress.typos([LETTERS], 0.4, 1)[0]) - len(LETTERS)) < 100
    # of equal letters, only a replacement shows, but for one in 26: a quarter of the rate
    text = stress.typos(["a" * 20_000], 0.4, 2)[0]
    share = sum(letter != "a" for letter in text) / 20_000
    assert share == pytest.approx(0.4 / 4 * 25 / 26, abs=0.01)


def test_a_larger_rate_spoils_more_and_the_seed_decides():
    words = [" ".join(map(str, range(1000)))]
    few, many = (set(stress.drop_words(words, rate, 3)[0].split()) for rate in (0.2, 0.6))
    assert many < few and len(few) == pytest.approx(800, abs=50) and len(many) == pytest.approx(400, abs=60)
    assert stress.typos(REVIEWS, 0.3, 1) == stress.typos(REVIEWS, 0.3, 1) != stress.typos(REVIEWS, 0.3, 2)
    assert stress.drop_words(REVIEWS, 1) == ["", "", ""]


@pytest.mark.parametrize("spoil", [stress.typos, stress.drop_words])
def test_bad_rates_and_missing_texts_are_named(spoil):
    with pytest.raises(ReclabError, match=r"rate must be from 0 to 1, got 1\.5"):
        spoil(REVIEWS, 1.5)
    with pytest.raises(ValueError, match=r"texts\[1\] is None"):
        spoil(["a", None], 0.1)
    with pytest.raises(ValueError, match="got one str"):
        spoil("a", 0.1)


def test_swapping_words_keeps_capitals_and_whole_words_and_goes_back():
    pairs = {"he": "she", "husband": "wife", "his": "her"}
    text = "My Husband says HE likes his theory; she agrees."
    swapped = stress.swap_words([text, "nothing here"], pairs)
    assert swapped == ["My Wife says SHE likes her theory; he agrees.", "nothing here"]
    assert stress.swap_words(swapped, pairs)[0] == text


def test_a_word_in_two_pairs_is_refused():
    with pytest.raises(ReclabError, match="one pair only"):
        stress.swap_words(["a"], {"he": "she", "him": "she"})
    with pytest.raises(ReclabError, match="there has to be one"):
        stress.swap_words(["a"], {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mail a.b+c@mail.example.org now", [("EMAIL", "a.b+c@mail.example.org")]),
        ("call +1 555-201-7788 or (555) 201-7788", [("PHONE", "+1 555-201-7788"), ("PHONE", "(555) 201-7788")]),
        ("card 4111 1111 1111 1111.", [("CARD", "4111 1111 1111 1111")]),
        ("order 4111 1111 1111 1112.", []),  # fails Luhn's check
        ("4012888888881881, not 4012888888881882", [("CARD", "4012888888881881")]),
        (
            "see https://a.example/b?c=1 and www.d.example",
            [("LINK", "https://a.example/b?c=1"), ("LINK", "www.d.example")],
        ),
        ("thanks @anna_b", [("HANDLE", "@anna_b")]),
        ("I'm 5'4\" and 120 lbs, 34b", [("BODY", "5'4\""), ("BODY", "120 lbs"), ("BODY", "34b")]),
        ("It cost 120 dollars in 2019, size 10, rated 5.", []),
        ("Josephine Lindqvist, 12 Mill Road", []),  # names and streets have no form: documented as missed
    ],
)
def test_personal_data_are_found_by_their_form(text, found):
    assert stress.find_personal(text) == found
    (masked,) = stress.mask_personal([text])
    assert all(value not in masked and f"[{kind}]" in masked for kind, value in found)
    assert found or masked == text
    assert stress.find_personal(masked) == []


def test_long_texts_and_empty_ones_pass_through():
    long = "well " * 2_000  # 10,000 characters
    assert stress.mask_personal([long, ""]) == [long, ""]
    assert len(stress.typos([long], 0.1)[0]) == pytest.approx(10_000, rel=0.02)
    assert stress.swap_words([long], {"well": "badly"}) == ["badly " * 2_000]


LIKES = sparse.csr_array(np.tril(np.ones((12, 12))))  # item 0 is liked by all, item 1 by all but one user, ...


def test_clones_are_alike_and_like_the_most_popular():
    fakes = stress.fake_profiles(LIKES, 11, 5, spread=3, likes=3).toarray()
    assert fakes.shape == (5, 12)
    assert (fakes == np.isin(np.arange(12), [0, 1, 2, 11])).all()


def test_spread_accounts_like_as_many_as_asked_of_the_popular_ones():
    fakes = stress.fake_profiles(LIKES, 11, 400, spread=6, likes=2, seed=1).toarray()
    assert (fakes.sum(axis=1) == 3).all() and (fakes[:, 11] == 1).all() and fakes[:, 6:11].sum() == 0
    assert fakes[:, :6].mean(axis=0) == pytest.approx(np.full(6, 2 / 6), abs=0.08)
    again = stress.fake_profiles(LIKES, 11, 400, spread=6, likes=2, seed=1).toarray()
    assert (again == fakes).all()


def test_a_target_that_is_popular_is_not_its_own_cover():
    fakes = stress.fake_profiles(LIKES, 0, 2, spread=2, likes=2).toarray()
    assert (fakes == np.isin(np.arange(12), [0, 1, 2])).all()
    assert stress.fake_profiles(LIKES, 0, 0).shape == (0, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 12}, r"target must be in 0\.\.11, got 12"),
        ({"n": -1}, "n must be in 0..inf, got -1"),
        ({"spread": 12}, r"spread must be in 1\.\.11, got 12"),
        ({"likes": 4}, r"likes must be in 1\.\.3, got 4"),
    ],
)
def test_bad_attacks_are_named(change, message):
    with pytest.raises(ReclabError, match=message):
        stress.fake_profiles(LIKES, **({"target": 1, "n": 2, "spread": 3, "likes": 2} | change))


def test_missing_profiles_are_a_group_of_their_own():
    groups = stress.groups_of(["f", None, "m", "f", float("nan"), "m"], known=("f", "m"))
    assert groups.tolist() == ["f", NOT_GIVEN, "m", "f", NOT_GIVEN, "m"]
    assert stress.groups_of(["f", "f", None]).tolist() == ["f", "f", NOT_GIVEN]  # one without a profile is no error


def test_bad_groups_are_named():
    with pytest.raises(UnknownNameError, match="there is no group named 'x'"):
        stress.groups_of(["f", "m", "x", "f", "m", "x"], known=("f", "m"))
    with pytest.raises(SchemaError, match=r"group 'm' has 1 member\(s\), 2 are needed: join it"):
        stress.groups_of(["f", "m", "f"])
    with pytest.raises(SchemaError, match=r"group 'm' has 2 member\(s\), 5 are needed"):
        stress.groups_of(["f"] * 5 + ["m"] * 2, least=5)
    with pytest.raises(SchemaError, match="nobody has a group"):
        stress.groups_of([None, None])


def test_exposure_gap_by_hand():
    favoured = np.array([True, False, False, True])
    lists = np.array([[0, 1], [1, 0], [1, 2], [3, -1], [-1, -1]])
    first, second = 1.0, 1 / np.log2(3)
    share = first / (first + second)
    found = stress.exposure_gap(lists, favoured, 0.5)
    assert found[:4] == pytest.approx([share - 0.5, 0.5 - share, -0.5, 0.5])
    assert np.isnan(found[4])
    assert stress.exposure_gap(lists[:2], favoured, np.array([0.1, 0.2])) == pytest.approx([share - 0.1, 0.8 - share])
