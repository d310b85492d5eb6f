"""A language model as judge: the chance that it begins its reply with each of a few words, kept for
ever.

Reading the chances of the answers gives a graded score, and the same one each time. Every judgement
is kept under a hash of model, prompt and answers, in a store that comes with the notebooks or in
the derived cache, without any text.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import assets
from .errors import ReclabError, warn_not_kept
from .results import expected_folder

MODEL = "smollm2-135m-instruct"
# decimals kept of a log-probability: a reply from the store equals the one that was just computed
DIGITS = 5
BATCH = 4  # on a CPU the products of larger ones leave the cache


@dataclass(frozen=True)
class Judgements:
    """What a judge said to some prompts."""

    answers: tuple[str, ...]  # the words asked for, in order
    log_p: np.ndarray  # (n_prompts, n_answers) log-probability that the reply begins with each
    log_top: np.ndarray  # (n_prompts,) that of the likeliest first token, perhaps of no answer

    @property
    def mass(self) -> np.ndarray:
        """Probability that the reply begins with any of the answers at all, ``(n_prompts,)``."""
        return np.exp(self.log_p).sum(axis=1)

    @property
    def neither(self) -> np.ndarray:
        """Whether the judge, left to itself, would have begun with none of the answers."""
        return self.log_p.max(axis=1) < self.log_top

    @property
    def log_odds(self) -> np.ndarray:
        """Log of the first answer's probability over that of all the others, ``(n_prompts,)``."""
        return self.log_p[:, 0] - np.logaddexp.reduce(self.log_p[:, 1:], axis=1)

    def calibrated(self, empty: Judgements) -> np.ndarray:
        """Chance of each answer once the judge's leaning is taken out, ``(n_prompts, n_answers)``,
        rows sum to 1.

        ``empty`` : replies to the same question with nothing to judge in it, such as "N/A" in the
        place of the text; the mean of their logs is subtracted.
        Source: Zhao et al., ICML 2021, arXiv 2102.09690, section 5.
        """
        if empty.answers != self.answers:
            raise ReclabError(
                f"asked for {self.answers}, but the content-free prompts for {empty.answers}; ask "
                "alike"
            )
        shifted = self.log_p - empty.log_p.mean(axis=0)
        return np.exp(shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True))


def ask(
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    model: str = MODEL,
    chat: bool = True,
    system: str = "",
) -> Judgements:
    """Ask a language model, and read how likely it begins its reply with each answer.

    What was asked before is read, not computed: the model is loaded only for prompts that are new.
    Each batch is kept as soon as it is done, so a run that was stopped goes on where it was. In
    float32, on the profile's device.

    Parameters
    ----------
    answers : words as they would stand in the reply; the first token of each is looked at. After a
        chat prompt there is no space before a word, after a text such as "Sentiment:" there is one:
        ``" positive"``.
    model : a model that writes, by its name in `reclab.assets`, or a folder with a causal model as
        transformers saves it (safetensors).
    chat : whether to wrap each prompt as a user's message in the model's chat template; else it is
        text to go on with.
    system : the message that goes before it in a chat.

    Raises ValueError: an empty prompt, a prompt longer than the model reads, fewer than two
        answers, or answers that begin with the same token.
    Raises ReclabError: there is no such model, or it has no chat template.
    Source: Zheng et al., NeurIPS 2023, arXiv 2306.05685.
    """
    _check(prompts, answers)
    answers, system = tuple(answers), system if chat else None
    name, identity = _identity(model)
    asked = [json.dumps([identity, prompt, answers, system]) for prompt in prompts]
    keys = [hashlib.sha256(question.encode()).hexdigest()[:32] for question in asked]
    own, shipped = (
        folder / "judgements" / f"{name}.txt"
        for folder in (assets.derived_folder(), expected_folder())
    )
    known = _read(own) | _read(shipped)
    new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    if new:
        known |= _judge(new, answers, model, system, own)
    found = np.array([known[key] for key in keys]).reshape(len(keys), len(answers) + 1)
    return Judgements(answers, found[:, :-1], found[:, -1])


def _check(prompts: Sequence[str], answers: Sequence[str]) -> None:
    if isinstance(prompts, str) or isinstance(answers, str):
        raise ValueError("prompts and answers must be lists of texts, got one str; write [text]")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(
                f"prompts[{row}] is {prompt!r}: a judge needs something to read; drop that row"
            )
    words = [answer for answer in answers if isinstance(answer, str) and answer.strip()]
    if len(words) < max(2, len(answers)):
        raise ValueError(f"answers must be two or more words, such as Yes and No, got {answers}")


