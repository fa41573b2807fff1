"""Lets a training process run out of memory: with this folder in PYTHONPATH, forward passes of Llama can be too large.

TOO_LARGE: tokens, padding included, from which on a forward pass that trains is.
TOO_LARGE_AS: `oom` (torch's error on a GPU), `cpu` (its allocator's on a CPU) or `killed` (by the kernel).
TOO_LARGE_RANK: the only process in which it is; all by default.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys

_MODULE = "transformers.models.llama.modeling_llama"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _limit(module.LlamaModel)

        spec.loader.exec_module = exec_module
        return spec


def _limit(model):
    forward = model.forward
    most, how, rank = int(os.environ["TOO_LARGE"]), os.environ["TOO_LARGE_AS"], os.environ.get("TOO_LARGE_RANK")

    def limited(self, *args, **inputs):
        if self.training and _tokens(args, inputs) >= most and rank in (None, os.environ.get("RANK", "0")):
            _fail(how)
        return forward(self, *args, **inputs)

    model.forward = limited


def _tokens(args, inputs):
    ids = inputs.get("input_ids", args[0] if args else None)
    return ids.numel()


def _fail(how):
    import torch

    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "oom":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory")


if "TOO_LARGE" in os.environ:
    sys.meta_path.insert(0, _Finder())
