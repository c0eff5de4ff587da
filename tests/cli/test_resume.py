"""A run killed at any step and continued ends as the uninterrupted one."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("kill_and_resume.py")


def kill_and_resume(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    command = [sys.executable, str(WORKER), str(folder), json.dumps(jobs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def check(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["codes"] == [-9] * len(result["job"]["at"]) + [0], result
        assert all(result["same"].values()), result


def job(step: int, every: int, workers: int) -> dict[str, Any]:
    options = f"--data.num_workers {workers}"
    return {"kind": "inception", "place": "step", "at": [step], "every": every, "options": options}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_in_mid_epoch_and_after_an_epoch(tmp_path: Path) -> None:
    # 9 steps an epoch: a kill between two saves, and one with saves at epochs' ends only.
    check(kill_and_resume(tmp_path, [job(15, 4, 2), job(12, 0, 0)]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_ten_random_steps(tmp_path: Path) -> None:
    draw = random.Random(20261122)
    jobs = [
        job(draw.randrange(10, 27), draw.choice([0, 2, 3, 4, 5]), workers)
        for workers in (0, 2)
        for _ in range(5)
    ]
    results = kill_and_resume(tmp_path, jobs)
    assert len(results) == 10
    check(results)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", ["save", "validation", "test", "csv"])
def test_killed_twice_in_a_row_anywhere(tmp_path: Path, place: str) -> None:
    at = {"save": [2, 1], "validation": [3, 1], "test": [1, 2], "csv": [6, 2]}[place]
    check(kill_and_resume(tmp_path, [{"kind": "mlp", "place": place, "at": at, "every": 1}]))
