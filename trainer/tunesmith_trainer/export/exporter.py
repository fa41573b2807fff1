"""Exports a transformers model to ONNX. The builder runs in a child process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tunesmith_api.artifact import MODEL_FILES
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.cpus import INT8_PROCESSORS, multiplies_bytes
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.architectures import export_options
from tunesmith_trainer.runtime.disk import disk_full, is_full_text

log = logging.getLogger(__name__)

# The server needs only the last token's logits. Those of all tokens of a long prompt would take much time and memory.
# By default the cache of layers with a window is as long as the window, which only the genai runtime's cache supports.
OPTIONS = ("prune_lm_head=true", "windowed_kv_cache=false")
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json")
OPTIONAL_TEXT_FILES = ("chat_template.jinja", "special_tokens_map.json")
_LAST_LINES = 15


class Exporter:
    """The builder's process. A context manager; the process ends when the context is left.

    Attributes:
        log_file: The builder's output.
    """

    def __init__(self, log_file: Path, int4_block_size: int | None = None) -> None:
        """Take the settings.

        Args:
            log_file: Where the builder's output goes.
            int4_block_size: Weights that share a scale in int4; the builder's 32 by default.
        """
        self.log_file = log_file
        self._int4 = (f"block_size={int4_block_size}",) if int4_block_size else ()
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    def __enter__(self) -> Self:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log = self.log_file.open("w", encoding="utf-8")
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            # The builder writes the commit of the repository in the current folder into the model. It should find none.
            "GIT_DIR": os.devnull,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith_trainer.export.genai_builder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            encoding="utf-8",
            # An orphan would keep writing into a folder that the next run has removed.
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
        if self._log:
            self._log.close()

    def export(self, model: Path, folder: Path, precision: Precision) -> None:
        """Write the model and its tokenizer to `folder` as ONNX for the CPU. The folder is complete or absent.

        Args:
            model: A model with its tokenizer in the transformers layout.
            folder: The folder to make.
            precision: Number format of the weights.

        Raises:
            StageError: EXPORT_FAILED the log has the builder's last lines; or the export could not be checked here.
        """
        if precision is Precision.INT8 and not multiplies_bytes():
            raise StageError(
                Reason.EXPORT_FAILED,
                f"an int8 export is checked and served on {INT8_PROCESSORS}; this one has none of these",
                "Run publish on such nodes (stages.publish.nodeSelector), or remove int8 from export.precisions",
            )
        architectures = json.loads((model / "config.json").read_bytes()).get("architectures")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        request: dict[str, object] = {
            "model": str(model.absolute()),
            "output": str(temporary.absolute()),
            "precision": precision.value,
            "options": [
                *OPTIONS,
                *export_options(architectures),
                *(self._int4 if precision is Precision.INT4 else ()),
            ],
        }
        answer = self._ask(request)
        if answer is None:
            code = self._process.wait() if self._process else None
            raise self._failure(precision, f"the exporter died with exit code {code}")
        if "error" in answer:
            raise self._failure(precision, answer["error"])
        for name in (*TEXT_FILES, *OPTIONAL_TEXT_FILES):
            if not (temporary / name).exists() and (model / name).exists():
                shutil.copyfile(model / name, temporary / name)
        missing = [name for name in MODEL_FILES if not (temporary / name).is_file()]
        if missing:
            raise self._failure(precision, f"the exporter wrote no {', '.join(missing)}")
        temporary.replace(folder)

    def _ask(self, request: dict[str, object]) -> dict[str, str] | None:
        """Return the builder's answer, or None if its process has ended."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the exporter is used outside of its context")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        line = process.stdout.readline()
        return json.loads(line) if line else None

    def _failure(self, precision: Precision, what: str) -> StageError:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        printed = "\n".join(line.rsplit("\r", 1)[-1] for line in lines[-_LAST_LINES:])
        log.error("the exporter's last lines:\n%s", printed)
        if is_full_text(f"{what}\n{printed}"):
            return disk_full(self.log_file.parent)
        return StageError(
            Reason.EXPORT_FAILED,
            f"exporting {precision.value} failed: {what}",
            f"All that the exporter printed is in {self.log_file}",
        )
