"""The models of a job whose adapter is published beside its base."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from tunesmith_api.work_folder import Stage
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.publish.models import Models


class AdapterModels(Models):
    """The tuned model is the adapter beside its base, in fp32 as it is served, and nothing is merged.

    After training beside quantized weights, the base that is served is another one than the base model: the one with
    the dequantized weights, which are those that training computed with.
    """

    _exported: Path | None = None
    _is_adapted = False

    def base(self) -> Any:  # noqa: ANN401
        """Return the base model."""
        if self._is_adapted:
            self.release()
        return super().base()

    def tuned(self) -> Any:  # noqa: ANN401
        """Return the base that is served, with the adapter beside it."""
        folder = self.exported_folder()
        if not self._is_adapted:
            self.release()
            from peft import PeftModel

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # about peft's use of transformers, nothing for users
                adapted = PeftModel.from_pretrained(self._load(folder), self.work.final, is_trainable=False).eval()
            self._model = folder, adapted.get_base_model()
            self._is_adapted = True
        return self._load(folder)

    def release(self) -> None:
        """Give the memory of the models back."""
        super().release()
        self._is_adapted = False

    def exported_folder(self) -> Path:
        """Return the folder of the base that is served; the adapter is checked first."""
        if self._exported is None:
            self.release()
            kept = self.work.stage(Stage.PUBLISH) / "base_nf4"
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
            method = method_of(self.config.spec.method)
            found = kept if kept.is_dir() else method.served_base(self.work.final, temporary, self.merge_inputs)
            if found == temporary:
                self.tokenizer.save_pretrained(temporary)
                temporary.replace(kept)
                found = kept
            self._exported = found
        return self._exported
