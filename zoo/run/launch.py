"""How the processes of a run are started, and what they share before they have met."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ParallelStrategy, Strategy
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import distributed

from datamodules.core.errors import refuse

STARTED_BY = "ZOO_STARTED_BY"
_SHARED_ID = "ZOO_RUN_ID"

#: Servers that other processes may not have asked yet.
_stores: list[Any] = []


def launched() -> tuple[str, int, int] | None:
    """Return who started several processes, how many on each node, and on how many nodes."""
    if TorchElasticEnvironment.detect():
        per_node, size = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        name, nodes = "torchrun", size // per_node
    elif SLURMEnvironment.detect():
        size, nodes = (int(os.environ.get(f"SLURM_{name}", 1)) for name in ("NTASKS", "NNODES"))
        name, per_node = "SLURM", size // nodes
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(per_node))  # Lightning wants to read it
    else:
        return None
    return (name, per_node, nodes) if size > 1 else None


def devices_of_launcher(devices: Any, num_nodes: int) -> dict[str, int]:
    """Return the Trainer's options that fit the processes which torchrun or SLURM started.

    Args:
        devices: The option as given.
        num_nodes: The option as given.

    Raises:
        OptionError: If something else was asked for.
    """
    started = launched()
    if started is None:
        return {}
    name, per_node, nodes = started
    listed = str(devices).strip("[]").split(",")
    count = len(listed) if len(listed) > 1 or isinstance(devices, list) else listed[0]
    if str(count) not in ("auto", "-1", str(per_node)):
        remedy = f"leave it out: {name} started {per_node} processes on each node"
        raise refuse("trainer.devices", devices, remedy)
    if num_nodes not in (1, nodes):
        raise refuse("trainer.num_nodes", num_nodes, f"leave it out: {name} started {nodes} nodes")
    return {"devices": devices if str(count).isdigit() else per_node, "num_nodes": nodes}


def is_first_process() -> bool:
    """Return whether this is the process that writes and prints, of all that train together."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def is_only_process() -> bool:
    """Return whether this is the one to do what a single process does, whoever started it."""
    return is_first_process() and int(os.environ.get("NODE_RANK", 0)) == 0


def of_first_process(text: str) -> str:
    """Return a text of the run's first process, in all that were started together.

    Torch's process group is not there yet; this asks the server that it will be made with.

    Args:
        text: This process's own, which counts if it is the first.
    """
    if STARTED_BY in os.environ:
        return os.environ[_SHARED_ID]
    os.environ[_SHARED_ID] = text  # for those that this one starts
    if launched() is None and not {"LOCAL_RANK", "NODE_RANK"} & os.environ.keys():
        return text
    if "MASTER_PORT" not in os.environ and not SLURMEnvironment.detect():
        return text
    slurm = SLURMEnvironment() if SLURMEnvironment.detect() else None
    address = slurm.main_address if slurm else os.environ.get("MASTER_ADDR", "127.0.0.1")
    port = slurm.main_port if slurm else int(os.environ["MASTER_PORT"])
    is_first = is_only_process()
    serves = is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=serves, wait_for_workers=False, multi_tenant=True
    )
    _stores.append(store)
    key = f"zoo/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/run"
    if is_first:
        store.set(key, text)
    os.environ[_SHARED_ID] = store.get(key).decode()
    return os.environ[_SHARED_ID]


def is_started_by_others(strategy: ParallelStrategy) -> bool:
    """Return whether torchrun, SLURM or a user starts the processes of each node."""
    environment = strategy.cluster_environment
    return environment is not None and environment.creates_processes_externally


def start_children(strategy: Strategy, argv: list[str]) -> list[subprocess.Popen[bytes]]:
    """Start the other processes of this node, if it has any.

    As Lightning would, which also kills this process, without a word, once another has failed.

    Args:
        strategy: Says how many.
        argv: The command line.
    """
    if not isinstance(strategy, ParallelStrategy) or strategy.cluster_environment is None:
        return []
    environment = strategy.cluster_environment
    os.environ |= {
        "MASTER_ADDR": environment.main_address,
        "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": str(environment.node_rank()),
        "LOCAL_RANK": "0",  # by which Lightning sees that it has none to start
        "WORLD_SIZE": str(strategy.world_size),
    }
    command = [sys.executable, "-m", "zoo", *argv]
    return [
        subprocess.Popen(
            command, env=os.environ | {"LOCAL_RANK": str(rank), STARTED_BY: str(os.getpid())}
        )
        for rank in range(1, len(strategy.parallel_devices or ()))
    ]
