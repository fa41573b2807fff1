"""The command line: `python -m cluster build|up|down|status`."""

import argparse
import os
import sys
import time

from cluster import binaries, lifecycle
from cluster.errors import CannotRunError, ClusterError
from cluster.paths import Paths
from cluster.state import State


def main() -> int:
    """Run the command and return the exit code: 0, 1 for a failure, 3 if this machine cannot run a cluster."""
    parser = argparse.ArgumentParser(prog="cluster", description="A Kubernetes cluster as processes of this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the programs that it is made of, unless others are named")
    for command, text in (("up", "start it, unless it runs"), ("down", "stop it"), ("status", "tell what runs")):
        subparser = commands.add_parser(command, help=text)
        subparser.add_argument(
            "--mode", choices=("api", "full"), help="control plane only, or with a node (default: full)"
        )
        subparser.add_argument("--name", help="the cluster's name (default: the mode)")
        if command == "up":
            subparser.add_argument(
                "--api-server",
                action="append",
                default=[],
                metavar="OPTION",
                help="such as --max-requests-inflight=3000",
            )
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            return _build()
        if arguments.command == "up":
            return _up(arguments)
        names = [arguments.name or arguments.mode] if arguments.name or arguments.mode else ["full", "api"]
        return _down(names) if arguments.command == "down" else _status(names)
    except (CannotRunError, ClusterError) as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _build() -> int:
    if not any(os.environ.get(name) for name in ("KUBEBUILDER_ASSETS", "TUNESMITH_E2E_CONTEXT")):
        lifecycle.require_linux()
        binaries.kubernetes()
        binaries.helm()
        binaries.probe()
        binaries.object_store()
        binaries.dex()
    return 0


def _up(arguments: argparse.Namespace) -> int:
    mode = arguments.mode or "full"
    began = time.monotonic()
    state = lifecycle.up(arguments.name or mode, mode, api_server=arguments.api_server)
    print(f"Ready after {time.monotonic() - began:.1f} s. Use it by:", file=sys.stderr)
    print(f"export KUBECONFIG={state.paths.kubeconfig}")
    return 0


def _down(names: list[str]) -> int:
    for name in names:
        print(f"{name}: {'stopped' if lifecycle.down(name) else 'was not there'}")
    return 0


def _status(names: list[str]) -> int:
    found = 1
    for name in names:
        state = State.load(name)
        if state is None:
            print(f"{name}: not there")
            continue
        found = 0
        print(f"{name}: mode {state.mode}, kubeconfig {Paths(name).kubeconfig}, {len(state.holders)} test runs use it")
        for process, record in state.processes.items():
            print(f"  {process:<24} {f'pid {record.pid}' if record.alive() else 'has ended'}")
    return found


if __name__ == "__main__":
    sys.exit(main())
