"""`tunesmith serve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith_api.artifact import MANIFEST, NO_ONNX
from tunesmith_api.local.files import read_json
from tunesmith_api.spec.execution_providers import CPU
from tunesmith_api.spec.runtime import cannot_serve, servable, served_precision
from tunesmith_api.tasks import DEFAULT_TASK
from tunesmith_backend.local import children
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, Exit


def serve_artifact(
    artifact: Path, precision: str | None, name: str | None, options: Mapping[str, object], provider: str = CPU
) -> Exit:
    """Serve an artifact until Ctrl-C and return the exit code.

    Args:
        artifact: Its folder.
        precision: The export to serve; the smallest by default.
        name: The model's name in requests; that of its job by default.
        options: More options of the server, by the names of its configuration; those that are None are its defaults.
        provider: The execution provider.

    Raises:
        CliError: There is no complete artifact, or it lacks the precision.
    """
    manifest = read_json(artifact / MANIFEST)
    if not isinstance(manifest, dict):
        raise CliError(
            f"{artifact} holds no complete artifact ({MANIFEST} is missing); give the folder that "
            "`tunesmith run` prints at the end of a job"
        )
    offered = [str(item) for item in manifest.get("precisions", [])]
    task = str(manifest.get("task") or DEFAULT_TASK)
    can = servable(offered, provider, task)
    chosen = served_precision(offered, precision, provider, task)
    if not offered:
        raise CliError(f"{artifact} {NO_ONNX}")
    if not can:
        raise CliError(f"{artifact} {cannot_serve(offered, provider, task)}")
    if chosen is None or chosen not in can:
        raise CliError(f"{artifact} holds no {chosen} model to serve; write --precision {' or '.join(can)}")
    signals.raise_keyboard_interrupt()
    process = children.start(
        "tunesmith_serving",
        [
            *("--artifact", str(artifact), "--precision", chosen),
            *("--model-name", name or str(manifest.get("name", "model"))),
            *("--execution-provider", provider),
            *(f"--{option}={value}" for option, value in options.items() if value is not None),
        ],
    )
    try:
        return Exit.OK if children.wait(process, lambda: None) == 0 else Exit.FAILED
    except KeyboardInterrupt:
        return Exit.OK
