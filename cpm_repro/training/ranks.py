"""Several processes that train one network together.

Started by ``torchrun --nproc-per-node N -m cpm_repro train ...``: one process per GPU, or per core.
The batch of a configuration is the batch of all ranks together: each takes its share of the people, losses
are divided by the whole batch's N, and gradients are added over the ranks before the update (`parallel.py`),
so that N ranks make the updates that one process would have made. Everybody holds the same weights; rank 0
alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cpm_repro.device import usable_device
from cpm_repro.errors import EnvironmentFailure, UserError, first_line
from cpm_repro.memory import is_of_memory

Result = TypeVar("Result")

_BUCKET = 8_000_000
"""Values that one exchange of weights takes along: 32 MB, enough to hide what starting it costs."""

_PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others before it gives up."""

_ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
"""Where torchrun says how often it has started these ranks again."""


class Ranks:
    """The processes of one run; with ``count`` 1 all methods are trivial."""

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.count = rank, count
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """How many ranks this machine has, by torchrun's word; all of them where it is not given."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.count))

    def share(self, count: int) -> slice:
        """This rank's part of ``count`` things; parts differ by one at most."""
        return slice(round(count * self.rank / self.count), round(count * (self.rank + 1) / self.count))

    def gather(self, value: Result) -> list[Result]:
        """Every rank's ``value``, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        self.exchange(lambda: dist.all_gather_object(values, value))
        return values

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sum over ranks of every number, in float64."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        self.exchange(lambda: dist.all_reduce(total))
        return total.tolist()

    @torch.no_grad()
    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the values of rank 0; all of one type."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            self.exchange(lambda flat=flat: dist.broadcast(flat, 0))  # type: ignore[misc]
            for tensor, values in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(values.view(tensor.shape))

    def exchange(self, work: Callable[[], Result]) -> Result:
        """``work()``, which every rank does; one line if another one is gone (not over too little memory)."""
        try:
            return work()
        except RuntimeError as error:  # what torch raises when the other side is gone
            if is_of_memory(error):
                raise
            self.lost(error)

    def lost(self, error: RuntimeError) -> NoReturn:
        """End this rank over what torch raised because another one is gone."""
        self._leave(EnvironmentFailure(f"another rank is gone, see its own message ({first_line(error)})"))

    def together(self, work: Callable[[], Result]) -> Result:
        """``work()`` on every rank; a UserError on any of them ends all, with one line from rank 0.

        Raises:
            UserError: on rank 0: its own, or the lowest other rank's. SystemExit: on the others.
        """
        result, error = None, None
        try:
            result = work()
        except UserError as caught:
            error = caught
        said = self.gather(None if error is None else (str(error), error.exit_code))
        failed = [(rank, *entry) for rank, entry in enumerate(said) if entry is not None]
        if failed:
            rank, text, code = failed[0]
            kind = EnvironmentFailure if code == EnvironmentFailure.exit_code else UserError
            self.fail(kind(text if rank == 0 else f"rank {rank}: {text}"))
        return result  # type: ignore[return-value]

    def fail(self, error: UserError) -> NoReturn:
        """End all ranks over something that all of them know: rank 0 raises it, the others go silently."""
        if not self.first:
            with suppress(RuntimeError):  # rank 0 never comes: this ends when it is gone, its line printed
                dist.barrier()
        self._leave(error)

    def _leave(self, error: UserError) -> NoReturn:
        if self.first:
            raise error
        raise SystemExit(error.exit_code)

    def same(self, settings: Mapping[str, Any]) -> None:
        """Refuse ranks that were started with different ``settings``.

        Raises:
            UserError: on rank 0, naming the first difference. SystemExit: on the others.
        """
        everybody = self.gather(dict(settings))
        for rank, theirs in enumerate(everybody):
            for name, value in everybody[0].items():
                if theirs.get(name) != value:
                    self.fail(
                        UserError(
                            f"rank {rank} was started with {name} = {theirs.get(name)}, rank 0 with {value}: "
                            f"give all ranks the same settings"
                        )
                    )


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """``tensors`` in order, in groups of about :data:`_BUCKET` values."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel()
        if size >= _BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """The ranks that torchrun started, or this process alone. May be nested.

    Args:
        device: where to work; None takes a GPU when there is one. Ranks of one machine take a GPU each.

    Raises:
        UserError: no such device, one GPU named for several ranks, or fewer GPUs than ranks on this machine.
        EnvironmentFailure: the others could not be reached.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(device=usable_device(device))
        return
    if torch.cuda.is_available() and (device is None or device.startswith("cuda")):
        # before anything touches a GPU: every rank would open a context on the first
        torch.cuda.set_device(_own_gpu(int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()))
    own = usable_device(device)
    if device is not None and own.index is not None:
        raise UserError(f"device {device}: {count} ranks cannot share it: wanted cpu or cuda, a GPU for each")
    if own.type == "cuda":
        own = torch.device("cuda", torch.cuda.current_device())
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), count, own)
        return
    # Numbers and objects are exchanged on the CPU, gradients where they are.
    engine = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    try:
        store, rank, _ = next(dist.rendezvous("env://", timeout=_PATIENCE))
        # torchrun's store outlives the ranks: without names of their own, new ones meet dead ones' addresses
        store = dist.PrefixStore(f"attempt_{os.environ.get(_ATTEMPT, '0')}", store)
        dist.init_process_group(engine, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EnvironmentFailure(f"the ranks did not find one another: {error}") from error
    try:
        yield Ranks(dist.get_rank(), count, own)
    finally:
        dist.destroy_process_group()


def _own_gpu(rank: int, there: int) -> int:
    """The GPU of the machine's rank of that number; NCCL does not let two ranks share one."""
    if rank >= there:
        raise UserError(
            f"rank {rank} of this machine: wanted a GPU for each rank, got {there}: start at most {there} "
            f"(--nproc-per-node), or train on the CPU (--device cpu)"
        )
    return rank


def restarted() -> bool:
    """Whether torchrun started these ranks again after a failure (``--max-restarts``)."""
    return int(os.environ.get(_ATTEMPT, "0")) > 0
