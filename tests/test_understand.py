"""Attributions against closed forms and an integral done by hand; the explorer on odd texts."""

import html
import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import tiny_bert
from reclab.errors import SchemaError
from reclab.finetune import Classifier, TextClassifier
from reclab.understand import Attribution, attribute, coherence, read

REVIEW = "I loved this jumpsuit, but it's unflattering & scratchy."
NAMES = ("not recommended", "recommended")


class BagOfWords(nn.Module):
    """An encoder that hands on the word vectors: what `TextClassifier` makes of them is linear."""

    def __init__(self, words=30_522, width=8):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.table = nn.Embedding(words, width)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.table(input_ids))


def classifier_on(encoder, max_length=32):
    torch.manual_seed(3)
    module = TextClassifier(encoder).double()
    nn.init.normal_(module.head.weight)
    return Classifier(module, tiny_bert.tokenizer(), max_length, base_rate=0.82)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return classifier_on(BagOfWords())


@pytest.fixture(scope="module")
def bert():
    return classifier_on(tiny_bert.encoder())


def log_odds(classifier, ids):
    with torch.no_grad():
        logits = classifier.module(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    return float(logits[1] - logits[0])


def ids_and_hidden(classifier, review):
    ids = torch.tensor([classifier.tokenizer(review)["input_ids"]])
    hidden = torch.full_like(ids, classifier.tokenizer.pad_token_id)
    hidden[:, 0], hidden[:, -1] = ids[:, 0], ids[:, -1]
    return ids, hidden


# Coherence of topics


def test_coherence_by_counting():
    present = np.random.default_rng(0).random((30, 5)) < 0.4
    words = [0, 3, 4]
    values = []
    for a, b in itertools.combinations(words, 2):
        p_a, p_b, p_ab = present[:, a].mean(), present[:, b].mean(), (present[:, a] & present[:, b]).mean()
        values.append(math.log(p_ab / (p_a * p_b)) / -math.log(p_ab))
    assert coherence(words, present) == pytest.approx(np.mean(values), rel=1e-12)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([[1, 1, 0, 0], [1, 1, 0, 0]], 1.0),  # only together
        ([[1, 1, 0, 0], [1, 0, 1, 0]], 0.0),  # as by chance
        ([[1, 1, 0, 0], [0, 0, 1, 1]], -1.0),  # never together
        ([[1, 1, 1, 1], [1, 1, 1, 1]], 1.0),  # always together
        ([[1, 1, 0, 0], [0, 0, 0, 0]], -1.0),  # a word that no text has
    ],
)
def test_coherence_at_its_marks(columns, expected):
    assert coherence([0, 1], np.array(columns).T) == pytest.approx(expected, abs=1e-12)


def test_one_word_has_no_coherence():
    with pytest.raises(SchemaError, match="at least 2 words"):
        coherence([3], np.ones((4, 5)))


# Attributions


def test_a_linear_model_has_a_closed_form_that_one_step_reaches(linear):
    module, (ids, hidden) = linear.module, ids_and_hidden(linear, REVIEW)
    change = (module.encoder.table(ids) - module.encoder.table(hidden))[0, 1:-1]
    pieces = (change @ (module.head.weight[1] - module.head.weight[0]) / ids.shape[1]).detach().numpy()
    words = linear.tokenizer(REVIEW, add_special_tokens=False).word_ids()
    expected = [pieces[[w == word for w in words]].sum() for word in range(max(words) + 1)]
    found = attribute(linear, REVIEW, steps=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-9)
    assert abs(found.gap) < 1e-12


