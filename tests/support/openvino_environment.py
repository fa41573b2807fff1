"""An environment with OpenVINO's plug-in for ONNX Runtime: this one's packages, and the plug-in beside them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-openvino"
PACKAGE = "onnxruntime-ep-openvino"


def openvino_python(folder: Path = FOLDER) -> Path:
    """Make the environment if it is not there, and return its interpreter.

    The plug-in is not installed where the project is developed: it is large, and everything else runs without it.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "tunesmith.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    found = subprocess.run([python, "-c", "import onnxruntime_ep_openvino"], capture_output=True, check=False)
    if found.returncode:
        constraints = str(ROOT / "constraints.txt")
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-c", constraints, PACKAGE]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return python
