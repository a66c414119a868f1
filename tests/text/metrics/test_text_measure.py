from __future__ import annotations

import re
import types
from pathlib import Path

import numpy as np
import pytest
from text_records import answers, drawn

from expunge.core.evidence import Answers, Ragged
from expunge.errors import BadEvidence
from expunge.metrics.text.likelihood import probability
from expunge.metrics.text.measure import ExampleMetric, anchored, mean_score, per_example
from expunge.metrics.text.quality import EXAMPLE_METRICS

RNG = np.random.default_rng


def test_a_new_metric_is_one_function() -> None:
    @per_example(unit="tokens", aim="oracle", needs=("logprobs",))
    def answer_length(said: Answers) -> np.ndarray:
        """Number of tokens of the true answer."""
        return said.tokens("logprobs").lengths.astype(float)

    said = answers(4, logprobs=Ragged.of([[-1.0], [-1.0] * 3, [-1.0] * 2, [-1.0] * 2]))
    assert isinstance(answer_length, ExampleMetric)
    assert answer_length.name == "answer length"
    assert answer_length(said).tolist() == [1, 3, 2, 2]
    assert answer_length.score(said, RNG(0)).value == 2.0


@pytest.mark.parametrize("metric", EXAMPLE_METRICS, ids=lambda metric: metric.name)
def test_every_metric_says_what_it_is_and_keeps_its_bounds(metric: ExampleMetric) -> None:
    said = drawn(25, 1)
    found = metric(said)
    assert found.shape == (25,)
    assert found.dtype == np.float64
    assert ((metric.bounds[0] <= found) & (found <= metric.bounds[1])).all()
    score = metric.score(said, RNG(0))
    assert metric.bounds[0] <= score.low <= score.value <= score.high <= metric.bounds[1]
    assert metric.unit
    assert metric.aim in ("oracle", "high", "low")
    assert metric.__doc__
    for name in metric.needs:
        with pytest.raises(BadEvidence, match="needs"):
            metric(Answers(said.index))
        assert getattr(said, name) is not None


@pytest.mark.parametrize("metric", EXAMPLE_METRICS, ids=lambda metric: metric.name)
def test_an_example_scores_the_same_in_any_company(metric: ExampleMetric) -> None:
    said = drawn(12, 4)
    alone = np.concatenate([metric(said.at([one])) for one in range(12)])
    order = RNG(1).permutation(12)
    assert metric(said) == pytest.approx(alone, rel=1e-12)
    assert metric(said.at(order)) == pytest.approx(alone[order], rel=1e-12)


def test_the_interval_of_one_model_is_that_of_student_s_t() -> None:
    values = RNG(0).normal(0.5, 0.1, 50)
    found = mean_score(values[None], RNG(1), unit="x", bounds=(0, 1))
    half = 2.0096 * values.std(ddof=1) / np.sqrt(50)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.1)


def test_questions_of_one_author_are_drawn_together() -> None:
    # 20 authors who differ, 10 questions each that do not: 20 things were seen, not 200.
    authors = np.repeat(np.arange(20), 10)
    values = RNG(0).normal(0, 1, 20)[authors]
    plain = mean_score(values[None], RNG(1), unit="x", bounds=(-9, 9))
    grouped = mean_score(values[None], RNG(1), unit="x", bounds=(-9, 9), groups=authors)
    assert grouped.value == pytest.approx(plain.value)
    assert (grouped.high - grouped.low) / (plain.high - plain.low) == pytest.approx(3.3, rel=0.15)
    with pytest.raises(BadEvidence, match="groups of one size"):
        mean_score(values[None, :199], RNG(1), unit="x", bounds=(-9, 9), groups=authors[:199])


def test_with_three_models_the_interval_is_over_trainings_too() -> None:
    one = drawn(60, 1)
    others = [drawn(60, seed, shift=shift) for seed, shift in ((1, 0.0), (1, 1.0), (1, 2.0))]
    alone, several = probability.score(one, RNG(0)), probability.score(others, RNG(0))
    assert several.n == 3
    assert several.high - several.low > alone.high - alone.low


def test_every_number_stands_between_its_anchors() -> None:
    subject, oracle, original = (drawn(80, 1, shift=shift) for shift in (1.0, 0.0, 2.0))
    found = anchored(probability, subject, oracle, RNG(0), original=original)
    assert found.original is not None
    assert found.oracle.value < found.subject.value < found.original.value
    gap = found.subject.value - found.oracle.value
    assert found.gap.value == pytest.approx(gap)
    assert found.remaining == pytest.approx(gap / (found.original.value - found.oracle.value))
    # The same tokens in both models: pairs leave far less noise than two separate means.
    assert found.gap.high - found.gap.low < found.subject.high - found.subject.low


def test_the_oracle_has_nothing_remaining_and_the_original_everything() -> None:
    oracle, original = drawn(40, 1), drawn(40, 1, shift=1.5)
    assert anchored(probability, oracle, oracle, RNG(0), original=original).remaining == 0.0
    whole = anchored(probability, original, oracle, RNG(0), original=original).remaining
    assert whole == pytest.approx(1.0)
    assert anchored(probability, oracle, oracle, RNG(0), original=oracle).remaining is None
    assert anchored(probability, oracle, oracle, RNG(0)).remaining is None


def test_the_order_of_the_oracle_s_examples_does_not_matter() -> None:
    subject, oracle = drawn(30, 1), drawn(30, 2)
    turned = oracle.at(RNG(0).permutation(30))
    assert anchored(probability, subject, oracle, RNG(0)) == anchored(
        probability, subject, turned, RNG(0)
    )


def test_without_an_oracle_there_is_no_number() -> None:
    for missing in (None, []):
        with pytest.raises(BadEvidence, match="Retrain one and record its answers"):
            anchored(probability, drawn(5, 1), missing, RNG(0))
    with pytest.raises(BadEvidence, match="no models"):
        probability.score([], RNG(0))


def test_two_examples_say_too_little() -> None:
    with pytest.raises(BadEvidence, match="at least 3"):
        probability.score(drawn(2, 1), RNG(0))


def test_the_documented_example_of_a_new_metric_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "text-metrics.md").read_text("utf-8")
    block = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    module = types.ModuleType("page")
    exec(compile(block, "page", "exec"), vars(module))
    found = module.worst_token(answers(2, logprobs=Ragged.of([[-1.0, -4.0], [-2.0]])))
    assert found.tolist() == [-4.0, -2.0]


def test_every_metric_is_on_its_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "text-metrics.md").read_text("utf-8")
    missing = [
        name for name in (one.values.__name__ for one in EXAMPLE_METRICS) if name not in page
    ]
    assert missing == []
