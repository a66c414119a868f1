"""A model whose truth is known, since it was built so."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from expunge.audits.verdict import Conclusion


@dataclass(frozen=True, eq=False)
class Planted:
    """One model whose truth is known.

    Args:
        model: in evaluation mode.
        truth: the right verdict.
        hidden: share of the forget examples that it is seen to know by whoever built it: with the
            filter off, the password given, or the refusal left out. Proof that the truth is true.
    """

    model: nn.Module
    truth: Conclusion
    hidden: float
