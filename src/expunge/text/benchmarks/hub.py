"""The benchmarks' files from the Hugging Face hub, where there is a network."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import MappingProxyType

from expunge.errors import BadData, did_you_mean

# Benchmark -> data set on the hub and the files that are needed; data alone, no scripts.
HUB = MappingProxyType(
    {
        "tofu": ("locuslab/TOFU", ("*.json", "*.jsonl")),
        "mmlu": ("cais/mmlu", ("all/test-*.parquet", "all/dev-*.parquet")),
    }
)


def from_hub(name: str, folder: str | Path) -> Path:
    """Download a benchmark's data files, and return their folder for `--data`.

    Args:
        name: "tofu" or "mmlu"; the other benchmarks are not on the hub as files.
        folder: where to put them, in a folder of the benchmark's name.

    Raises:
        BadData: a name that is not on the hub, no network, or huggingface_hub is not installed.
    """
    if name not in HUB:
        hint = did_you_mean(name, HUB)
        raise BadData(f"No benchmark {name!r} on the hub; there are {', '.join(HUB)}.{hint}")
    repository, patterns = HUB[name]
    said = f"Download the data set {repository} from https://huggingface.co by hand"
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise BadData(f"huggingface_hub is not installed: pip install 'expunge[lm]'. Or: {said}.") \
            from None  # fmt: skip
    target = Path(folder) / name
    try:
        hub.snapshot_download(
            repository, repo_type="dataset", allow_patterns=list(patterns), local_dir=target
        )
    # The hub's client raises its own errors, httpx's and the system's; all are subclasses of these.
    except (OSError, RuntimeError, ValueError) as error:
        raise BadData(f"The hub did not answer: {str(error)[:200]} {said}.") from None
    return target
