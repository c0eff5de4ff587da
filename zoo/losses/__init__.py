"""Losses, plain torch."""
