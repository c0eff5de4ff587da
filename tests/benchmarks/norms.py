"""What each norm costs in a training step of ResNet-20; run it as a script.

Forward pass, backward pass and SGD step at batch 128 of 32x32 images on the CPU, in the memory
format that the zoo trains in there (channels last). The norms take turns within each round, and
each one's time is divided by batch norm's of the same round, so that what else the machine does
falls on all alike; printed are the median ratio and the middle half.

    python tests/benchmarks/norms.py [threads] [rounds]
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import get_args

import torch
import torch.nn.functional as F

from zoo import nets
from zoo.nets.layers.norms import NormName

BATCH, SIZE, STEPS, WARM_UP = 128, 32, 2, 1


def new_step(norm: NormName) -> Callable[[], None]:
    """One training step of a net of its own; without a norm, in the form that trains."""
    torch.manual_seed(0)
    net = nets.ResNet(norm=norm, conv="scaled_ws" if norm == "none" else "plain")
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))

    def step() -> None:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def main(threads: int = 1, rounds: int = 15) -> None:
    torch.set_num_threads(threads)
    steps = {norm: new_step(norm) for norm in get_args(NormName)}
    times: dict[str, list[float]] = {norm: [] for norm in steps}
    for number in range(WARM_UP + rounds):
        for norm, step in steps.items():
            taken = seconds(step)
            if number >= WARM_UP:
                times[norm].append(taken)

    print(f"ResNet-20, batch {BATCH}, {SIZE}x{SIZE}, {threads} threads, torch {torch.__version__}")
    print(f"{rounds} rounds of {STEPS} steps in turns; none: with conv=scaled_ws\n")
    print("| norm | ms/step | ratio to batch | middle half |")
    print("|---|---|---|---|")
    for norm, own in times.items():
        ratios = [a / b for a, b in zip(own, times["batch"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        milliseconds = 1e3 * statistics.median(own)
        print(f"| {norm} | {milliseconds:.0f} | {middle:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
