"""`python -m expunge`, the same as the command `expunge`."""

from __future__ import annotations

from expunge.cli.main import main

main()
