"""A command of the hosted service as a process of its own: all as it is, with claims that end sooner.

python -m support.hosted_replica CLAIM_SECONDS [--quick FILE SHORTEST LONGEST] --config FILE COMMAND...

With `--quick` over the backend of the tests that replicas share, otherwise over the cluster of KUBECONFIG.
"""

import sys
from pathlib import Path

from support.quick_backend import QuickBackend
from tunesmith_hosted.process import command, run
from tunesmith_hosted.reconcile import claims


def main() -> int:
    """Run the command."""
    claim, *arguments = sys.argv[1:]
    claims.CLAIM_SECONDS = float(claim)  # or each kill would take as long as a claim
    if arguments[0] == "--quick":
        _, path, shortest, longest, *arguments = arguments
        backend = QuickBackend(Path(path), (float(shortest), float(longest)))

        async def ours(settings: object) -> QuickBackend:
            return backend

        run.backend_of = command.backend_of = ours
    return command.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
