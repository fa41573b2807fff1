"""The command `python -m tunesmith_operator`, configured by variables `TUNESMITH_...`."""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from importlib.metadata import version

import uvloop
from kubernetes.aio.config import ConfigException
from pydantic import ValidationError

from tunesmith_operator.app.replica import Operator
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine import logs
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.finetunejob import FineTuneJobReconciler
from tunesmith_operator.inferenceworkspace import InferenceWorkspaceReconciler

_log = logging.getLogger("tunesmith_operator")


def main() -> int:
    """Run the operator until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a signal, 1 for a failure, 2 for settings that are not valid.
    """
    _parser().parse_args()
    try:
        settings = OperatorSettings.from_environment()
    except ValidationError as error:
        print(f"a setting is not valid: {error}", file=sys.stderr)
        return 2
    logs.configure(settings.log_format, settings.log_level)
    try:
        # uvloop takes less CPU per request than asyncio's loop, and CPU is the bottleneck in bursts.
        uvloop.run(_run(settings))
    except ConfigException as error:
        _log.error("no cluster is configured: %s", error)
        return 1
    except Exception:
        _log.exception("the operator cannot go on")
        return 1
    return 0


async def _run(settings: OperatorSettings) -> None:
    # Thousands of live objects are no garbage; scanning them at the default rate takes a fifth of the CPU.
    gc.set_threshold(20_000, 10, 50)
    metrics = Metrics()
    client = await KubeClient.connect(metrics.requests, connections=2 * settings.workers + 16)
    try:
        reconcilers = (FineTuneJobReconciler(settings), InferenceWorkspaceReconciler(settings))
        await Operator(settings, reconcilers, client, metrics).run()
    finally:
        await client.close()


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  TUNESMITH_{name.upper()} ({info.default!r})\n      {info.description}"
        for name, info in OperatorSettings.model_fields.items()
    ]
    parser = argparse.ArgumentParser(
        prog="python -m tunesmith_operator",
        description="Turns FineTuneJobs and InferenceWorkspaces into running pods.",
        epilog="variables:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("tunesmith"))
    return parser
