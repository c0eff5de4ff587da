"""Figures and what pictures are drawn from."""
