"""Command line options, one for each field of the configuration."""

import argparse
from typing import Any, NoReturn

from tunesmith_serving.process.exit import fail
from tunesmith_serving.runtime.config import ServingConfig

SHORT_OPTIONS = {"max_batch_size": "--slots", "max_queue_length": "--max-queue"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage."""
        self.exit(fail(f"{message}; see --help"))


def option_of(field: str) -> str:
    """Return the option that sets a field of the configuration."""
    return SHORT_OPTIONS.get(field, "--" + field.replace("_", "-"))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; options that are not given are None."""
    parser = _Parser(prog="tunesmith_serving", description="Serve an artifact over HTTP.")
    parser.add_argument("--artifact", required=True, metavar="DIR", help="Artifact folder, with its manifest.json.")
    for name, field in ServingConfig.model_fields.items():
        default = "" if field.default is None else f" (default: {field.default})"
        text = f"{field.description}{default}".replace("%", "%%")
        kind: Any = field.annotation if field.annotation in (int, float) else str
        parser.add_argument(option_of(name), dest=name, type=kind, metavar=name.upper(), help=text)
    return parser
