"""Published methods, one sentence and one source each."""

from __future__ import annotations

from expunge.method import Method
from expunge.methods.article import ARTICLE
from expunge.methods.controls import CONTROLS, nothing, sham

PUBLISHED: dict[str, Method] = {method.name: method for method in (*CONTROLS, *ARTICLE)}

__all__ = ["ARTICLE", "CONTROLS", "PUBLISHED", "nothing", "sham"]
