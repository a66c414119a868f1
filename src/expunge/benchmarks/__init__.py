"""Experiments by name: a problem, members, methods and metrics, as TOML files."""
