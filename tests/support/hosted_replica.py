"""A command of the hosted service as a process of its own: all as it is, over the backend that replicas share.

python -m support.hosted_replica BACKEND SHORTEST LONGEST CLAIM_SECONDS --config FILE COMMAND...
"""

import sys
from pathlib import Path

from support.quick_backend import QuickBackend
from tunesmith_hosted.process import command, run
from tunesmith_hosted.reconcile import claims


def main() -> int:
    """Run the command."""
    path, shortest, longest, claim, *arguments = sys.argv[1:]
    backend = QuickBackend(Path(path), (float(shortest), float(longest)))

    async def ours(settings: object) -> QuickBackend:
        return backend

    run.backend_of = command.backend_of = ours
    claims.CLAIM_SECONDS = float(claim)  # or each kill would take as long as a claim
    return command.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
