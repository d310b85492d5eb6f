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
from .results import expected_folder, write_atomically

MODEL = "smollm2-135m-instruct"
# decimals kept of a log-probability: a reply from the store equals the one that was just computed
DIGITS = 5
BATCH = 4  # on a CPU the products of larger ones leave the cache


@dataclass(frozen=True)
class Judgements:
    """What a judge said to some prompts.

    Attributes
    ----------
    answers : the words asked for, in order.
    log_p : ``(n_prompts, n_answers)`` natural log of the probability that the reply begins with
        each answer.
    log_top : ``(n_prompts,)`` that of the likeliest first token of all, which may be none of the
        answers.
    """

    answers: tuple[str, ...]
    log_p: np.ndarray
    log_top: np.ndarray

    @property
    def mass(self) -> np.ndarray:
        """Probability that the reply begins with any of the answers at all, ``(n_prompts,)``."""
        return np.exp(self.log_p).sum(axis=1)

    @property
    def neither(self) -> np.ndarray:
        """Whether the judge, left to itself, would have begun with none of the answers,
        ``(n_prompts,)`` bool.
        """
        return self.log_p.max(axis=1) < self.log_top

    @property
    def log_odds(self) -> np.ndarray:
        """Log of the first answer's probability over that of all the others together,
        ``(n_prompts,)``.
        """
        return self.log_p[:, 0] - np.logaddexp.reduce(self.log_p[:, 1:], axis=1)

    def calibrated(self, empty: Judgements) -> np.ndarray:
        """Chance of each answer once the judge's leaning is taken out, ``(n_prompts, n_answers)``,
        rows sum to 1.

        Parameters
        ----------
        empty : replies to the same question with nothing to judge in it, such as "N/A" in the place
            of the text; the mean of their logs is subtracted. ReclabError where it was asked for
            other answers.

        Source: Zhao et al., ICML 2021, arXiv 2102.09690, section 5. Taught in: 11_llm_as_judge.
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
    prompts : what the judge reads.
    answers : words as they would stand in the reply; the first token of each is looked at. After a
        chat prompt there is no space before a word, after a text such as "Sentiment:" there is one:
        ``" positive"``.
    model : a model that writes, by its name in `reclab.assets`, or a folder with a causal model as
        transformers saves it (safetensors): a larger one that you have fetched at a revision of
        your choice.
    chat : whether to wrap each prompt as a user's message in the model's chat template; else it is
        text to go on with.
    system : the message that goes before it in a chat.

    Raises ValueError: an empty prompt, a prompt longer than the model reads, fewer than two
        answers, or answers that begin with the same token.
    Raises ReclabError: the model has no chat template, or the store that comes with the notebooks
        is damaged.

    Source: Zheng et al., NeurIPS 2023, arXiv 2306.05685. Taught in: 11_llm_as_judge.
    """
    answers = _checked(prompts, answers)
    name, identity = _identity(model)
    keys = [_key(identity, prompt, answers, system if chat else None) for prompt in prompts]
    own = assets.derived_folder() / "judgements" / f"{name}.txt"
    known = _read(own, shipped=False) | _read(
        expected_folder() / "judgements" / f"{name}.txt", shipped=True
    )
    new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    if new:
        known |= _judge(new, answers, model, system if chat else None, own)
    found = np.array([known[key] for key in keys]).reshape(len(keys), len(answers) + 1)
    return Judgements(answers, found[:, :-1], found[:, -1])


