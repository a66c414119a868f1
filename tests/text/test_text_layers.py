"""The map of layers and audits: shares of the original's lead, by hand, and on the page."""

from __future__ import annotations

import pytest

from expunge.audits.text.states import LayerMap, layer_map, shares
from expunge.report.verdicts import drawn_map

ORIGINAL = {"layer 0": 0.5, "layer 1": 0.9, "layer 10": 0.9, "best layer": 1.0}
ORACLES = [
    {"layer 0": 0.5, "layer 1": 0.1, "layer 10": 0.2},
    {"layer 0": 0.3, "layer 1": 0.3, "layer 10": 0.2},
]


def test_a_share_is_what_is_left_of_the_lead_in_each_layer() -> None:
    mine = {"layer 0": 0.5, "layer 1": 0.55, "layer 10": 0.9, "layer 0, kept": 0.7, "nothing": 1.0}
    found = shares(mine, ORIGINAL, ORACLES)
    # layer 0: one retrained model reads as much as the original, so that there is no lead
    assert found == {
        "layer 0": None, "layer 1": pytest.approx((0.55 - 0.2) / 0.7), "layer 10": 1.0,
    }  # fmt: skip
    assert shares(ORACLES[0], ORIGINAL, ORACLES)["layer 1"] == pytest.approx(-0.1 / 0.7)
    assert shares(mine, ORIGINAL, []) == dict.fromkeys(found)
    assert shares({"layer 3": 1.0}, ORIGINAL, ORACLES) == {}


def test_layers_stand_in_their_order_and_members_are_averaged() -> None:
    read = {
        "Lens()": [{"layer 10": 1.0, "layer 2": None}, {"layer 10": 0.5, "layer 2": 0.2}],
        "Pruned()": [{}],
        "Patch()": [{"layer 2": None}],
    }
    found = layer_map(read)
    assert found == LayerMap(
        ("Lens()", "Patch()"), ("layer 2", "layer 10"), ((0.2, None), (0.75, None))
    )
    assert layer_map({}) == LayerMap((), (), ())


def test_a_place_without_a_number_has_no_ink() -> None:
    found = LayerMap(("Lens()",), ("layer 0", "layer 1"), ((None,), (1.4,)))
    drawn = drawn_map(found, {"Lens()": 0.25})
    told = [(layer, one.label, one.shade) for layer, (one,) in drawn["rows"]]
    assert told == [("layer 0", "-", 0.0), ("layer 1", "1.40", 1.0), ("the audit", "0.25", 0.25)]
