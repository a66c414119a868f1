"""The controls of every experiment. The third, `retrain`, is the problem's own recipe on retain."""

from __future__ import annotations

from expunge.method import Method
from expunge.parts import Last
from expunge.steps import Train
from expunge.terms import CE, Relabel

nothing = Method("nothing", (), "control: the untouched original, which must fail")

sham = Method(
    "sham",
    (Train(0.2 * Relabel("forget") + CE("retain"), epochs=1, lr=0.01, where=Last(1)),),
    "control: hides the answer in the last layer, forgets nothing beneath it, and must be caught",
)

CONTROLS = (nothing, sham)
