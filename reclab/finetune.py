"""A BERT fine-tuned to classify texts: a short loop on Accelerate that resumes, on any device.

Source: Devlin et al., BERT (2019), arXiv 1810.04805.
Taught in: 02_bert_finetuning.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from . import text
from .errors import ReclabError
from .profiles import Profile
from .results import write_atomically

ENCODER_LR, HEAD_LR, WEIGHT_DECAY, WARM_UP, CLIP = 5e-5, 1e-3, 0.01, 0.1, 1.0


class TextClassifier(nn.Module):
    """An encoder, the mean over its tokens, and one linear layer: token ids in, two logits a text out.

    Taught in: 02_bert_finetuning.
    """

    def __init__(self, model: str):
        super().__init__()
        # Attention dropout of zero keeps the CPU's fast attention kernel; hidden dropout still regularises.
        self.encoder = text.load_encoder(model, attention_probs_dropout_prob=0.0)
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(text.mean_pool(hidden, attention_mask))


class Classifier:
    """A fine-tuned classifier: ``predict``, ``save``, and ``history``, one row a training step.

    Taught in: 02_bert_finetuning.
    """

    def __init__(self, module: TextClassifier, model: str, max_length: int, history: pd.DataFrame | None = None):
        self.module, self.model, self.max_length, self.history = module, model, max_length, history
        self.tokenizer = text.load_tokenizer(model)

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Probability of the positive class for each text: (n,) float64.

        Taught in: 02_bert_finetuning.
        """
        tokens = text.tokenise(texts, self.tokenizer, self.max_length)
        probabilities = np.zeros(len(tokens))
        device = next(self.module.parameters()).device
        self.module.eval()
        with torch.inference_mode():
            for rows in text.length_groups([len(t) for t in tokens], batch_size):
                batch = text.pad([tokens[row] for row in rows], self.tokenizer.pad_token_id)
                logits = self.module(**{name: part.to(device) for name, part in batch.items()})
                probabilities[rows] = logits.float().softmax(-1)[:, 1].cpu().numpy()
        return probabilities

    def save(self, folder: str | Path) -> None:
        """Write the weights (safetensors) and what `load` needs to know.

        Taught in: 02_bert_finetuning.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "model.safetensors.part"
        save_file(self.module.state_dict(), temporary)
        temporary.replace(folder / "model.safetensors")
        settings = {"model": self.model, "max_length": self.max_length}
        write_atomically(folder / "classifier.json", json.dumps(settings))


def load(folder: str | Path) -> Classifier:
    """Read a classifier that `Classifier.save` wrote.

    Raises
    ------
    ReclabError : the folder does not hold one, or holds only a part of one.

    Taught in: 02_bert_finetuning.
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / "classifier.json").read_text())
        name, max_length = settings["model"], settings["max_length"]
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise ReclabError(f"{folder} holds no whole classifier; give a folder that Classifier.save wrote") from None
    module = TextClassifier(name)
    module.load_state_dict(weights)
    return Classifier(module, name, max_length)


