"""What a result was measured on, and which versions made it, as plain JSON."""

from __future__ import annotations

import json
import os

import pytest

import expunge
from expunge.core.machine import cores, hardware
from expunge.experiments.experiment import load
from expunge.experiments.make import versions
from expunge.experiments.planning import plan_for


def test_the_machine_is_named_and_can_be_written() -> None:
    found = hardware()
    assert json.loads(json.dumps(found)) == found
    assert {"processor", "cores", "instructions", "system"} <= set(found)
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["processor"]


def test_the_versions_are_those_that_run() -> None:
    import numpy
    import torch

    found = versions(plan_for(load("digits")))
    assert found["expunge"] == expunge.__version__
    assert found["torch"] == torch.__version__
    assert found["numpy"] == numpy.__version__


def test_where_a_system_tells_no_share_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
