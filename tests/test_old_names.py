"""Import paths of the first edition work for one release, and name the new ones."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = json.loads((ROOT / "src" / "expunge" / "old_names.json").read_text("utf-8"))
# Names that the documentation or a person's own script is likely to hold.
LIKELY = {
    "expunge.terms": ("CE", "KL", "Term", "Relabel", "NPO"),
    "expunge.terms.term": ("Term", "Sum", "leaves"),
    "expunge.parts": ("Everything", "Last", "Salient", "Selector"),
    "expunge.steps": ("Train", "Repeat", "Reset", "Noise", "unrolled"),
    "expunge.batch": ("Tensors", "Subset", "all_targets"),
    "expunge.problem": ("Problem",),
    "expunge.unlearn": ("unlearn", "Receipt", "Run", "frozen"),
    "expunge.grammar": ("parse", "as_method"),
    "expunge.words": ("word", "in_full"),
    "expunge.view": ("View",),
    "expunge.data": ("digits", "WholeClass", "RandomShare"),
    "expunge.models": ("resnet18", "digits_net"),
    "expunge.text": ("load", "of_pairs", "likelihoods"),
    "expunge.text.metrics": ("Answers", "per_example"),
    "expunge.audits": ("STANDARD", "Relearn", "Quantise"),
    "expunge.audits.audit": ("Scene", "Audit"),
    "expunge.audits.verdict": ("conclude", "Judgement"),
    "expunge.metrics.lira": ("u_lira",),
    "expunge.experiments.comparison": ("compare", "Comparison"),
    "expunge.experiments.store": ("Store", "Job"),
    "expunge.exact": ("Sisa", "CertifiedHead"),
    "expunge.suppression": ("ECO", "suppress"),
    "expunge.methods": ("PUBLISHED", "NAMED"),
    "expunge.audits.truth.classifiers": ("ground",),
}


@pytest.mark.parametrize(("module", "names"), LIKELY.items(), ids=LIKELY)
def test_an_old_path_gives_what_it_gave_and_names_the_new_one(
    module: str, names: tuple[str, ...]
) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = importlib.import_module(module)
        found = [getattr(there, name) for name in names]
    assert all(thing is not None for thing in found)
    moved = [name for name in names if name not in vars(there)]
    texts = [str(one.message) for one in said if one.category is DeprecationWarning]
    for name in moved:
        assert any(f"{module}.{name} is now " in text for text in texts), name


def test_every_module_of_the_table_loads_and_every_place_is_there() -> None:
    script = (
        "import importlib, json, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import expunge\n"
        "from expunge.old_names import _loaded\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "for place in json.loads(sys.argv[2]): assert _loaded(place) is not None, place\n"
    )
    places = sorted({place for found in TABLE["modules"].values() for place in found})
    arguments = [json.dumps(sorted(TABLE["modules"])), json.dumps(places)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_module_inside_an_old_package_is_found_as_a_name_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from expunge.text import models

        assert callable(models.load)


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    old = importlib.import_module("expunge.terms")
    with pytest.raises(AttributeError, match="no attribute 'CrossEntropyy'"):
        _ = old.CrossEntropyy
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("expunge.nothing_of_that_name")


def test_the_package_itself_uses_no_old_path() -> None:
    script = (
        "import importlib, json, sys, warnings\n"
        "warnings.simplefilter('error', DeprecationWarning)\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
    )
    source = ROOT / "src"
    files = [file for file in (source / "expunge").rglob("*.py") if file.stem != "__main__"]
    names = [".".join(file.relative_to(source).with_suffix("").parts) for file in files]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(names)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
