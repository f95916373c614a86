"""Searches side by side, on services that none of them has seen."""
