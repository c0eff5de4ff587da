"""Seconds from a fresh process to the first prediction, beside `import torch` alone.

    python tests/benchmarks/load.py googlenet-digits digit.png runs/regression/RUN rows.csv

Names of weights (what `zoo.load` takes) and inputs in turn; without any, those that come with the
package and a black image. Processes are started one after the other, `import torch` between the
others, so that all see the same machine; medians are printed with their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

TORCH = "import torch"
LOAD = "import sys, zoo; zoo.load(sys.argv[1], device='cpu')({given})"
BLACK = "__import__('numpy').zeros((28, 28), 'uint8')"


def seconds(code: str, *arguments: str) -> float:
    """Return how long a process takes that runs some code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", metavar="NAME INPUT")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    names, inputs = options.pairs[::2], list(map(repr, options.pairs[1::2]))
    if not names:
        names, inputs = ["googlenet-digits", "resnet-fashion"], [BLACK, BLACK]
    seconds(TORCH)  # reads the files from the disk
    for name, given in zip(names, inputs, strict=True):
        code = LOAD.format(given=given)
        seconds(code, name)
        pairs = [(seconds(TORCH), seconds(code, name)) for _ in range(options.repeats)]
        torch, loaded = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for other, one in pairs)
        print(f"{name}: {loaded:.2f} s, import torch {torch:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
