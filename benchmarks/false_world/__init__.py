"""A study: false facts among true ones, and what one can do about them."""

from __future__ import annotations
