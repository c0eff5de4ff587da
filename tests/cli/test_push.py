"""``zoo push``, and ``zoo.load`` of what was pushed, over a stand-in of the hub."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
STAND_IN = """\
import sys
sys.path.insert(0, {folder!r})
from hub_stand_in import serving
with serving() as (address, repositories):
    print(address, flush=True)
    sys.stdin.read()
"""

BOTH_WAYS = """\
import sys
import zoo
from zoo.__main__ import main
_, best, image = sys.argv
assert main(["push", best, "me/tiny"]) == 0
for name in ("hf:me/tiny", best):
    print(repr(zoo.load(name, device="cpu")(image)))
"""


def test_a_checkpoint_goes_to_the_hub_and_predicts_from_there(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Over HF_ENDPOINT, which the hub's client reads at its start, hence in a new process."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    code = STAND_IN.format(folder=str(ROOT / "tests" / "run"))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True
    ) as server:
        assert server.stdout is not None
        environment = os.environ | {
            "HF_ENDPOINT": server.stdout.readline().strip(),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_standin",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("HF_HUB_OFFLINE", None)

        best = checkpoint.with_name("best.ckpt")
        command = [sys.executable, "-c", BOTH_WAYS, str(best), str(tmp_path / "x.png")]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        pushed, there, here = ended.stdout.splitlines()
        assert re.fullmatch("pushed as hf:me/tiny@[0-9a-f]{40}", pushed)
        assert there == here
        server.communicate("")
