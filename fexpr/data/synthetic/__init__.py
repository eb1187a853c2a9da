"""Drawn releases for machines without data, one generator a release."""
