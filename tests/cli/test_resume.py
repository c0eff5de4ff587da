"""A run killed at any step and continued ends as the uninterrupted one."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("kill_and_resume.py")


def kill_and_resume(folder: Path, jobs: list[dict[str, int]]) -> list[dict[str, Any]]:
    command = [sys.executable, str(WORKER), str(folder), json.dumps(jobs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def check(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["killed"] == -9
        assert result["resumed"] == 0, result
        same = {key: result[key] for key in ("weights", "rows", "samples")}
        assert same == {"weights": True, "rows": True, "samples": True}, result["job"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_in_mid_epoch_and_after_an_epoch(tmp_path: Path) -> None:
    # 9 steps an epoch: a kill between two saves, and one with saves at epochs' ends only.
    jobs = [{"step": 15, "every": 4, "workers": 2}, {"step": 12, "every": 0, "workers": 0}]
    check(kill_and_resume(tmp_path, jobs))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_ten_random_steps(tmp_path: Path) -> None:
    draw = random.Random(20261122)
    jobs = [
        {"step": draw.randrange(10, 27), "every": draw.choice([0, 2, 3, 4, 5]), "workers": workers}
        for workers in (0, 2)
        for _ in range(5)
    ]
    results = kill_and_resume(tmp_path, jobs)
    assert len(results) == 10
    check(results)
