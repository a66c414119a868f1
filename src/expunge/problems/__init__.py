"""Problems: named sets, loaders, networks, and the experiment files."""

from __future__ import annotations
