"""The table 12_repairs: a small BERT on spoiled reviews, as it is, with augmentation, and with adversarial training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from cross_encoder import over_seeds
from torch import nn

from reclab import data, efficient, finetune, get_profile, stress, text, training
from reclab.finetune import Classifier, TextClassifier

TRAINED, TESTED, TOKENS = 1_000, 800, 64
TYPO_RATE = 0.1  # of the letters, in every other text that augmentation trains on
EPSILON = 1.0  # length of the step that an adversary takes from a text's word vectors, as a share of a word's length
PLAIN, AUGMENTED, ADVERSARIAL = "plain", "augmented with typos", "adversarial"
SPOILED = {
    "clean": lambda texts: texts,
    "typos_5": lambda texts: stress.typos(texts, 0.05),
    "typos_10": lambda texts: stress.typos(texts, 0.1),
    "typos_20": lambda texts: stress.typos(texts, 0.2),
    "words_left_out_50": lambda texts: stress.drop_words(texts, 0.5),
    "first_10_words": lambda texts: [" ".join(words.split()[:10]) for words in texts],
}


def repairs(seeds: Iterable[int]) -> pd.DataFrame:
    """AUC of each training on each kind of spoiled test review, and less the plain one; reviews and seeds are drawn."""
    split = data.cold_items(data.clothing().interactions, folds=10)
    data.check_leakage(split)
    test = split.test.sample(TESTED, random_state=0)
    test = test.assign(user_id=test["item_id"])  # reviews of one item hang together
    runs = [one_seed(seed, split.train, test) for seed in seeds]
    rows = []
    for kind in SPOILED:
        for name in (PLAIN, AUGMENTED, ADVERSARIAL):
            predictions = [run[name, kind] for run in runs]
            rows.append({"reviews": kind, "training": name, "seeds": len(runs)} | over_seeds("auc", test, predictions))
            less = None if name == PLAIN else [run[PLAIN, kind] for run in runs]
            rows[-1] |= over_seeds("auc_minus_plain", test, predictions, less)
    return pd.DataFrame(rows)


def one_seed(seed: int, train: pd.DataFrame, test: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Chances of the test reviews, by training and by what was done to them."""
    profile = replace(get_profile("laptop", seed=seed), max_length=TOKENS)
    part = train.sample(TRAINED, random_state=seed)
    texts, labels = list(part["text"]), part["positive"].to_numpy(int)
    half = [
        mistyped if n % 2 else own
        for n, (own, mistyped) in enumerate(zip(texts, stress.typos(texts, TYPO_RATE), strict=True))
    ]
    models = {PLAIN: fit(texts, labels, profile), AUGMENTED: fit(half, labels, profile)}
    models[ADVERSARIAL] = fit(texts, labels, profile, epsilon=EPSILON)
    return {
        (name, kind): model.predict(spoil(list(test["text"])))
        for name, model in models.items()
        for kind, spoil in SPOILED.items()
    }


def fit(texts: list[str], labels: np.ndarray, profile, epsilon: float = 0.0) -> Classifier:
    """Fine-tune as `finetune.fit` does, with half of the loss on word vectors that an adversary has moved.

    The adversary moves each word's vector along the gradient of the loss, all of a text's together by ``epsilon`` times
    the mean length of a word's vector.
    Source: Miyato et al., Adversarial Training Methods for Text Classification (2017), arXiv 1605.07725.
    """
    tokenizer = text.load_tokenizer(profile.model)
    tokens = text.tokenise(texts, tokenizer, profile.max_length)
    batches = text.epochs_of_batches([len(ids) for ids in tokens], profile.batch_size, profile.epochs, profile.seed)
    torch.manual_seed(profile.seed)
    module, targets = TextClassifier(profile.model), torch.as_tensor(labels)
    efficient.freeze_embeddings(module.encoder)
    words = module.encoder.embeddings.word_embeddings

    def loss(network, rows):
        batch = text.pad([tokens[row] for row in rows], tokenizer.pad_token_id)
        mask, wanted = batch["attention_mask"], targets[rows]
        vectors = words(batch["input_ids"])
        if not epsilon:
            return nn.functional.cross_entropy(network(attention_mask=mask, inputs_embeds=vectors), wanted)
        vectors.requires_grad_(True)
        clean = nn.functional.cross_entropy(network(attention_mask=mask, inputs_embeds=vectors), wanted)
        (slope,) = torch.autograd.grad(clean, vectors, retain_graph=True)
        size = epsilon * vectors.detach().norm(dim=2).mean() / slope.flatten(1).norm(dim=1).clamp(min=1e-12)
        moved = vectors.detach() + size[:, None, None] * slope
        worst = nn.functional.cross_entropy(network(attention_mask=mask, inputs_embeds=moved), wanted)
        return (clean + worst) / 2

    training.train(module, batches, loss, finetune.make_optimizer(module), profile)
    return Classifier(module, tokenizer, profile.max_length, base_rate=float(labels.mean()))
