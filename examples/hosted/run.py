"""Starts the service of this folder, runs a script of OpenAI's client against it, and stops it.

`make hosted` runs train.py, `make hosted CLIENT=node` its twin train.mjs, `make hosted CLIENT=none` leaves the service
running until Ctrl-C, for scripts of your own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = Path(".tunesmith/hosted-example")


def client_command(client: str) -> list[str]:
    """Return the command of a client."""
    if client == "python":
        return [sys.executable, str(HERE / "train.py")]
    if shutil.which("npm") is None:
        sys.exit("CLIENT=node needs Node.js with npm; or leave CLIENT out")
    options = ["--no-audit", "--no-fund", "--silent", "--no-package-lock", "--prefix", str(HERE)]
    subprocess.run(["npm", "install", *options], check=True)
    return ["node", str(HERE / "train.mjs")]


def main() -> int:
    """Run the example and return the process exit code."""
    client = sys.argv[1] if len(sys.argv) > 1 else "python"
    command = client_command(client) if client != "none" else []
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    arguments = ["hosted", "--config", str(HERE / "hosted.yaml"), "serve", "--port", "0"]
    print(f"$ tunesmith hosted --config {os.path.relpath(HERE)}/hosted.yaml serve --port 0", flush=True)
    log = (WORK / "log.jsonl").open("wb")
    with subprocess.Popen(
        [sys.executable, "-m", "tunesmith_cli", *arguments], stdout=subprocess.PIPE, stderr=log, text=True
    ) as service:
        try:
            given: dict[str, str] = {}
            for line in service.stdout or ():
                print(line, end="", flush=True)
                if found := re.match(r"base_url=(\S+) api_key=(\S+)", line):
                    given = {"OPENAI_BASE_URL": found[1], "OPENAI_API_KEY": found[2]}
                if line.startswith("Serving at"):
                    break
            if not given:
                sys.exit(f"the service did not start: {WORK}/log.jsonl says why")
            if not command:
                return service.wait()
            print(f"$ {command[0].rpartition('/')[2]} {os.path.relpath(command[1])}", flush=True)
            return subprocess.run(command, env={**os.environ, **given}, check=False).returncode
        except KeyboardInterrupt:
            return 130
        finally:
            service.terminate()
            service.wait()


if __name__ == "__main__":
    sys.exit(main())
