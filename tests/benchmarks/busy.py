"""What another program on one of the cores costs a training; run it as a script.

Fits recipes in turns, alone and beside a loop that never ends, and prints the ratio of the seconds
of ``fit``: with the threads that the zoo chooses, and with one to each core. Recipes are taken from
the command line, ``inception lstm unet`` by default.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 3
SHORT = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40"]


def loop() -> None:
    while True:
        pass


def seconds(recipe: str, environment: dict[str, str], *, busy: bool) -> float:
    """The seconds of a short fit, alone or beside the loop."""
    other = multiprocessing.Process(target=loop, daemon=True)
    if busy:
        other.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "zoo", "fit", "--config", recipe, "--wandb", "off"]
            command += [*SHORT, "--trainer.default_root_dir", folder]
            env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | environment
            subprocess.run(command, env=env, check=True, capture_output=True)
            (summary,) = Path(folder).rglob("summary.json")
            return float(json.loads(summary.read_text())["fit_seconds"])
    finally:
        if busy:
            other.kill()
            other.join()


def main() -> None:
    cores = {"OMP_NUM_THREADS": str(os.cpu_count())}
    for recipe in sys.argv[1:] or ["inception", "lstm", "unet"]:
        ratios: dict[str, list[float]] = {"the zoo's threads": [], "a thread to each core": []}
        for _ in range(ROUNDS):
            for name, environment in zip(ratios, ({}, cores), strict=True):
                alone = seconds(recipe, environment, busy=False)
                ratios[name].append(seconds(recipe, environment, busy=True) / alone)
        for name, values in ratios.items():
            spread = " ".join(f"{value:.2f}" for value in sorted(values))
            print(f"{recipe}, {name}: busy/alone {statistics.median(values):.2f} ({spread})")


if __name__ == "__main__":
    main()
