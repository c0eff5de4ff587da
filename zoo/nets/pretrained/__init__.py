"""Nets with weights that others trained."""
