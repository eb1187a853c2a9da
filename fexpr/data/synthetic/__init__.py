"""Drawn releases for machines without data, one generator per release."""
