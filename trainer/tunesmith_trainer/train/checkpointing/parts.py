"""Checkpoints that machines without a folder in common write together: each keeps the part that its processes wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tunesmith_api.contract import WORK_URI
from tunesmith_trainer.train.distributed.peers import peer_lost


@dataclass(frozen=True)
class Part:
    """What this process has to do with a checkpoint's files.

    Attributes:
        index: Number of the part that is on this machine.
        count: Parts of a checkpoint; 1 where all machines share a folder.
        is_mine: Whether this process is the one that looks after it, once all have written theirs.
    """

    index: int
    count: int
    is_mine: bool


def part_of_this_process() -> Part:
    """Return this process's part, by torchrun's variables."""
    machines = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    if machines == 1 or not os.environ.get(WORK_URI):
        return Part(0, 1, is_mine=os.environ.get("RANK", "0") == "0")
    return Part(int(os.environ["GROUP_RANK"]), machines, is_mine=os.environ["LOCAL_RANK"] == "0")


def agreed(part: Part, checkpoint: str | None) -> str | None:
    """Return the name of the checkpoint that all processes of the run go on from. All of them take part.

    Args:
        part: This process's part.
        checkpoint: The checkpoint that it has found, where it looks after a part; None where there is none.

    Raises:
        StageError: PEER_LOST: another machine has brought another one, which was kept in between.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return checkpoint
    import torch

    answers: list[tuple[bool, str | None]] = [(False, None)] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(answers, (part.is_mine, checkpoint))
    found = {name for counts, name in answers if counts}
    if len(found) > 1:
        raise peer_lost(f"they would go on from different checkpoints ({', '.join(sorted(map(str, found)))})")
    return found.pop()
