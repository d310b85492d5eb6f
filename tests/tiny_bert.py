"""A BERT small enough to fine-tune in half a second, with random weights, and twelve texts for it."""

import dataclasses

import accelerate  # noqa: F401  (with peft what a fit imports: once, before the tests)
import peft  # noqa: F401
import torch
from transformers import BertConfig, BertModel

from reclab import finetune, text
from reclab.profiles import PROFILES

LIKED = ["lovely soft dress", "so soft", "lovely", "I love it, it fits well", "soft wool, lovely fit", "love love love"]
HATED = ["awful", "cheap and awful", "it shrank, I hate it", "hate the awful fit", "bad cheap cloth", "cheap cheap"]
TEXTS, LABELS = LIKED + HATED, [True] * 6 + [False] * 6
TOY = dataclasses.replace(PROFILES["laptop"], batch_size=4, micro_batches=1, max_length=16, epochs=4)
STEPS = 12
WIDTH, WIDE, LAYERS = 32, 64, 3


def tokenizer():
    return text.load_tokenizer("minilm-l6")


def encoder(dropout=0.1):
    torch.manual_seed(7)
    shape = {"hidden_size": WIDTH, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    # Large first weights: attention then matters, as it does in a trained model.
    draw = {"initializer_range": 0.15, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    return BertModel(BertConfig(vocab_size=30_522, max_position_embeddings=32, **shape, **draw)).eval()


def fit(method="full", profile=TOY, texts=TEXTS, labels=LABELS, **options):
    given = {"encoder": encoder(), "tokenizer": tokenizer()} | options
    return finetune.fit(texts, labels, profile, method=method, **given)


def weights(classifier):
    return classifier.module.state_dict()


def same(a, b):
    """Whether two state dicts agree to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