def _identity(model: str) -> tuple[str, str]:
    """The name of a model's store, and what stands for its weights in the keys."""
    folder = Path(model)
    if folder.is_dir():
        digest = _folder_hash(folder.resolve())
        return f"{folder.name}-{digest[:16]}", digest
    if model in assets.ASSETS:
        asset = assets.ASSETS[model]
        hashes = [member.sha256 for member in asset.members.values()]
        return model, json.dumps([asset.name, asset.revision, *hashes])
    raise ReclabError(
        f"there is no model {model!r}, as a folder or among `reclab data list`; try {MODEL!r}"
    )


@lru_cache(maxsize=4)
def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in {".safetensors", ".json", ".jinja"}:
            with path.open("rb") as file:
                of_file = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {of_file}\n".encode())
    return digest.hexdigest()


def _judge(
    new: dict[str, str], answers: tuple[str, ...], model: str, system: str | None, store: Path
) -> dict[str, np.ndarray]:
    """Judge prompts that are in no store, a batch of like length at a time, and keep each batch."""
    tokenizer, module = _load(model)
    import torch
    from tqdm.auto import tqdm

    from .text import length_groups, pad

    first, keys = _first_tokens(answers, tokenizer), list(new)
    tokens = [_tokens(prompt, system, tokenizer) for prompt in new.values()]
    limit = getattr(module.config, "max_position_embeddings", None)
    for ids, prompt in zip(tokens, new.values(), strict=True):
        if limit and len(ids) > limit:
            raise ValueError(
                f"the prompt {prompt[:30]!r}... has {len(ids)} tokens, the model reads {limit}; "
                "shorten it"
            )
    found = {}
    for rows in tqdm(length_groups([len(ids) for ids in tokens], BATCH), "judging", delay=10):
        batch = pad([tokens[row] for row in rows])
        batch = {name: part.to(module.device) for name, part in batch.items()}
        # padded on the right, where nothing before it can see it
        last = batch["attention_mask"].sum(dim=1) - 1
        places, at = torch.unique(last, return_inverse=True)
        with torch.inference_mode():
            logits = module(**batch, logits_to_keep=places, use_cache=False).logits
        log_p = torch.log_softmax(logits[torch.arange(len(rows)), at].double(), dim=1)
        kept = torch.cat([log_p[:, first], log_p.max(dim=1, keepdim=True).values], dim=1)
        kept = kept.cpu().numpy().round(DIGITS)
        done = {keys[row]: values for row, values in zip(rows, kept, strict=True)}
        _append(store, done)
        found |= done
    return found


def _load(model: str):
    """Tokenizer and model; nothing keeps the model beyond the new prompts' judgements."""
    # may convert it: before torch takes memory
    folder = Path(model) if Path(model).is_dir() else assets.model_folder(model)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .profiles import get_profile
    from .text import quiet
    from .training import return_memory

    quiet()
    return_memory()  # the weights come on top of what the notebook holds
    settings = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    module = AutoModelForCausalLM.from_pretrained(folder, **settings).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, module.to(get_profile().device)


def _first_tokens(answers: tuple[str, ...], tokenizer) -> list[int]:
    first = [tokenizer.encode(answer, add_special_tokens=False)[0] for answer in answers]
    for n, token in enumerate(first):
        if token in first[:n]:
            same = answers[first.index(token)]
            raise ValueError(
                f"answers {same!r} and {answers[n]!r} begin with the same token; choose other words"
            )
    return first


def _tokens(prompt: str, system: str | None, tokenizer) -> list[int]:
    if system is None:
        return tokenizer.encode(prompt)
    if not tokenizer.chat_template:
        raise ReclabError(
            "this model has no chat template; ask it with chat=False, as a text to go on with"
        )
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    said = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(said, add_special_tokens=False)


def _append(store: Path, done: dict[str, np.ndarray]) -> None:
    """Add judgements to a store in one write: a kill tears at most its last line."""
    lines = []
    for key, values in done.items():
        line = " ".join([key, *(f"{value:.{DIGITS}f}" for value in values)])
        lines.append(f"\n{line} {_checksum(line)}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with store.open("ab", buffering=0) as file:
            file.write("".join(lines).encode() + b"\n")
            os.fsync(file.fileno())
    except OSError:
        warn_not_kept(store.parent, "RECLAB_DERIVED")


def _read(store: Path) -> dict[str, np.ndarray]:
    """The judgements of a store by key, none where there is no store."""
    lines = store.read_text("utf-8", errors="replace").split("\n") if store.is_file() else []
    lines = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
    sound = [line.split() for line, _, checksum in lines if checksum == _checksum(line)]
    if len(sound) < len(lines):
        damaged = len(lines) - len(sound)
        warnings.warn(f"{store}: {damaged} damaged line(s), to be judged anew", stacklevel=3)
    return {key: np.array(values, float) for key, *values in sound}


def _checksum(line: str) -> str:
    return f"{zlib.crc32(line.encode()):08x}"
