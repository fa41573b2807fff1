"""`tunesmith run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tunesmith_api.manifests import Manifests
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local.adapters import LocalAdapters
from tunesmith_backend.local.artifacts import local_artifact, local_draft
from tunesmith_backend.local.job import LocalJob
from tunesmith_backend.local.objects import ObjectFolder, stored_of
from tunesmith_backend.local.workspace import LocalWorkspace
from tunesmith_cli.commands.manifests import load_valid
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, Exit, print_error, say
from tunesmith_cli.terminal.events import exit_code, print_event

_POLL_SECONDS = 0.5


def run_manifests(
    paths: Sequence[Path],
    work: Path,
    *,
    serve: bool,
    host: str,
    port: int,
    restart: bool = False,
    debug: bool = False,
) -> Exit:
    """Run the manifests in files and folders on this machine, and return the exit code.

    Args:
        paths: Manifests, or folders of them.
        work: Folder of all work.
        serve: Serve the InferenceWorkspaces when the jobs are done, until Ctrl-C.
        host: Address to serve on.
        port: Port of the first server; others follow it.
        restart: Discard earlier work and start over.
        debug: Show tracebacks.
    """
    manifests = load_valid(paths)
    if manifests is None:
        return Exit.INVALID
    if not manifests.fine_tune_jobs and not manifests.inference_workspaces:
        raise CliError("no FineTuneJob or InferenceWorkspace in " + ", ".join(map(str, paths)))
    signals.raise_keyboard_interrupt()
    root = work.resolve()
    code, objects = Exit.OK, ObjectFolder(root)
    for job in manifests.fine_tune_jobs:
        local = LocalJob(job, Path(job.source.file).parent, root, debug=debug, emit=print_event)
        code = max(code, exit_code(local.run(manifests.config_maps, restart=restart).failure))
        # For servers that follow jobs by their labels, also those of other commands.
        objects.put(ref_of(job), stored_of(job))
    return max(code, _serve(manifests, root, host, port)) if serve else code


def _serve(manifests: Manifests, root: Path, host: str, port: int) -> Exit:
    """Serve the workspaces whose models exist, until Ctrl-C. Return OK if all of them could be served."""
    servers: list[LocalWorkspace] = []
    code = Exit.OK
    try:
        for workspace in manifests.inference_workspaces:
            local = LocalWorkspace(workspace, root, host, port + len(servers), print_event)
            if workspace.spec.replicas == 0:
                local.scaled_to_zero()
                continue
            try:
                base = Path(workspace.source.file).parent
                jobs = manifests.fine_tune_jobs
                artifact = local_artifact(workspace, base, root, jobs, print_event)
                draft = local_draft(workspace, base, root, print_event)
                local.start(artifact, LocalAdapters.of(workspace, base, root, jobs), draft)
            except BackendError as error:
                print_error(str(error))
                code = Exit.FAILED
                continue
            finally:
                if local.process is not None:
                    servers.append(local)
        running = [server for server in servers if server.process is not None and server.process.poll() is None]
        if running:
            say("Ctrl-C stops serving.")
        while running:
            time.sleep(_POLL_SECONDS)
            for server in running:
                if not server.alive():
                    return Exit.FAILED
                server.follow_adapters()
    except KeyboardInterrupt:
        return code
    finally:
        for server in servers:
            server.stop()
    return code