def _checked(prompts: Sequence[str], answers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(prompts, str) or isinstance(answers, str):
        raise ValueError("prompts and answers must be lists of texts, got one str; write [text]")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(
                f"prompts[{row}] is {prompt!r}: a judge needs something to read; drop that row"
            )
    if len(answers) < 2 or not all(
        isinstance(answer, str) and answer.strip() for answer in answers
    ):
        raise ValueError(
            f"answers must be two or more words, such as ['Yes', 'No'], got {list(answers)}"
        )
    return tuple(answers)


def _key(identity: str, prompt: str, answers: tuple[str, ...], system: str | None) -> str:
    return hashlib.sha256(json.dumps([identity, prompt, answers, system]).encode()).hexdigest()[:32]


def _identity(model: str) -> tuple[str, str]:
    """The name of a model's store, and what stands for its weights in the keys."""
    folder = Path(model)
    if folder.is_dir():
        digest = _folder_hash(folder.resolve())
        return f"{folder.name}-{digest[:16]}", digest
    if model in assets.ASSETS:
        asset = assets.ASSETS[model]
        return model, json.dumps(
            [asset.name, asset.revision, *(m.sha256 for m in asset.members.values())]
        )
    raise ReclabError(
        f"there is no model {model!r}, as a folder or among `reclab data list`; try {MODEL!r}"
    )


@lru_cache(maxsize=4)
def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in {".safetensors", ".json", ".jinja"}:
            with path.open("rb") as file:
                digest.update(
                    f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
                )
    return digest.hexdigest()


def _judge(
    new: dict[str, str], answers: tuple[str, ...], model: str, system: str | None, path: Path
) -> dict:
    """Judge prompts that are in no store, a batch of like length at a time, and keep each batch."""
    tokenizer, module = _load(model)
    import torch
    from tqdm.auto import tqdm

    from .text import length_groups, pad

    first, keys = _first_tokens(answers, tokenizer), list(new)
    tokens = [_tokens(prompt, system, tokenizer) for prompt in new.values()]
    _refuse_long(tokens, new, getattr(module.config, "max_position_embeddings", None))
    found = {}
    for rows in tqdm(length_groups([len(ids) for ids in tokens], BATCH), "judging", delay=10):
        batch = {
            name: part.to(module.device)
            for name, part in pad([tokens[row] for row in rows]).items()
        }
        last = (
            batch["attention_mask"].sum(dim=1) - 1
        )  # padded on the right, where nothing before it can see it
        places, at = torch.unique(last, return_inverse=True)
        with torch.inference_mode():
            logits = module(**batch, logits_to_keep=places, use_cache=False).logits
        log_p = torch.log_softmax(logits[torch.arange(len(rows)), at].double(), dim=1)
        kept = (
            torch.cat([log_p[:, first], log_p.max(dim=1, keepdim=True).values], dim=1).cpu().numpy()
        )
        done = {keys[row]: values.round(DIGITS) for row, values in zip(rows, kept, strict=True)}
        _append(path, done)
        found |= done
    return found


def _load(model: str):
    """Tokenizer and model; nothing keeps the model beyond the new prompts' judgements."""
    folder = (
        Path(model) if Path(model).is_dir() else assets.model_folder(model)
    )  # may convert it: before torch takes memory
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .profiles import get_profile
    from .text import quiet
    from .training import return_memory

    quiet()
    return_memory()  # the weights come on top of what the notebook holds
    settings = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    module = AutoModelForCausalLM.from_pretrained(folder, **settings).eval()
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), module.to(
        get_profile().device
    )


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
    messages = [{"role": "system", "content": system}] * bool(system) + [
        {"role": "user", "content": prompt}
    ]
    said = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(said, add_special_tokens=False)


def _refuse_long(tokens: list[list[int]], prompts: dict[str, str], limit: int | None) -> None:
    for ids, prompt in zip(tokens, prompts.values(), strict=True):
        if limit and len(ids) > limit:
            raise ValueError(
                f"the prompt {prompt[:30]!r}... has {len(ids)} tokens, the model reads {limit}; "
                "shorten it"
            )


def _append(path: Path, done: dict[str, np.ndarray]) -> None:
    """Add judgements to a store in one write; a line that a kill tore apart fails its check and is
    left out.
    """
    lines = [
        " ".join([key, *(f"{value:.{DIGITS}f}" for value in values)])
        for key, values in done.items()
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            file.write("".join(f"\n{line} {_check(line)}" for line in lines).encode() + b"\n")
            os.fsync(file.fileno())
    except OSError:
        warn_not_kept(path.parent, "RECLAB_DERIVED")


def _read(path: Path, *, shipped: bool) -> dict[str, np.ndarray]:
    """The judgements of a store by key, none where there is no store; one that is damaged is
    refused or repaired.
    """
    lines = path.read_text("utf-8", errors="replace").split("\n") if path.is_file() else []
    lines = [line for line in lines if line and not line.startswith("#")]
    sound = [line for line in lines if line.rpartition(" ")[2] == _check(line.rpartition(" ")[0])]
    if damaged := len(lines) - len(sound):
        if shipped:
            raise ReclabError(
                f"{path}: {damaged} damaged line(s); restore the file, or delete it to judge all "
                "anew"
            )
        warnings.warn(
            f"{path}: {damaged} damaged judgement(s) left out, to be judged anew", stacklevel=3
        )
        write_atomically(path, "\n".join(sound) + "\n")
    rows = [line.split() for line in sound]
    return {key: np.array(values, float) for key, *values, _ in rows}


def _check(line: str) -> str:
    return f"{zlib.crc32(line.encode()):08x}"
