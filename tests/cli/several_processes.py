"""Runs one command in several processes, and has signals sent to them at given batches.

Run by ``test_processes.py`` in a process of its own: it forks before torch has computed anything,
so that a process costs no new import of torch. Prints one JSON line for each job, a mapping of:

- ``folder``: where to run, with a recipe in it;
- ``command``: the command line;
- ``processes``: how many, started as torchrun starts them; 1 is started as by hand;
- ``batch``: at this batch of training, the process ``by`` waits until the first process has come
  there too, and sends ``signals``, a list of (signal, process, seconds to wait before).
- ``hang``: this process sleeps for ever at that batch, instead; ``spin``: it computes for ever.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only as of_lightning
from lightning_utilities.core.rank_zero import rank_zero_only
from matplotlib.figure import Figure
from PIL import Image

import zoo.cli.verbs  # noqa: F401  imported before the fork, so that no child has to
from zoo.__main__ import main
from zoo.tasks import ImageClassifier


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    if size == 1:
        return {}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    torchrun = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in (ranks | torchrun).items()}


def act_at_batch(job: dict[str, Any], rank: int) -> None:
    original = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.fit_loop.epoch_loop.total_batch_idx == job["batch"]:
            if rank == job.get("hang"):
                time.sleep(10**6)
            while rank == job.get("spin"):
                pass
            if rank == job.get("by", 0):
                for signum, target, seconds in job.get("signals", ()):
                    time.sleep(seconds)
                    os.kill(int(Path(f"pid{target}").read_text()), signum)
        result: torch.Tensor = original(self, batch, batch_idx)
        return result

    ImageClassifier.training_step = training_step  # type: ignore[method-assign]


def start(job: dict[str, Any], rank: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    os.chdir(job["folder"])
    Path(f"pid{rank}").write_text(str(os.getpid()))
    with Path(f"log{rank}.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["zoo", *job["command"]]
    size = job["processes"]
    os.environ |= environment(rank, size, port) | job.get("environment", {})
    rank_zero_only.rank = of_lightning.rank = rank  # which is read when Lightning is imported
    torch.set_num_threads(1)
    Figure.savefig = lambda self, path, **_: Image.new("L", (1, 1)).save(path)  # type: ignore[method-assign]
    act_at_batch(job, rank)
    code = 1
    try:
        code = main(job["command"])
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        os._exit(code)


def main_test(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        port, size = free_port(), job["processes"]
        children = {start(job, rank, port): rank for rank in range(size)}
        codes: dict[int, int] = {}
        ends: dict[int, float] = {}
        started = time.monotonic()
        while len(codes) < size and time.monotonic() - started < job.get("cap", 200):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in children:
                codes[children[pid]] = os.waitstatus_to_exitcode(status)
                ends[children[pid]] = time.monotonic() - started
            else:
                time.sleep(0.05)
        for pid, rank in children.items():
            if rank not in codes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        logs = [(Path(job["folder"]) / f"log{rank}.txt").read_text() for rank in range(size)]
        result = {"codes": [codes.get(rank) for rank in range(size)], "logs": logs}
        result["seconds"] = [round(ends.get(rank, -1), 1) for rank in range(size)]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main_test(json.loads(sys.argv[1]))
