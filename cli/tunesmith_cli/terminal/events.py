"""Turns a backend's events into lines, and its errors into exit codes."""

from __future__ import annotations

from rich.markup import escape

from tunesmith_backend.interface import events
from tunesmith_backend.interface.errors import ErrorKind
from tunesmith_cli.terminal.console import Exit, print_error, say, title
from tunesmith_cli.terminal.planned import comparison, summary

_CODES = {
    None: Exit.OK,
    ErrorKind.INVALID: Exit.INVALID,
    ErrorKind.NOT_FOUND: Exit.INVALID,
    ErrorKind.FAILED: Exit.FAILED,
    ErrorKind.RETRY: Exit.RETRY,
}


def exit_code(failure: ErrorKind | None) -> Exit:
    """Return the exit code for a kind of failure; None means success."""
    return _CODES[failure]


def print_event(event: events.Event) -> None:
    """Print an event."""
    ref = event.ref
    match event:
        case events.Fetching():
            say(f"fetching {event.uri}")
        case events.ServerEnded():
            print_error(f"{ref.kind} {ref.name}: the server ended with exit code {event.code}")
        case events.Refused():
            print_error(event.message)
        case _:
            title(ref.kind, ref.name, _text(event))
    if isinstance(event, events.Succeeded):
        _print_metrics(event)
        for line in comparison(event.plan, event.measured):
            say(line)


def _text(event: events.Event) -> str:
    """Return the text of an event, with markup."""
    match event:
        case events.ClusterOnlyFields():
            return f"[yellow]{', '.join(event.fields)}[/yellow]: for clusters only, without effect here"
        case events.SecretsAreVariables():
            names = ", ".join(event.secrets)
            what = f"[yellow]secretRef[/yellow]: set the variables that {names} would hold yourself"
            return f"{what} (HF_TOKEN, AWS_ACCESS_KEY_ID, ...)"
        case events.Suspended():
            return "[yellow]suspend is true[/yellow]: nothing is run; write suspend: false to run it"
        case events.Planned():
            return "planned: " + escape(summary(event.plan)) + (f" ({escape(event.note)})" if event.note else "")
        case events.StageStarted():
            return event.stage.value
        case events.Retryable():
            return f"[yellow]{event.reason.value}[/yellow]: the same command tries again"
        case events.Failed():
            return f"[red]Failed[/red]: {event.reason.value}; status in {event.status_file}"
        case events.Succeeded():
            return f"[green]Succeeded[/green]: {event.artifact}"
        case events.Serving():
            return f"[green]Serving[/green] at {event.endpoint}"
        case events.AdapterChanged():
            color = "yellow" if event.message else "green"
            why = f": {escape(event.message)}" if event.message else ""
            return f"adapter {escape(event.name)} [{color}]{event.state}[/{color}]{why}"
        case events.ScaledToZero():
            return "replicas is 0: nothing is served"
    raise TypeError(event)


def _print_metrics(event: events.Succeeded) -> None:
    for name, value in (event.metrics.get("after") or {}).items():
        before = (event.metrics.get("before") or {}).get(name)
        if isinstance(value, float):
            say(f"  {name}: {value:.4g}" + (f" (before training {before:.4g})" if before is not None else ""))
