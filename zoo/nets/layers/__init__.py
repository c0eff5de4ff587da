"""The parts that nets share."""
