"""Masking by its shares, perplexity in closed form, a loss beside a full projection's, and what bad input gets."""

import copy
import dataclasses
import math

import pytest
import torch

from reclab import masked_lm, text
from reclab.profiles import PROFILES

CORPUS = [
    "The soft wool dress fits well.",
    "The soft cotton shirt fits well.",
    "The cheap wool dress shrank at once!",
    "The cheap cotton shirt shrank at once!",
    "A naïve size: too small, too short.",
]
TOY = dataclasses.replace(PROFILES["laptop"], batch_size=8, micro_batches=1, max_length=32)


@pytest.fixture(scope="module")
def tokenizer():
    return masked_lm.train_vocabulary(CORPUS, 120)


@pytest.fixture
def model(tokenizer):
    return toy_model(tokenizer)


def toy_model(tokenizer, seed=0):
    encoder = masked_lm.small_bert(len(tokenizer), width=32, heads=2, max_length=32, seed=seed)
    return masked_lm.MaskedLanguageModel(encoder, seed=seed)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many(tokenizer):
    """A hundred thousand ordinary tokens in rows with padding and all other special tokens."""
    ids = torch.randint(5, len(tokenizer), (1000, 100), generator=seeded(1))
    ends = torch.tensor([[2, 1, 4, 3, 0, 0, 0, 0]]).expand(1000, 8)  # [CLS] [UNK] [MASK] [SEP] and padding
    return torch.cat([ids, ends], 1)


