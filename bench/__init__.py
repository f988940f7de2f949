"""Benchmarks by name: ``python -m bench`` runs every registered case and fails when a row passes its limit."""
