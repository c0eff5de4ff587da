"""Optimisers and schedules, plain torch."""
