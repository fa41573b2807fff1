"""Shards of a checkpoint: nodes that share no folder each upload the files that their own processes wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tunesmith_api.contract import WORK_URI
from tunesmith_api.resolve import Resolved
from tunesmith_trainer.train.distributed.peers import peer_lost


@dataclass(frozen=True)
class CheckpointShard:
    """The shard of each checkpoint that is on this node, and whether this process seals it.

    Attributes:
        index: Index of the shard.
        count: Number of shards; 1 if all nodes share a folder.
        is_writer: Whether this process seals the shard after every rank has written.
    """

    index: int
    count: int
    is_writer: bool


def shard_of_this_process() -> CheckpointShard:
    """Return this process's shard, from torchrun's variables."""
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    if nodes == 1 or not os.environ.get(WORK_URI):
        return CheckpointShard(0, 1, is_writer=os.environ.get("RANK", "0") == "0")
    return CheckpointShard(int(os.environ["GROUP_RANK"]), nodes, is_writer=os.environ["LOCAL_RANK"] == "0")


def agree_on_checkpoint(shard: CheckpointShard, checkpoint: str | None) -> str | None:
    """Return the name of the checkpoint that all processes resume from. A collective operation: all ranks call it.

    Args:
        shard: This process's shard.
        checkpoint: The checkpoint that the writer of a shard found; None if there is none.

    Raises:
        StageError: PEER_LOST: nodes downloaded different checkpoints, as one was uploaded in between.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return checkpoint
    import torch

    answers: list[tuple[bool, str | None]] = [(False, None)] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(answers, (shard.is_writer, checkpoint))
    found = {name for counts, name in answers if counts}
    if len(found) > 1:
        raise peer_lost(f"they would go on from different checkpoints ({', '.join(sorted(map(str, found)))})")
    return found.pop()


def agree_on_batch(resolved: Resolved) -> None:
    """Fail if the processes would not train with the same batches. A collective operation: all ranks call it.

    Raises:
        StageError: PEER_LOST: a node had read the work folder before another recorded that it ran out of memory.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    import torch

    mine = (resolved.micro_batch_size, resolved.gradient_checkpointing)
    found: list[tuple[int, bool]] = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    if len(set(found)) > 1:
        raise peer_lost(f"they would train with different micro-batches ({', '.join(str(n) for n, _ in set(found))})")
