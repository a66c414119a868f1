"""Pure functions of evidence: NumPy and SciPy only, no torch."""
