"""What W&B costs a training, in steps a second; run it as a script.

The same run with W&B off, kept offline, sent to a server that answers, and sent to one that takes
the run and then hangs: in turns, each in a process of its own. A step is about 10 ms on one core,
each fifth is logged. The steps a second are those between the first row of the log and the last,
hence without starting and ending; the ratios are of runs that followed each other.
"""

import csv
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROUNDS, EPOCHS, WIDTH = 5, 40, 512
WAYS = ("off", "offline", "online", "hanging")
COMMAND = [
    *(sys.executable, "-m", "zoo", "fit", "resnet", "--model.net=MLP"),
    *(f"--model.net.widths=[{WIDTH},{WIDTH},{WIDTH}]", "--data.batch_size=128"),
    *(f"--trainer.max_epochs={EPOCHS}", "--trainer.log_every_n_steps=5"),
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.limit_val_batches=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.check_val_every_n_epoch=10"),
]


def stand_in() -> Any:
    """The stand-in of W&B's server."""
    path = Path(__file__).parents[1] / "run" / "wandb_stand_in.py"
    spec = importlib.util.spec_from_file_location("wandb_stand_in", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wandb_stand_in"] = module
    spec.loader.exec_module(module)
    return module


def hang(server: Any) -> None:
    """Have a server hang once it has taken the run."""
    while not server.runs:
        time.sleep(0.05)
    server.silent = True


def rate(way: str, servers: Any) -> float:
    """Steps a second of one run."""
    server = servers.Server()
    own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "ZOO_"))}
    own |= server.environment() | {"OMP_NUM_THREADS": "1", "WANDB_FINISH_TIMEOUT": "2"}
    if way == "hanging":
        threading.Thread(target=hang, args=(server,), daemon=True).start()
    mode = way if way in ("off", "offline") else "online"
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, f"--wandb={mode}"]
        own["HOME"] = folder
        subprocess.run(command, cwd=folder, env=own, check=True, capture_output=True)
        (path,) = Path(folder).glob("runs/resnet/*/metrics.csv")
        with path.open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    server.silent = False
    server.close()
    steps = int(rows[-1]["step"]) - int(rows[0]["step"])
    return steps / (float(rows[-1]["time/elapsed_s"]) - float(rows[0]["time/elapsed_s"]))


def main() -> None:
    """Run it all and print it."""
    servers = stand_in()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(ROUNDS):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            rates[way].append(rate(way, servers))
    for way in WAYS:
        shares = [a / b for a, b in zip(rates[way], rates["off"], strict=True)]
        middle = statistics.median(rates[way])
        print(
            f"{way:8} {middle:6.1f} steps/s, {1000 / middle:5.1f} ms a step; of `off` "
            f"{statistics.median(shares):.3f} [{min(shares):.3f}, {max(shares):.3f}]"
        )


if __name__ == "__main__":
    main()
