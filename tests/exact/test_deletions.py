"""The forecast against enumeration of every choice of rows."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import BadData, BadSentence
from expunge.methods.exact.deletions import Layout, deletion_share, forecast_deletions

SMALL = [(9, 2, 1), (9, 2, 2), (8, 1, 3), (10, 3, 1), (12, 2, 2), (7, 3, 1)]


def by_hand(layout: Layout, rows: tuple[int, ...], gone: tuple[int, ...] = ()) -> float:
    """Examples times share of epochs, stage by stage, with nothing but sets."""
    work = 0.0
    for shard in layout.parts:
        seen: set[int] = set()
        for part in shard:
            seen |= set(part.tolist()) - set(gone)
            left = seen - set(rows)
            if left != seen and len(left) >= 2:
                work += len(left) * 2 / (layout.slices + 1)
    return work


@pytest.mark.parametrize(("n", "shards", "slices"), SMALL)
@pytest.mark.parametrize("requests", [1, 2, 4, 6])
def test_expected_and_worst_are_those_of_all_choices(
    n: int, shards: int, slices: int, requests: int
) -> None:
    layout = Layout(n, shards, slices)
    works = [by_hand(layout, rows) for rows in itertools.combinations(range(n), requests)]
    cost = forecast_deletions(layout, requests)
    left = n - requests
    assert cost.expected == pytest.approx(sum(works) / len(works) / left)
    assert cost.worst >= max(works) / left - 1e-12
    if requests <= shards and layout.sizes().min() > 2:  # no stage is left with one row
        assert cost.worst == pytest.approx(max(works) / left)
    assert cost.checkpoints == shards * slices


@pytest.mark.parametrize(("n", "shards", "slices"), [(6, 1, 2), (7, 2, 1), (6, 3, 1)])
@pytest.mark.parametrize("requests", [1, 2, 3])
def test_one_at_a_time_is_the_mean_over_all_orders(
    n: int, shards: int, slices: int, requests: int
) -> None:
    layout = Layout(n, shards, slices)
    orders = list(itertools.permutations(range(n), requests))
    total = sum(
        by_hand(layout, (row,), order[:turn]) for order in orders for turn, row in enumerate(order)
    )
    cost = forecast_deletions(layout, requests)
    assert cost.one_at_a_time == pytest.approx(total / len(orders) / (n - requests))
    whole = sum(n - turn for turn in range(1, requests + 1))
    assert cost.retraining_one_at_a_time == whole / (n - requests)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_work_of_given_rows(data: st.DataObject) -> None:
    shards, slices = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    n = data.draw(st.integers(2 * shards * slices, 40))
    if n < 5:
        n = 5
    layout = Layout(n, shards, slices, seed=data.draw(st.integers(0, 5)))
    picked = data.draw(st.sets(st.integers(0, n - 1), min_size=2, max_size=n - 1))
    gone, rows = tuple(sorted(picked)[::2]), tuple(sorted(picked)[1::2])
    cost = deletion_share(layout, rows, torch.tensor(gone))
    assert cost == pytest.approx(by_hand(layout, rows, gone) / (n - len(picked)))
    largest = forecast_deletions(layout, len(rows)).worst * (n - len(rows))
    assert by_hand(layout, rows) <= largest + 1e-9


@pytest.mark.parametrize(
    ("shards", "requests", "share"),
    [(20, 1, 0.05), (20, 20, 0.64), (20, 50, 0.92), (50, 1, 0.02), (50, 20, 0.33), (50, 50, 0.64)],
)
def test_a_batch_destroys_the_gain(shards: int, requests: int, share: float) -> None:
    """Golden: 1 - (1 - 1 / S)^K, which the mean tends to in a large training set."""
    cost = forecast_deletions(Layout(1_000_000, shards), requests).expected
    assert cost == pytest.approx(1 - (1 - 1 / shards) ** requests, abs=1e-3)
    assert round(cost, 2) == share


def test_slices_save_a_third_at_most() -> None:
    one, many = (forecast_deletions(Layout(100_000, 5, slices), 1).expected for slices in (1, 100))
    assert one == pytest.approx(1 / 5, abs=1e-4)
    assert many == pytest.approx(2 / 3 / 5, rel=0.01)


def test_one_shard_in_one_slice_is_retraining() -> None:
    cost = forecast_deletions(Layout(100, 1, 1), 10)
    assert cost.expected == cost.worst == 1
    assert cost.one_at_a_time == pytest.approx(cost.retraining_one_at_a_time)


def test_the_layout_is_a_partition_and_even() -> None:
    layout = Layout(103, 4, 3, seed=2)
    rows = torch.cat([part for shard in layout.parts for part in shard])
    assert sorted(rows.tolist()) == list(range(103))
    sizes = layout.sizes()
    assert sizes.sum() == 103
    assert sizes.max() - sizes.min() <= 1
    for shard, slices in enumerate(layout.parts):
        assert (layout.shard_of[torch.cat(slices)] == shard).all()
    assert not torch.equal(layout.shard_of, Layout(103, 4, 3, seed=3).shard_of)
    assert torch.equal(layout.shard_of, Layout(103, 4, 3, seed=2).shard_of)


def test_sizes_without_what_is_gone() -> None:
    layout = Layout(20, 2, 2)
    gone = layout.parts[1][0][:3]
    assert (layout.sizes() - layout.sizes(gone)).tolist() == [[0, 0], [3, 0]]


@pytest.mark.parametrize("changes", [{"shards": 0}, {"slices": 0}, {"shards": -1}, {"shards": 2.0}])
def test_a_layout_of_nothing_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(BadSentence, match="whole number of 1 or more"):
        Layout(**{"n": 10, "shards": 2, **changes})


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(BadData, match=r"need 2 examples a slice, 20 in all.* has 19"):
        Layout(19, 5, 2)


@pytest.mark.parametrize("requests", [0, -1, 10, 11])
def test_requests_out_of_range(requests: int) -> None:
    with pytest.raises(BadData, match="needs 1 to 9 requests"):
        forecast_deletions(Layout(10, 2), requests)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "is empty"), ([10], "names row 10"), ([1, 1], "more than once"), ([3], "before")],
)
def test_rows_that_cannot_be_deleted(rows: list[int], message: str) -> None:
    with pytest.raises(BadData, match=message):
        deletion_share(Layout(10, 2), rows, torch.tensor([3]))
