"""Loading and saving causal language models: safetensors alone, and never code from a folder."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from expunge.core.machine import transformers
from expunge.core.receipt import Receipt
from expunge.errors import BadData, StoreError

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


RECEIPT = "receipt.json"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A causal language model in evaluation mode, and its tokenizer."""

    model: nn.Module
    tokenizer: Any

    @property
    def context(self) -> int:
        """The longest text that the model reads, in tokens; 0 where it does not say."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 0)

    def untrained(self) -> nn.Module:
        """A model of the same shape with fresh weights: `Problem`'s architecture."""
        return transformers().AutoModelForCausalLM.from_config(self.model.config)


def load(source: str | Path, *, dtype: torch.dtype = torch.float32, revision: str = "") -> Loaded:
    """A model and its tokenizer from a folder, or from the hub by name.

    Args:
        source: a folder as `save_pretrained` writes it, or a hub id such as "owner/name".
        dtype: of the weights; float32 for training, unless memory is short.
        revision: of the hub, a commit; the newest if empty.

    Raises:
        BadData: weights that are pickled, damaged, of other shapes or not all there; code that
            comes with the model; or no model at all.
    """
    there = Path(source).is_dir()
    if there:
        refuse_unsafe(Path(source))
    elif looks_local(str(source)):
        raise BadData(f"There is no folder {source}; a hub id is written owner/name.")
    auto, where = transformers(), str(source)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": there}
    options |= {"revision": revision} if revision else {}
    try:
        model, found = auto.AutoModelForCausalLM.from_pretrained(
            where, use_safetensors=True, dtype=dtype, output_loading_info=True, **options
        )
        tokenizer = auto.AutoTokenizer.from_pretrained(where, **options)
    except SafetensorError as fault:
        raise BadData(
            f"The weights in {source} are damaged or cut short ({fault}). Copy them again."
        ) from None
    # RuntimeError: weights whose shapes are not those of config.json
    except (OSError, ValueError, KeyError, RuntimeError) as fault:
        raise BadData(f"Cannot load a language model from {source}: {fault}") from None
    _refuse_missing(source, sorted(found["missing_keys"]))
    return Loaded(model.eval(), tokenizer)


def _refuse_missing(source: str | Path, names: list[str]) -> None:
    """Weights that a folder lacks would be drawn at random without a word."""
    if names:
        raise BadData(
            f"{source} lacks {len(names)} of the model's weights, {names[0]} among them. "
            "Copy all of its files, and look whether config.json belongs to them."
        )


def looks_local(source: str) -> bool:
    """Whether a name must mean a folder, since no hub id is written so."""
    return source.count("/") != 1 or source.startswith((".", "/", "~"))


def refuse_unsafe(folder: Path) -> None:
    """Refuse a folder whose weights can run code when they are read, or that brings code along.

    Raises:
        BadData: naming the file.
    """
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    pickled = [name for name in files if name.endswith(PICKLED)]
    if pickled and not any(name.endswith(".safetensors") for name in files):
        raise BadData(
            f"{folder / pickled[0]} is pickled, and reading a pickle can run any code. Convert the "
            "weights to safetensors (save_pretrained does) where you trust them."
        )
    for name in ("config.json", "tokenizer_config.json"):
        if name in files and "auto_map" in _read(folder / name):
            raise BadData(
                f"{folder / name} asks for code that comes with the model (auto_map); no code from "
                "a model's folder is run. Use an architecture that transformers knows."
            )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError) as fault:
        raise BadData(f"Cannot read {file}: {fault}.") from None
    if not isinstance(found, dict):
        raise BadData(f"{file} holds no object.")
    return found


def save(model: Any, tokenizer: Any, folder: str | Path, receipt: Receipt | None = None) -> Path:
    """Write a folder that transformers loads, with the receipt in it; whole or not at all.

    Args:
        model: of transformers.
        tokenizer: that belongs to it; None for none.
        folder: must not be there yet.
        receipt: what `unlearn` gave; written as receipt.json.

    Raises:
        StoreError: the folder is there already, or cannot be written.
    """
    target = Path(folder)
    refuse_existing(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        part.mkdir(parents=True)
        model.save_pretrained(part)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        if receipt is not None:
            said = json.dumps(dataclasses.asdict(receipt), indent=1, allow_nan=False)
            (part / RECEIPT).write_text(said + "\n", "utf-8")
        os.replace(part, target)
    except OSError as fault:
        raise StoreError(f"Cannot write {target}: {fault}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def refuse_existing(folder: Path) -> None:
    """Refuse to write over a folder or file.

    Raises:
        StoreError: it is there already.
    """
    if folder.exists():
        raise StoreError(f"{folder} is there already. Choose another folder, or remove it.")
