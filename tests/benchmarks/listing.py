"""The published listing's way to fine-tune a BERT, written anew and then left alone: what the benchmarks compare with.

Its faults are the point, so nothing here is to be mended:

- L1: the model has one logit, and ``argmax`` over one logit is always class 0.
- L2: with one logit a label of 0 or 1 is fitted by squared error, as if it were a number.
- L3: every text is padded to 128 tokens, and tokenised again whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from reclab import assets, text

MODEL, MAX_LENGTH, BATCH_SIZE, LEARNING_RATE = "minilm-l6", 128, 16, 2e-5


class ReviewDataset(Dataset):
    """Texts and labels; each item is tokenised when it is asked for, and padded to 128 tokens."""

    def __init__(self, texts: Sequence[str], labels: Sequence[float], tokenizer):
        self.texts, self.labels, self.tokenizer = list(texts), list(labels), tokenizer

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        encoded = self.tokenizer(
            self.texts[row], truncation=True, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt"
        )
        return {
            "input_ids": encoded["input_ids"].flatten(),
            "attention_mask": encoded["attention_mask"].flatten(),
            "labels": torch.tensor(self.labels[row], dtype=torch.float),
        }


def load(num_labels: int = 1):
    """The pretrained model with a new head."""
    text.quiet()
    from transformers import AutoModelForSequenceClassification

    folder = assets.fetch(MODEL)["config.json"].parent
    options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels, **options)


def train(texts: Sequence[str], labels: Sequence[float], seed: int, module=None, tokenizer=None):
    """One epoch of float32 training of all weights by AdamW; returns the module.

    Parameters
    ----------
    module, tokenizer : already loaded, where loading is not to be timed.
    """
    torch.manual_seed(seed)
    module, tokenizer = module or load(), tokenizer or text.load_tokenizer(MODEL)
    loader = DataLoader(ReviewDataset(texts, labels, tokenizer), batch_size=BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    module.train()
    for batch in loader:
        optimizer.zero_grad()
        module(**batch).loss.backward()
        optimizer.step()
    return module


def predict(module, texts: Sequence[str], tokenizer=None) -> np.ndarray:
    """Logits of the listing's model, (n, 1), in batches of 16 texts of 128 tokens."""
    return _evaluate(lambda batch: module(**batch).logits, module, texts, tokenizer)


def classes(logits: np.ndarray) -> np.ndarray:
    """The class of each text as the listing takes it: the place of the largest logit."""
    return logits.argmax(axis=-1)


def probabilities(module, texts: Sequence[str], tokenizer=None) -> np.ndarray:
    """The same way to predict with a `reclab.finetune.TextClassifier`, so that equal weights can be compared: (n,)."""
    return _evaluate(lambda batch: module(**batch).softmax(-1)[:, 1], module, texts, tokenizer)


def _evaluate(forward, module, texts: Sequence[str], tokenizer) -> np.ndarray:
    data = ReviewDataset(texts, [0.0] * len(texts), tokenizer or text.load_tokenizer(MODEL))
    outputs = []
    module.eval()
    with torch.no_grad():
        for batch in DataLoader(data, batch_size=BATCH_SIZE):
            del batch["labels"]
            outputs.append(forward(batch))
    return torch.cat(outputs).numpy()
