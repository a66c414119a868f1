"""What a run will cost is said before it is run, and nothing is trained to its end for it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from house_tools import ONE, plan
from rich.console import Console

from expunge.core.store import Store
from expunge.engine.stacking import Timing
from expunge.experiments.progress import cost_lines, print_cost, seconds_per_example

# 60 pictures of which 5 are forgotten, two epochs of retraining: 110 examples.
FULL, MEMBERS = 110, 4
TIMING = Timing(looped=0.16, vmapped=0.016)


def test_the_lines_count_models_and_examples() -> None:
    made = plan(methods=ONE, members=MEMBERS, shadows=2)
    lines = {line.what: line for line in cost_lines(made, TIMING)}
    assert [*lines] == ["originals", "oracles", "shadows", "retrain", "finetune"]
    assert (lines["originals"].models, lines["oracles"].models) == (1, MEMBERS)
    assert lines["oracles"].examples == lines["retrain"].examples == FULL
    assert (lines["shadows"].models, lines["shadows"].examples) == (2, FULL / 2)
    assert lines["finetune"].examples == pytest.approx(FULL / 2)  # one epoch of two


def test_seconds_follow_the_faster_way_and_the_batch() -> None:
    made = plan(methods=ONE)
    assert seconds_per_example(made, TIMING) == pytest.approx(0.001)  # 0.016 s for 16 examples
    assert seconds_per_example(made, Timing(0.16, None, "no")) == pytest.approx(0.01)
    line = next(line for line in cost_lines(made, TIMING) if line.what == "oracles")
    assert line.seconds == pytest.approx(FULL * 0.001)


def test_each_original_of_a_paired_experiment_is_counted() -> None:
    lines = cost_lines(plan(methods=ONE, members=MEMBERS, protocol="paired"), TIMING)
    assert next(lines).models == MEMBERS


def test_a_method_that_names_what_is_not_there_is_told() -> None:
    made = plan(methods={"closed": "Train(CE('test'))", **ONE})
    line = next(line for line in cost_lines(made, TIMING) if line.what == "closed")
    assert "for measuring only" in line.why
    assert line.models == 0


def test_the_table_is_printed_and_no_model_is_made(tmp_path: Path) -> None:
    made, store, text = plan(methods=ONE), Store(tmp_path / "s"), io.StringIO()
    print_cost(made, store, 2, Console(file=text, width=160))
    assert "The models take about 1 s with 2 at once" in text.getvalue()
    kinds = {place.name for place in store.root.iterdir()}
    assert not kinds & {"original", "oracle", "unlearned"}
