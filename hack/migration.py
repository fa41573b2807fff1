"""Write the step of a migration: `python hack/migration.py "What it changes"`.

It compares the tables of the code with what all steps before make of an empty database.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from tunesmith_hosted.database.engine import connect
from tunesmith_hosted.database.migrate import STEPS, migrate, write_step


async def write(message: str) -> None:
    """Write the step, and format it."""
    number = len(list((STEPS / "versions").glob("step_*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/empty.db")
        if number > 1:
            await migrate(engine)
        async with engine.begin() as connection:
            await connection.run_sync(write_step, message, f"{number:04}")
        await engine.dispose()
    for path in (STEPS / "versions").glob(f"step_{number:04}_*.py"):
        lines = [line for line in path.read_text().splitlines() if "# ###" not in line]
        path.write_text("\n".join(lines) + "\n")
    for command in (["format", "--quiet"], ["check", "--fix", "--quiet"]):
        subprocess.run([Path(sys.executable).parent / "ruff", *command, STEPS / "versions"], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(write(sys.argv[1]))
