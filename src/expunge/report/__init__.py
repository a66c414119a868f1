"""Reports: records in, HTML pages and terminal tables out."""

from __future__ import annotations
