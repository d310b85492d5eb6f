"""A GGUF file, the form in which llama.cpp runs a model, turned once into weights that transformers loads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import assets
from .errors import ReclabError


def model_folder(name: str) -> Path:
    """Where transformers finds a model of `reclab.assets`: as it was fetched, or converted from a GGUF file."""
    files = assets.fetch(name)
    if "config.json" in files:
        return files["config.json"].parent
    for short, path in files.items():
        if path.suffix == ".gguf":
            return converted(path, assets.ASSETS[name].members[short].sha256)
    raise ReclabError(f"asset {name!r} is no model, it holds {', '.join(files)}; try 'minilm-l6'")


def converted(gguf: Path, sha256: str) -> Path:
    """Folder with a GGUF model as float32 safetensors, and its tokenizer; made on first use, in a minute.

    It lies in the derived cache under the hash of the file: four times the size of the file at four bits a weight. The
    work is done by a process of its own, so that its memory and its progress bars stay out of a notebook.

    Parameters
    ----------
    sha256 : of the file, as its asset pins it.

    Raises
    ------
    ReclabError : transformers cannot read the file, or the folder cannot be written.
    """
    import filelock

    target = assets.derived_folder() / f"{gguf.stem}-{sha256[:16]}"
    part = target.with_name(target.name + ".part")
    if target.is_dir():
        return target
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(target.name + ".lock")):
            if not target.is_dir():  # another process may have made it while this one waited
                shutil.rmtree(part, ignore_errors=True)  # what a killed process left
                _run(gguf, part)
                part.rename(target)
    except OSError as error:
        raise ReclabError(f"cannot write {target} ({error.strerror}); free some space or set RECLAB_DERIVED") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _run(gguf: Path, part: Path) -> None:
    command = [sys.executable, "-P", "-m", "reclab.convert", str(gguf), str(part)]
    env = os.environ | {"TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ReclabError(f"cannot convert {gguf} ({reason[:200]}); free some space or memory and try again")


def main(gguf: Path, folder: Path) -> None:
    """Read a GGUF file and write its model and tokenizer into a new folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"gguf_file": gguf.name, "local_files_only": True}
    dense = GgufConfig(dequantize=True)  # the packed form could not be saved
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, quantization_config=dense, **source)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
