"""What everything speaks of: problems, methods, terms, selectors, seeds, receipts, the store."""

from __future__ import annotations
