"""Processes for the tests of training: started from a server that has imported everything already."""

import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

from cpm_repro.cli import main


def run_cpm(arguments: list[str], log: str, threads: int, environment: dict[str, str]) -> None:
    """What a started process does: the command, with everything it prints in the file ``log``."""
    import torch

    os.environ.update(environment)
    torch.set_num_threads(threads)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(main(arguments))


class Processes:
    """Starts ``cpm`` in processes of their own; :meth:`close` ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["cpm_repro.training", "cpm_repro.viz", __name__])
        self.started: list[multiprocessing.Process] = []

    def start(self, arguments: list[str], log: str = "log.txt", threads: int = 2, **environment: str):
        """One process of ``cpm ARGUMENTS``."""
        given = (arguments, str(self.folder / log), threads, environment)
        process = self.context.Process(target=run_cpm, args=given)
        process.start()
        self.started.append(process)
        return process

    def ranks(self, *arguments: list[str]):
        """One rank per list of arguments, as torchrun would start them; rank r logs to ``rank<r>.txt``."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [
            self.start(given, f"rank{rank}.txt", 1, RANK=str(rank), LOCAL_RANK=str(rank), **common)
            for rank, given in enumerate(arguments)
        ]

    def close(self) -> None:
        """Nothing outlives its test."""
        for process in self.started:
            if process.is_alive():
                process.kill()
            process.join()


def finish(process, seconds: float = 200) -> int:
    """Wait for the end; the exit code."""
    process.join(seconds)
    assert process.exitcode is not None, "the process did not end"
    return process.exitcode


def wait_for(condition, process, seconds: float = 100) -> None:
    """Until ``condition()`` holds while ``process`` works."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)
