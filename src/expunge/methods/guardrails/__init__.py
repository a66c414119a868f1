"""Guardrails: hide what a language model knows when it is asked; nothing is removed.

A guard is put around a model whose every weight stays as it was. It is no unlearning, and its
receipt says so; it is here as a baseline that audits must catch.
"""

from __future__ import annotations

from expunge.methods.guardrails.guard import ULD, Guard, Guarded, suppress
from expunge.methods.guardrails.prompts import ECO, Instruction, KeywordFilter

__all__ = ["ECO", "ULD", "Guard", "Guarded", "Instruction", "KeywordFilter", "suppress"]
