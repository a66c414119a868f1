"""The auditor audited: on real retrained models the attacks stay silent, on the controls not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import binom

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"
REPETITIONS = 200


def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("false_alarms", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_on_digits_retrained_models_raise_no_more_than_five_per_cent_and_controls_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 against 64 of 256 retrained models, in 200 repetitions; two minutes to train."""
    bench = script(monkeypatch)
    made = bench.world(tmp_path / "store", 256)
    alarms = sum(
        bool(bench.attacks_found(tried)) for tried in bench.null(made.oracles, REPETITIONS)
    )
    assert alarms <= binom.ppf(0.99, REPETITIONS, 0.05)
    for group in (made.original, made.sham):
        word, attacks = bench.against(group, made.oracles)
        assert word == "found"
        assert {"U-LiRA", "RULI", "KLoM"} <= set(attacks)
