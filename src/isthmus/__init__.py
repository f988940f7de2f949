"""Isthmus: concept bottleneck models, as rows of one table."""
