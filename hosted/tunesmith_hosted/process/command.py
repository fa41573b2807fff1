"""The command `python -m tunesmith_hosted`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tunesmith_hosted.config.settings import SettingsError, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, or 2 for wrong settings."""
    parser = argparse.ArgumentParser(prog="tunesmith hosted", description="The OpenAI fine-tuning API on your machines")
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    options = parser.parse_args(arguments)
    try:
        load_settings(options.config)
    except SettingsError as error:
        parser.exit(2, f"tunesmith hosted: {error}\n")
    return 0