@pytest.mark.parametrize("steps", [3, 20])
def test_the_integral_by_hand_gives_the_same(bert, steps):
    ids, hidden = ids_and_hidden(bert, REVIEW)
    end, start = (bert.module.encoder.get_input_embeddings()(part).detach() for part in (ids, hidden))
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(end)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (start + node * (end - start)).requires_grad_()
        logits = bert.module(inputs_embeds=point, attention_mask=torch.ones_like(ids))[0]
        total += weight * torch.autograd.grad(logits[1] - logits[0], point)[0]
    pieces = (total * (end - start)).sum(-1)[0, 1:-1].numpy()
    words = np.array(bert.tokenizer(REVIEW, add_special_tokens=False).word_ids())
    expected = [pieces[words == word].sum() for word in range(words.max() + 1)]
    np.testing.assert_allclose(attribute(bert, REVIEW, steps).scores, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("review", [REVIEW, "ok", "Too small 😀👗!", "x" * 25 + " soft"])
def test_scores_add_up_to_the_difference_of_the_output(bert, review):
    ids, hidden = ids_and_hidden(bert, review)
    difference = log_odds(bert, ids) - log_odds(bert, hidden)
    found = attribute(bert, review, steps=60)
    assert found.scores.sum() - found.gap == pytest.approx(difference, abs=1e-9)
    assert abs(found.gap) < 1e-3 * max(1, np.abs(found.scores).sum())
    assert abs(difference) > 1e-3, "without a difference nothing is shown"


def test_it_leaves_no_gradients_and_changes_nothing(bert):
    before = {name: value.clone() for name, value in bert.module.state_dict().items()}
    first = attribute(bert, REVIEW).scores
    bert.module.train()  # dropout must not leak in
    assert np.array_equal(first, attribute(bert, REVIEW).scores)
    assert all(parameter.grad is None for parameter in bert.module.parameters())
    assert tiny_bert.same(before, bert.module.state_dict())


def test_frozen_parameters_do_not_stop_it(bert):
    bert.module.requires_grad_(False)
    frozen = attribute(bert, REVIEW).scores
    bert.module.requires_grad_(True)
    np.testing.assert_allclose(frozen, attribute(bert, REVIEW).scores, rtol=1e-9)


# Words


def test_pieces_are_joined_to_the_words_of_the_text(linear):
    words = ["I", "loved", "this", "jumpsuit", ",", "but", "it", "'", "s", "unflattering", "&", "scratchy", "."]
    assert attribute(linear, REVIEW).tokens == words
    assert len(linear.tokenizer.tokenize(REVIEW)) > len(words), "a word of several pieces is what the test is about"


def test_an_emoji_stays_itself(linear):
    assert attribute(linear, "so soft 😀 !").tokens == ["so", "soft", "😀", "!"]


def test_top_words_for_and_against():
    found = Attribution("a b c d", [(0, 1), (2, 3), (4, 5), (6, 7)], np.array([0.1, -2.0, 3.0, -0.5]), 0.0, 0.6)
    assert found.top(2) == [2, 0]
    assert found.top(2, sign=-1) == [1, 3]
    assert found.top(9) == [2, 0, 3, 1]


def test_a_text_of_ten_thousand_characters_is_cut_and_says_so(linear):
    review = "soft " * 2_000
    found = attribute(linear, review)
    assert len(found.tokens) == linear.max_length - 2
    assert found.left_out == 2_000 - len(found.tokens)
    assert f"{found.left_out} word pieces were left out" in found.to_html()
    assert found.probability == pytest.approx(linear.predict([review])[0], abs=1e-6)


def test_a_word_cut_in_the_middle_keeps_its_beginning(linear):
    found = attribute(linear, "a " * 29 + "unflatteringly")
    assert found.tokens[-1] == "un"
    assert found.left_out > 0


def test_a_text_that_just_fits_is_whole(linear):
    assert attribute(linear, "a " * 30).left_out == 0


@pytest.mark.parametrize("review", ["", "  \n\t ", "\u200b"])
def test_a_text_without_words_is_refused(linear, review):
    with pytest.raises(ValueError, match="no word in it"):
        attribute(linear, review)


@pytest.mark.parametrize("review", [None, float("nan"), 7])
def test_a_missing_text_is_refused(linear, review):
    with pytest.raises(ValueError, match=r"texts\[0\] is .*not a text"):
        attribute(linear, review)


def test_no_steps_are_refused(linear):
    with pytest.raises(ValueError, match=r"^steps must be at least 1, got 0$"):
        attribute(linear, REVIEW, steps=0)


# The page


def plain(page):
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_typed_markup_stays_text(linear):
    review = "<script>alert('x')</script> <b onclick=\"f()\">soft</b>"
    page = attribute(linear, review).to_html(("<i>no</i>", "<i>yes</i>"))
    assert set(re.findall(r"<\s*/?\s*(\w+)", page)) == {"p", "b", "span", "small"}
    assert "onclick" not in "".join(re.findall(r"<[^>]*>", page))
    assert review in plain(page)
    assert "<i>" in plain(page)


def test_colours_follow_signs_and_strengths():
    spans = [(0, 4), (5, 8), (9, 12)]
    page = Attribution("soft but bad", spans, np.array([2.0, 0.0, -1.0]), 0.0, 0.7).to_html()
    marks = re.findall(r'<span style="background:rgba\(([\d, ]+), ([\d.]+)\)([^"]*)" title="(.*?)">(\w+)<', page)
    assert marks[:3] == [
        ("0, 114, 178", "0.60", "", "+2.00", "soft"),
        ("213, 94, 0", "0.00", "", "+0.00", "but"),
        ("213, 94, 0", "0.30", ";text-decoration:underline", "-1.00", "bad"),
    ]


@pytest.mark.parametrize(
    ("p", "verdict"),
    [(0.9, "recommended, with a confidence of 0.90."), (0.2, "not recommended, with a confidence of 0.80.")],
)
def test_the_verdict_and_its_confidence(p, verdict):
    page = Attribution("soft", [(0, 4)], np.array([0.0]), 0.0, p).to_html(NAMES)
    assert plain(page).startswith(verdict)


def test_hidden_words():
    found = Attribution(
        "so soft, so  good!", [(0, 2), (3, 7), (7, 8), (9, 11), (13, 17), (17, 18)], np.zeros(6), 0.0, 0.6
    )
    assert found.without([1, 4], "[MASK]") == "so [MASK] , so [MASK] !"


def test_hiding_words_hides_their_pieces_from_the_model(linear):
    found = attribute(linear, REVIEW)
    all_hidden = linear.tokenizer(found.without(range(len(found.tokens)), "[MASK]"))["input_ids"]
    assert all_hidden[1:-1] == [linear.tokenizer.mask_token_id] * len(found.tokens)
    assert linear.tokenizer(found.without([], "[MASK]"))["input_ids"] == linear.tokenizer(REVIEW)["input_ids"]


@pytest.mark.parametrize("review", ["", "   ", "\u200b"])
def test_a_text_without_words_gets_the_base_rate(linear, review):
    page = read(linear, review, ("no", "<yes>"))
    assert plain(page) == "There is no word to read. Without one, the best answer is the base rate: 0.82 <yes>."
    assert "<yes>" not in page


def test_a_text_with_words_is_read_as_its_attributions(linear):
    assert read(linear, "so soft", NAMES, steps=2) == attribute(linear, "so soft", 2).to_html(NAMES)
