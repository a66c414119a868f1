"""Methods: losses, selectors, steps, and the published sentences made of them."""

from __future__ import annotations