def fit(
    texts: Sequence[str],
    labels: Sequence[bool],
    profile: Profile,
    *,
    checkpoint: str | Path | None = None,
    save_every: int = 50,
    stop_after: int | None = None,
) -> Classifier:
    """Fine-tune the profile's encoder to tell positive from negative texts.

    Length-grouped batches, the embedding table frozen, AdamW with a larger learning rate for the new head, linear
    warm-up and decay, gradients clipped; everything drawn at random follows ``profile.seed``.

    Parameters
    ----------
    texts, labels : n texts and their n labels, both classes present.
    checkpoint : a file to resume from and to save to every ``save_every`` steps; the resumed run ends exactly where
        the uninterrupted one would, on the same machine. The file belongs to one run: these texts, labels and settings.
    stop_after : stop after this step, as if interrupted; None goes to the end.

    Raises
    ------
    ValueError : lengths differ, a text or label is missing, or there is only one class.
    ReclabError : the checkpoint is damaged or of another run.

    Source: Devlin et al. (2019), arXiv 1810.04805.
    Taught in: 02_bert_finetuning.
    """
    targets = torch.as_tensor(_valid_labels(texts, labels))
    tokens = text.tokenise(texts, text.load_tokenizer(profile.model), profile.max_length)
    batches = [
        batch
        for epoch in range(profile.epochs)
        for batch in text.length_groups([len(t) for t in tokens], profile.batch_size, seed=1000 * profile.seed + epoch)
    ]
    run = _fingerprint(profile, batches, tokens, targets)
    accelerator = _accelerator(profile)
    torch.manual_seed(profile.seed)
    module = TextClassifier(profile.model)
    optimizer = make_optimizer(module)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_then_decay(step, len(batches)))
    module, optimizer = accelerator.prepare(module, optimizer)
    parts = {"module": accelerator.unwrap_model(module), "optimizer": optimizer, "scheduler": scheduler}
    if accelerator.scaler is not None:
        parts["scaler"] = accelerator.scaler
    history = _restore(checkpoint, run, parts)
    module.train()
    start = time.perf_counter() - (history[-1][2] if history else 0.0)
    last = len(batches) if stop_after is None else min(stop_after, len(batches))
    for step in range(len(history), last):
        rows = batches[step]
        batch = {name: part.to(accelerator.device) for name, part in text.pad([tokens[row] for row in rows]).items()}
        with accelerator.autocast():
            loss = nn.functional.cross_entropy(module(**batch), targets[rows].to(accelerator.device))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        history.append([loss.item(), scheduler.get_last_lr()[0], time.perf_counter() - start])
        scheduler.step()
        optimizer.zero_grad()
        if checkpoint and (step + 1) % save_every == 0:
            _save(checkpoint, run, parts, history)
    table = pd.DataFrame(history, columns=["loss", "learning_rate", "seconds"])
    return Classifier(accelerator.unwrap_model(module), profile.model, profile.max_length, table)


def make_optimizer(module: TextClassifier) -> torch.optim.Optimizer:
    """AdamW over all but the embedding table, the head at its own learning rate.

    Source: Loshchilov and Hutter, Decoupled Weight Decay (2019), arXiv 1711.05101.
    Taught in: 02_bert_finetuning.
    """
    module.encoder.embeddings.requires_grad_(False)
    body = [p for p in module.encoder.parameters() if p.requires_grad]
    groups = [{"params": body, "lr": ENCODER_LR}, {"params": list(module.head.parameters()), "lr": HEAD_LR}]
    return torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, fused=True)


def warm_up_then_decay(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to 0 in a straight line.

    Taught in: 02_bert_finetuning.
    """
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _valid_labels(texts: Sequence[str], labels: Sequence[bool]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(texts),):
        raise ValueError(f"texts and labels must be of one length, got {len(texts)} and shape {labels.shape}")
    bad = pd.isna(labels)
    bad[~bad] = ~np.isin(labels[~bad], [0, 1])
    if bad.any():
        row = bad.argmax()
        raise ValueError(f"labels must be 0 or 1, labels[{row}] is {labels.tolist()[row]!r}; drop or correct it")
    if len(np.unique(labels)) < 2:
        raise ValueError("labels holds only one class; a classifier needs examples of both")
    return labels.astype(np.int64)


def _accelerator(profile: Profile):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps a process's first settings: without this, a second fit could change neither precision nor device.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=profile.mixed_precision, cpu=profile.device == "cpu")


def _fingerprint(profile: Profile, batches, tokens, targets) -> str:
    """What makes two runs the same one: settings, order, texts and labels."""
    about = profile.model, profile.mixed_precision, profile.seed, tokens, targets.tolist()
    return hashlib.sha256(repr((about, [rows.tolist() for rows in batches])).encode()).hexdigest()


def _save(path, run: str, parts: dict, history: list) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    state |= {"run": run, "history": history, "rng": torch.get_rng_state(), "cuda_rng": cuda}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{path}.part")
    torch.save(state, temporary)
    temporary.replace(path)


def _restore(path, run: str, parts: dict) -> list[list[float]]:
    """Load a checkpoint, if there is one, and return the history up to it."""
    if path is None or not Path(path).is_file():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        raise ReclabError(f"checkpoint {path} is damaged; delete it to start from the first step") from None
    if not isinstance(state, dict) or state.get("run") != run:
        raise ReclabError(f"checkpoint {path} is of another run; delete it or give that run's texts and profile")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["rng"])
    torch.cuda.set_rng_state_all(state["cuda_rng"])
    return state["history"]
