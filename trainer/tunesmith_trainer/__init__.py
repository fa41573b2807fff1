"""The fine-tuning stages: prepare, train, publish."""

import logging
import sys

# bitsandbytes, which peft imports, and transformers download compiled kernels from a hub if they find the package
# `kernels`. Nothing is downloaded at run time, so for them it is not installed.
sys.modules["kernels"] = None  # type: ignore[assignment]
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # which warns that it is not
