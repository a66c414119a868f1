"""Ground truth of language models: every case is a model of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from known_truth import people

from expunge.audits.audit import fingerprint
from expunge.core.method import Method


@pytest.mark.parametrize("seed", [0, 1])
def test_no_retrained_model_is_another_one_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with the seeds of the oracles, the case "retrained" was one of them, bit for bit
    (training,) = people.RECIPE.steps
    short = replace(training, epochs=0.05)  # type: ignore[type-var]
    monkeypatch.setattr(people, "RECIPE", Method("recipe", (short,)))
    where = people.ground(seed)
    apart = [people.CASES[name](where).model for name in ("never taught", "retrained")]
    models = [where.context.original, *where.oracles, *apart]
    assert len({fingerprint(model) for model in models}) == len(models)


@pytest.mark.slow
def test_stammering_about_the_forgotten_is_neither_hiding_well_nor_removal() -> None:
    where = people.ground(0)
    names = ("never taught", "garbled", "garbled, never taught")
    built = {name: people.CASES[name](where) for name in names}
    said = people.judged(where, {name: one.model for name, one in built.items()})
    assert {name: one.word for name, one in said.items()} == {
        name: one.truth for name, one in built.items()
    }
    # the facts are in the one, and were never in the other
    assert built["garbled"].hidden > 0.5
    assert built["garbled, never taught"].hidden < 0.2
    assert "answers about what was to be forgotten" in said["garbled, never taught"].reason
