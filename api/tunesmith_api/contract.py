"""The contract between processes: variables, exit codes, paths and the termination message.

The command line and the operator start stages and servers; they read what is named here. None of it is written
anywhere else. The artifact's layout is in artifact.py, the work folder's in work_folder.py.
"""

from __future__ import annotations

from typing import Any

from tunesmith_api.failures import EXIT_CODES, Reason, StageError

# Variables of a stage's container.
JOB_CONFIG = "TUNESMITH_JOB_CONFIG"
"""The job's `JobConfig` as JSON; if set, the work folder's config.json is not read."""
CONFIG_MAPS = "TUNESMITH_CONFIG_MAPS"
"""Folder with the mounted ConfigMaps, `NAME/KEY`; by default the work folder's `config-maps`."""
TERMINATION_LOG = "TUNESMITH_TERMINATION_LOG"
"""Path of the container's termination log; without it no termination message is written."""
GRACE_SECONDS = "TUNESMITH_GRACE_SECONDS"
"""Seconds from SIGTERM to SIGKILL."""
WORK_URI = "TUNESMITH_WORK_URI"
"""Prefix of the object store that holds the job's work; the work folder is then local and temporary."""
MACHINE = "TUNESMITH_MACHINE"
"""The machines that the job may train on: a JSON list as `tunesmith_api.planner.parse_machines` reads it.

One row is the machine that the job will have; a memory that is not known has 2**60 bytes. With several rows,
`resources.machine: auto`, `prepare` takes the cheapest that fits. Without a cluster it is not set, and `prepare` looks
at its own machine."""
NODES = "TUNESMITH_NODES"
"""Number of machines that train together; 1 where it is not set."""
KILLED_FOR_MEMORY = "TUNESMITH_KILLED_FOR_MEMORY"
"""How many containers of the train stage were killed so far because they took more memory than they may.

Training then lowers its micro-batch, once for each."""
SKIP_OUTPUT_PROBE = "TUNESMITH_SKIP_OUTPUT_PROBE"
"""Set if `prepare` has other credentials than `publish`, so that it cannot try whether the output can be written."""

# Variables of Kubeflow Trainer's status protocol, to which transformers also reports by itself.
PROGRESS_URL = "KUBEFLOW_TRAINER_SERVER_URL"
PROGRESS_CA_CERT = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
PROGRESS_TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 - the name of a variable
PROGRESS_PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs/{name}/status"
"""Path of a job's progress below the server's URL."""
PROGRESS_AUDIENCE = "tunesmith.dev"
"""Audience of the token that a pod sends with its progress."""
DISABLE_TRANSFORMERS_REPORT = "DISABLE_KUBEFLOW_INTEGRATION"
"""Stops transformers from reporting progress by itself."""

MASTER_PORT = 29500
"""Port on which node 0 of a training run expects the other nodes."""

# Variables of a server, and what is asked of it.
API_KEY = "TUNESMITH_API_KEY"
"""The key that requests to a server must send."""
HEALTH_PATH = "/healthz"
"""Answers 200 as long as the server works."""
READY_PATH = "/readyz"
"""Answers 200 as long as the server takes requests."""

ADAPTERS_PATH = "/adapters"
"""Answers which adapters a server has, without an API key.

That is `{"version": VERSION, "adapters": [{"name", "digest", "state", "message"}]}`. VERSION is that of the list in
force, null before there is one; `state` is Loaded, Pending or Failed."""
ADAPTERS_FILE = "adapters.json"
"""The list of adapters that a server follows while it runs, and that is replaced as a whole.

It is `{"version": VERSION, "adapters": [{"name", "path", "digest", "error"}]}`. VERSION is any text; `path` is a
folder; `digest` is left out if it is not known. An entry with an `error` instead of a path could not be fetched; one
with neither is being fetched."""

TEXT_PART_SEPARATOR = ""
"""Joins the text parts of a message, `[{"type": "text", "text": ...}, ...]`, in training and in serving."""

# Exit codes. Those of a stage are `EXIT_CODES`.
FIRST_RETRYABLE_CODE = 64
"""A stage's exit codes below this are final; from here on, another attempt can help."""
KILLED = 137
"""Exit code of a container that got SIGKILL."""
SERVER_INVALID_ARTIFACT = 2
"""Exit code of a server that cannot start: the artifact or an option is wrong."""
SERVER_OUT_OF_MEMORY = 3
"""Exit code of a server whose model does not fit in the available memory."""

REPLAY_MODULE = "tunesmith_serving.replay"
"""Module that answers requests as the server of an artifact does, without HTTP; the publish stage runs it as a child.

Options: `--artifact FOLDER --precision PRECISION`, `--now SECONDS` for chat templates that write the date, and
`--adapter FOLDER` for a LoRA adapter beside it, as peft saves it. Each line of its standard input is
`{"request": BODY, "generate": true or false}`; BODY is that of an OpenAI request, with `messages` or `prompt`. The
answer, a line each in the same order, has `promptIds`, and if generated `text`, `tokenIds` and `finishReason`; or
`error`. Exit codes are those of a server.

For the other tasks a line is `{"inputs": INPUT, "parameters": {...}}`, as in the body of Hugging Face's task API with
one input, and `"generate": false` if only token ids are wanted. The answer has `promptIds` (of several windows the
first) and `outputs`, what that API answers for this input; or `error`.
"""

_REASON_OF_CODE = {code: reason for reason, code in EXIT_CODES.items()}

TERMINATION_MESSAGE_BYTES = 4096
"""The kubelet reads no more bytes than this of a termination message."""

COMPLETED = "Completed"
"""The `reason` in the outcome of a complete stage."""


def reason_of(code: int) -> Reason | None:
    """Return the reason that an exit code of a stage stands for; None for any other code."""
    return _REASON_OF_CODE.get(code)


def is_final(reason: Reason) -> bool:
    """Return whether the same input always fails for this reason, so that another attempt cannot help."""
    return EXIT_CODES[reason] < FIRST_RETRYABLE_CODE


def outcome_of(error: StageError | None = None) -> dict[str, Any]:
    """Return a stage's outcome, as it is written to the outcome file and the termination message.

    Args:
        error: Why the stage failed; None if it is complete.
    """
    if error is None:
        return {"reason": COMPLETED, "message": "", "remedy": ""}
    return {"reason": error.reason.value, "message": error.message, "remedy": error.remedy}


def sentence_of(outcome: dict[str, Any]) -> str:
    """Return an outcome's message and remedy as text for a condition; empty if it has neither."""
    return ". ".join(str(outcome[key]).rstrip(".") for key in ("message", "remedy") if outcome.get(key))
