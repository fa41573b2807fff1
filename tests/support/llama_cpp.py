"""llama.cpp's own server, built from the source distribution of llama-cpp-python, and models converted for it."""

import os
import platform
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.paths import cache, locked
from support.ports import free_port
from support.rival_servers import run, running

VERSION = "0.3.36"
_TARGETS = ("llama-server", "llama-quantize")
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)  # fmt: skip
# All that this processor has, but not AMX: those kernels crash in virtual machines that were not given its tiles.
_INSTRUCTIONS = {
    "avx": "AVX", "avx2": "AVX2", "bmi2": "BMI2", "fma": "FMA", "f16c": "F16C", "avx512f": "AVX512",
    "avx512vbmi": "AVX512_VBMI", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16",
}  # fmt: skip

# A tokenizer that was trained on the fly is none that the converter knows; its text is split as GPT-2's.
_CONVERT = """
import runpy, sys
from conversion import base
for kind in vars(base).values():
    if isinstance(kind, type) and "get_vocab_base_pre" in vars(kind):
        kind.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
sys.argv = ["convert_hf_to_gguf.py", *sys.argv[1:]]
runpy.run_path("convert_hf_to_gguf.py", run_name="__main__")
"""


def llama_cpp() -> Path:
    """Return the folder of llama.cpp's source with its programs in `build/bin`; built once (20 minutes on 2 cores)."""
    folder = cache() / "bin" / f"llama-cpp-{VERSION}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            print(f"Building llama.cpp: once, for {folder}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                source = _build(Path(scratch))
                source.rename(folder)
    return folder


def _build(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wanted = f"llama-cpp-python=={VERSION}"
    run([*pip, "download", wanted, "--no-binary", "llama-cpp-python", "--no-deps", "-d", str(scratch)])
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        archive.extractall(scratch, filter="data")
    source = scratch / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
    # The converter's only need that this project's environment does not meet.
    run([*pip, "install", "--no-deps", "--target", str(source / "site"), "sentencepiece"])
    run(["cmake", "-S", str(source), "-B", str(source / "build"), *_OPTIONS, *_instructions()])
    run(["cmake", "--build", str(source / "build"), "-j", str(os.cpu_count() or 1), "--target", *_TARGETS])
    return source


def _instructions() -> list[str]:
    """Return the options for the instructions that this processor has."""
    if platform.machine() != "x86_64":
        return ["-DGGML_NATIVE=ON"]
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    return ["-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for flag, name in _INSTRUCTIONS.items() if flag in flags)]


def convert(model: Path, target: Path, kind: str = "Q4_0") -> Path:
    """Write a model of transformers as a GGUF file of one of llama.cpp's quantisations, and return the file."""
    source = llama_cpp()
    whole = target.with_suffix(".f16.gguf")
    paths = os.pathsep.join((str(source), str(source / "site"), str(source / "gguf-py")))
    command = [sys.executable, "-c", _CONVERT, str(model), "--outfile", str(whole), "--outtype", "f16"]
    run(command, cwd=source, PYTHONPATH=paths)
    run([str(source / "build" / "bin" / "llama-quantize"), str(whole), str(target), kind])
    whole.unlink()
    return target


@contextmanager
def serving(model: Path, slots: int, context_length: int, threads: int) -> Iterator[tuple[str, int]]:
    """Serve a GGUF file; yields the server's URL and its process id.

    Args:
        model: The file.
        slots: Requests that are answered at the same time.
        context_length: Tokens of prompt and answer of each.
        threads: Threads that compute.
    """
    port = free_port()
    command = [
        str(llama_cpp() / "build" / "bin" / "llama-server"), "-m", str(model), "--port", str(port),
        "-np", str(slots), "-c", str(slots * context_length), "-t", str(threads), "-tb", str(threads),
        "--jinja", "--no-webui", "--log-disable",
    ]  # fmt: skip
    with running(command, port, seconds=120) as server:
        yield server