# Masking


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_as_many_tokens_are_chosen_and_treated_as_said(tokenizer, many, share):
    inputs, targets = masked_lm.mask_tokens(many, tokenizer, share, seeded())
    chosen = targets != -100
    n = int(chosen.sum())
    # Five standard deviations of a binomial count.
    assert abs(n / 100_000 - share) < 5 * math.sqrt(share * (1 - share) / 100_000)
    masked, kept = (inputs == tokenizer.mask_token_id)[chosen], (inputs == many)[chosen]
    replaced = ~masked & ~kept
    ordinary = len(tokenizer) - 5  # a replacement may by chance be the token itself
    for found, expected in ((masked, 0.8), (kept, 0.1 + 0.1 / ordinary), (replaced, 0.1 - 0.1 / ordinary)):
        assert abs(float(found.float().mean()) - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


def test_targets_are_the_tokens_that_were_there_and_nothing_else_changes(tokenizer, many):
    before = many.clone()
    inputs, targets = masked_lm.mask_tokens(many, tokenizer, generator=seeded())
    chosen = targets != -100
    assert torch.equal(many, before)
    assert torch.equal(targets[chosen], many[chosen])
    assert torch.equal(inputs[~chosen], many[~chosen])


def test_special_tokens_are_neither_chosen_nor_put_in(tokenizer, many):
    inputs, targets = masked_lm.mask_tokens(many, tokenizer, 1.0, seeded())
    assert torch.equal(inputs[:, 100:], many[:, 100:])
    assert (targets[:, 100:] == -100).all() and (targets[:, :100] != -100).all()
    words = inputs[:, :100]
    drawn = words[words != tokenizer.mask_token_id]
    assert drawn.min() == 5 and drawn.max() == len(tokenizer) - 1


def test_replacements_come_from_the_whole_vocabulary(tokenizer):
    ids = torch.full((500, 100), 7)
    inputs, _ = masked_lm.mask_tokens(ids, tokenizer, 1.0, seeded())
    assert len(inputs.unique()) == len(tokenizer) - 4  # every ordinary token, and the mask


def test_torch_seed_or_a_generator_decides(tokenizer, many):
    def draw(generator=None):
        return masked_lm.mask_tokens(many, tokenizer, generator=generator)[1]

    assert torch.equal(draw(seeded(3)), draw(seeded(3))) and not torch.equal(draw(seeded(3)), draw(seeded(4)))
    torch.manual_seed(3)
    first = draw()
    torch.manual_seed(3)
    assert torch.equal(first, draw()) and not torch.equal(first, draw())


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_share_outside_its_range(tokenizer, many, share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
        masked_lm.mask_tokens(many, tokenizer, share)


# Vocabulary


def test_vocabulary_writes_every_text_of_its_corpus(tokenizer):
    for one in CORPUS:
        ids = tokenizer(one)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        letters = tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
        assert letters == one.lower().replace("ï", "i").replace(" ", "")


def test_vocabulary_has_its_size_its_special_tokens_first_and_whole_frequent_words(tokenizer):
    assert len(tokenizer) <= 120
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == names == list(masked_lm.SPECIAL)
    assert tokenizer.tokenize("The SOFT wool") == ["the", "soft", "wool"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_vocabulary_is_the_same_every_time_whatever_the_order(tokenizer):
    for texts in (CORPUS, CORPUS[::-1], CORPUS):
        assert masked_lm.train_vocabulary(texts, 120).get_vocab() == tokenizer.get_vocab()


def test_vocabulary_too_small_says_what_is_enough():
    with pytest.raises(
        ValueError, match=r"size must be at least \d+ to hold every letter of the texts, got 20"
    ) as said:
        masked_lm.train_vocabulary(CORPUS, 20)
    enough = int(str(said.value).split()[5])
    assert len(masked_lm.train_vocabulary(CORPUS, enough)) == enough


# The network


def test_loss_is_the_cross_entropy_of_a_full_projection(model, tokenizer):
    batch = text.pad(text.tokenise(CORPUS, tokenizer, 32))
    inputs, targets = masked_lm.mask_tokens(batch["input_ids"], tokenizer, 0.5, seeded())
    model.eval()
    with torch.no_grad():
        model.bias.normal_(generator=seeded())
        loss = model(inputs, batch["attention_mask"], targets)
        hidden = model.encoder(inputs, attention_mask=batch["attention_mask"]).last_hidden_state
        logits = model.transform(hidden) @ model.encoder.embeddings.word_embeddings.weight.T + model.bias
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_nothing_hidden_is_no_loss(model):
    ids = torch.tensor([[2, 3]])
    loss = model(ids, torch.ones_like(ids), torch.full_like(ids, -100))
    loss.backward()
    assert float(loss.detach()) == 0


def test_seed_draws_the_network_and_leaves_torchs_own_draws_alone(tokenizer):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = toy_model(tokenizer), toy_model(tokenizer), toy_model(tokenizer, seed=1)
    assert torch.equal(torch.rand(1), expected)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(first.transform[0].weight, other.transform[0].weight)
    table = "encoder.embeddings.word_embeddings.weight"
    assert not torch.equal(first.state_dict()[table], other.state_dict()[table])


# Pre-training


def test_pretraining_learns_the_corpus(model, tokenizer):
    before = masked_lm.perplexity(model, tokenizer, CORPUS)
    history = masked_lm.pretrain(model, tokenizer, CORPUS * 20, TOY, epochs=6, lr=5e-3)
    assert list(history.columns) == ["loss", "learning_rate", "seconds"]
    assert len(history) == 6 * 13
    assert history["loss"].iloc[0] == pytest.approx(math.log(len(tokenizer)), abs=0.5)  # it knows nothing yet
    assert history["loss"].tail(10).mean() < 0.5 * history["loss"].head(5).mean()
    assert masked_lm.perplexity(model, tokenizer, CORPUS) < before / 4


def test_every_pass_hides_other_tokens(model, tokenizer, monkeypatch):
    drawn = []

    def noted(*arguments):
        inputs, targets = masking(*arguments)
        drawn.append(targets)
        return inputs, targets

    masking = masked_lm.mask_tokens
    monkeypatch.setattr(masked_lm, "mask_tokens", noted)
    masked_lm.pretrain(model, tokenizer, CORPUS[:1] * 8, TOY, epochs=2)
    assert not torch.equal(*drawn)


def test_an_encoder_without_gradient_stays_as_it_is(model, tokenizer):
    model.encoder.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    masked_lm.pretrain(model, tokenizer, CORPUS, TOY)
    changed = {name for name, weights in model.state_dict().items() if not torch.equal(weights, before[name])}
    assert changed == {"bias", *(name for name in before if name.startswith("transform."))}


def test_an_interrupted_run_ends_where_the_whole_one_does(tokenizer, tmp_path):
    def run(model, **options):
        masked_lm.pretrain(model, tokenizer, CORPUS * 4, TOY, save_every=2, **options)
        return model.state_dict()

    whole = run(toy_model(tokenizer))
    run(toy_model(tokenizer), checkpoint=tmp_path / "checkpoint", stop_after=2)
    resumed = run(toy_model(tokenizer, seed=7), checkpoint=tmp_path / "checkpoint")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# Perplexity


def test_perplexity_of_a_model_of_frequencies_is_that_of_the_hidden_tokens(model, tokenizer):
    # With a table of zeros the guess is softmax(bias), whatever the text: exp of the mean surprise, by hand.
    torch.nn.init.zeros_(model.encoder.embeddings.word_embeddings.weight)
    torch.nn.init.normal_(model.bias, generator=seeded())
    one = [" ".join(CORPUS)]
    ids = text.pad(text.tokenise(one, tokenizer, 32))["input_ids"]
    _, targets = masked_lm.mask_tokens(ids, tokenizer, 0.15, seeded(4))
    surprise = -model.bias.detach().log_softmax(0)[targets[targets != -100]]
    found = masked_lm.perplexity(model, tokenizer, one, max_length=32, seed=4)
    assert found == pytest.approx(math.exp(surprise.mean()), rel=1e-5)


def test_perplexity_repeats_itself_and_follows_its_seed(model, tokenizer):
    model.train()  # dropout must not reach it
    first = masked_lm.perplexity(model, tokenizer, CORPUS, seed=2)
    torch.manual_seed(99)
    assert masked_lm.perplexity(model, tokenizer, CORPUS, seed=2) == first
    assert masked_lm.perplexity(model, tokenizer, CORPUS, seed=3) != first


# Bad input


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "texts is empty; there is nothing to learn from, or to judge by"),
        ("one text", "texts must be a list of texts, got one str"),
        (["fine", None], r"texts\[1\] is None, not a text; drop that row"),
        ([float("nan")], r"texts\[0\] is nan, not a text; drop that row"),
    ],
)
def test_bad_texts(model, tokenizer, texts, said):
    with pytest.raises(ValueError, match=said):
        masked_lm.train_vocabulary(texts)
    with pytest.raises(ValueError, match=said):
        masked_lm.pretrain(model, tokenizer, texts, TOY)
    with pytest.raises(ValueError, match=said):
        masked_lm.perplexity(model, tokenizer, texts)
