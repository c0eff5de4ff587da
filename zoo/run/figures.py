"""Figures as they are written for people."""


def digits(value: float) -> str:
    """Return a figure with four decimals, or where it is very small or large with four digits.

    >>> [digits(value) for value in (0.98461, 0.0, 3.14159e-12, 2.5e9)]
    ['0.9846', '0.0000', '3.142e-12', '2.500e+09']
    """
    return f"{value:.3e}" if 0 < abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4f}"
