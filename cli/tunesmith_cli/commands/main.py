"""The `tunesmith` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith_api.spec.execution_providers import CPU, ExecutionProvider
from tunesmith_backend.interface.errors import BackendError
from tunesmith_cli.commands import imports
from tunesmith_cli.terminal.console import CliError, Exit, print_error, say
from tunesmith_cli.terminal.events import exit_code

app = typer.Typer(
    name="tunesmith",
    help="Turn a data set into a fine-tuned model that is being served.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(imports.app)

Files = Annotated[
    list[Path],
    typer.Option(
        "--filename",
        "-f",
        help="A manifest, a folder of them (.yaml, .yml, .json), or - for standard input; may be repeated.",
    ),
]
Work = Annotated[Path, typer.Option("--work", help="Folder for all work: NAMESPACE/NAME in it for each object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@app.command()
def run(
    filename: Files,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the InferenceWorkspaces afterwards.")] = True,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the first server; others follow it.")] = 8080,
    work: Work = Path(".tunesmith"),
    restart: Annotated[bool, typer.Option("--restart", help="Discard earlier work and start over.")] = False,
    debug: Debug = False,
) -> None:
    """Run manifests on this machine: train the jobs, then serve the workspaces.

    Run again, it resumes where it stopped. A complete job is not run again.
    """
    from tunesmith_cli.commands.run import run_manifests

    raise typer.Exit(run_manifests(filename, work, serve=serve, host=host, port=port, restart=restart, debug=debug))


@app.command()
def serve(
    artifact: Annotated[Path, typer.Argument(help="Folder of an artifact (with manifest.json in it).")],
    precision: Annotated[
        str | None, typer.Option(help="int4, int8 or fp32; the smallest that is there by default.")
    ] = None,
    execution_provider: Annotated[
        ExecutionProvider,
        typer.Option(help="Execution provider of ONNX Runtime; all but cpu take a package of their own."),
    ] = CPU,
    name: Annotated[str | None, typer.Option(help="Name of the model in requests; by default the job's name.")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 chooses a free one.")] = 8080,
    slots: Annotated[int, typer.Option(min=1, help="Requests that are served at the same time.")] = 8,
    context_length: Annotated[
        int | None, typer.Option(min=16, help="Tokens of prompt and answer together; 2048 by default.")
    ] = None,
    batch_precision: Annotated[
        Literal["int8"] | None,
        typer.Option(help="A second export, which computes prompts and many answers at once."),
    ] = None,
    prefix_cache_memory: Annotated[
        str | None, typer.Option(help="Memory for what prompts begin with, such as 2Gi; 0 for none, else a share.")
    ] = None,
    draft_model: Annotated[
        Path | None, typer.Option(help="Folder of the artifact of a small model that drafts tokens.")
    ] = None,
    adapters: Annotated[
        Path | None, typer.Option(help="File that lists the LoRA adapters to serve; it is followed while it changes.")
    ] = None,
) -> None:
    """Serve an artifact behind the OpenAI API until Ctrl-C."""
    from tunesmith_cli.commands.serve import serve_artifact

    options = {
        "host": host,
        "port": port,
        "slots": slots,
        "context-length": context_length,
        "batch-precision": batch_precision,
        "prefix-cache-memory": prefix_cache_memory,
        "draft-model": draft_model,
        "adapters": adapters,
    }
    raise typer.Exit(serve_artifact(artifact, precision, name, options, execution_provider))


@app.command()
def validate(
    filename: Files,
    data: Annotated[
        bool, typer.Option("--data/--no-data", help="Check the rows of data files on this machine too.")
    ] = True,
) -> None:
    """Check manifests and local data: every finding with file, line, field and what to write instead."""
    from tunesmith_cli.commands.validate import validate_manifests

    raise typer.Exit(validate_manifests(filename, data=data))


@app.command()
def plan(
    filename: Files,
    machines: Annotated[
        Path | None,
        typer.Option(help="Table of machines (YAML or JSON), as the chart's value machines; AKS sizes by default."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Plan for this machine of the table, or for the one here (this), whatever a job asks for."),
    ] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print it.")] = "table",
    show_all: Annotated[bool, typer.Option("--all", help="Also list what does not fit.")] = False,
) -> None:
    """Show what a job needs, where that fits, what it takes and costs: before anything is downloaded or run.

    The exit code is 0 if all jobs fit, and 22 (DoesNotFit) if one does not.
    """
    from tunesmith_cli.commands.plan import plan_manifests

    raise typer.Exit(plan_manifests(filename, machines=machines, on=on, output=output, show_all=show_all))


@app.command()
def data(
    paths: Annotated[list[Path], typer.Argument(help="Data files or folders, or manifests (.yaml).")],
    column: Annotated[
        list[str] | None, typer.Option(help="NAME=COLUMN where a file's column has another name; may be repeated.")
    ] = None,
    data_format: Annotated[
        str | None, typer.Option("--format", help="Format of the rows; detected by default.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model: its tokenizer gives lengths in tokens, and the rows.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Largest number of tokens in a row.")] = None,
    task: Annotated[
        str | None, typer.Option(help="What is learned, as spec.task names it; textGeneration by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show what is in a data set: format, duplicates, lengths, and a few rows as the model will see them."""
    from tunesmith_cli.commands.data import report_data

    code = report_data(
        paths, columns=column or [], form=data_format, model=model, max_length=max_length, task=task, as_json=as_json
    )
    raise typer.Exit(code)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def hosted(context: typer.Context) -> None:
    """Serve the OpenAI fine-tuning API: files, jobs and models, without manifests; --help shows its commands."""
    from tunesmith_cli.commands.hosted import run_hosted

    raise typer.Exit(run_hosted(context.args))


@app.command()
def ui(
    work: Work = Path(".tunesmith"),
    host: Annotated[str, typer.Option(help="Address to listen on, of this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8090,
) -> None:
    """Open the console over what `tunesmith run` leaves: jobs, curves, gates, models, playground; no files, no keys."""
    from tunesmith_cli.commands.ui import run_ui

    raise typer.Exit(run_ui(work, host, port))


@app.command()
def version() -> None:
    """Print the version, and the versions of the main dependencies."""
    from tunesmith_cli.commands.version import versions

    for package, number in versions().items():
        say(f"{package} {number}")


def main() -> None:
    """Run the command line. Expected errors are printed as one line, without a traceback."""
    debug = "--debug" in sys.argv
    try:
        app()
    except CliError as error:
        if debug:
            raise
        print_error(str(error))
        sys.exit(error.code)
    except BackendError as error:
        if debug:
            raise
        print_error(str(error))
        sys.exit(exit_code(error.kind))
    except KeyboardInterrupt:
        print_error("interrupted; the same command resumes from here")
        sys.exit(Exit.INTERRUPTED)
    except OSError as error:
        if debug:
            raise
        print_error(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        sys.exit(Exit.FAILED)
