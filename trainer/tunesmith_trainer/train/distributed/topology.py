"""The nodes of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeTopology:
    """The nodes that train together, and which of them this one is. Named as torchrun names its options.

    Attributes:
        nnodes: Number of nodes.
        node_rank: Index of this node, from 0.
        master_addr: Host name or address of node 0.
        master_port: Port on node 0. 0 is torchrun's default port, and on a single node any free port.
    """

    nnodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is node 0, which writes the stage's results."""
        return self.node_rank == 0
