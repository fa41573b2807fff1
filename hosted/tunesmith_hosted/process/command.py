"""The command `python -m tunesmith_hosted`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.errors import BackendError
from tunesmith_hosted.config.settings import Settings, SettingsError, load_settings
from tunesmith_hosted.database.engine import connect
from tunesmith_hosted.database.migrate import NotMigratedError, migrate
from tunesmith_hosted.http.caller import SCOPES
from tunesmith_hosted.process import administration
from tunesmith_hosted.process.check import check
from tunesmith_hosted.process.logs import configure_logs
from tunesmith_hosted.process.run import backend_of, serve
from tunesmith_hosted.process.tables import opened
from tunesmith_hosted.process.ui import serve_ui

_PROBLEMS = (SettingsError, NotMigratedError, administration.NotThereError, BackendError, ValueError, OSError)


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, 1 where something is in the way, or 2 for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    configure_logs()
    try:
        settings = load_settings(options.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options, settings))
    except _PROBLEMS as error:
        parser.exit(2 if isinstance(error, SettingsError) else 1, f"tunesmith hosted: {error}\n")
    except SQLAlchemyError as error:
        # Its text may hold the database's URL, and that a password.
        reason = str(error.orig).strip() if isinstance(error, DBAPIError) else type(error).__name__
        parser.exit(1, f"tunesmith hosted: the database cannot be used: {reason}; check the setting database\n")
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunesmith hosted", description="The OpenAI fine-tuning API on your machines")
    parser.add_argument("--config", type=Path, help="YAML file of settings; TUNESMITH_HOSTED_FIELD goes before it")
    parser.set_defaults(command="serve", host="127.0.0.1", port=8080)
    commands = parser.add_subparsers(metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve until Ctrl-C; what runs without a command")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serving.add_argument("--port", default=8080, type=int, help="port to listen on; 0 chooses a free one")
    commands.add_parser("migrate", help="bring the tables up to date").set_defaults(command="migrate")

    checking = commands.add_parser(
        "check", help="compare the database with jobs, servers and files, as after a restore"
    )
    checking.add_argument("--remove", action="store_true", help="remove what the database does not know")
    checking.set_defaults(command="check")
    ui = commands.add_parser("ui", help="serve the console over what `tunesmith run` leaves, without keys")
    ui.add_argument("--work", default=Path(".tunesmith"), type=Path, help="folder of all work")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on, of this machine alone")
    ui.add_argument("--port", default=8090, type=int, help="port to listen on; 0 chooses a free one")
    ui.set_defaults(command="ui")

    projects = commands.add_parser("projects", help="projects").add_subparsers(required=True, metavar="COMMAND")
    create = projects.add_parser("create", help="create a project")
    create.add_argument("name", help="NAME, or ORGANIZATION/NAME")
    create.set_defaults(command="projects create")
    projects.add_parser("list", help="list the projects").set_defaults(command="projects list")

    keys = commands.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="COMMAND")
    create = keys.add_parser("create", help="create a key, and print it once")
    create.add_argument("project", help="id of the project, or its NAME, or ORGANIZATION/NAME")
    create.add_argument("--name", default="key", help="what the key is for")
    create.add_argument("--scopes", default=",".join(sorted(SCOPES - {"admin"})), help="scopes, by commas")
    create.add_argument("--days", type=int, help="days until it expires; never by default")
    create.set_defaults(command="keys create")
    revoke = keys.add_parser("revoke", help="revoke a key")
    revoke.add_argument("key", help="id of the key, as `keys list` shows it")
    revoke.set_defaults(command="keys revoke")
    keys.add_parser("list", help="list the keys").set_defaults(command="keys list")
    return parser


async def _run(options: argparse.Namespace, settings: Settings) -> None:
    match options.command:
        case "serve":
            await serve(settings, options.host, options.port, _say)
        case "migrate":
            await _migrate(settings)
        case "check":
            async with opened(settings) as sessions:
                backend = await backend_of(settings)
                try:
                    await check(settings, sessions, backend, options.remove, _say)
                finally:
                    await backend.close()
        case "ui":
            await serve_ui(options.work, options.host, options.port, _say)
        case "projects create":
            await _change(settings, lambda session: administration.add_project(session, settings, options.name, _say))
        case "projects list":
            await _change(settings, lambda session: administration.list_projects(session, _say))
        case "keys create":
            scopes = [scope for scope in options.scopes.split(",") if scope]
            add = administration.add_key
            await _change(settings, lambda s: add(s, options.project, options.name, scopes, options.days, _say))
        case "keys revoke":
            await _change(settings, lambda session: administration.delete_key(session, options.key, _say))
        case "keys list":
            await _change(settings, lambda session: administration.list_keys(session, _say))


async def _migrate(settings: Settings) -> None:
    engine = connect(settings.database)
    try:
        _say(f"tables at revision {await migrate(engine)}")
    finally:
        await engine.dispose()


async def _change(settings: Settings, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Do something in one transaction, on tables of this version."""
    async with opened(settings) as sessions, sessions.begin() as session:
        await work(session)


def _say(line: str) -> None:
    print(line, flush=True)
