"""The precisions that can be tried on this processor."""

from collections.abc import Iterable
from typing import Any

import pytest

from tunesmith_api.local.cpus import multiplies_bytes
from tunesmith_api.spec import Precision


def exported_here(precisions: Iterable[str]) -> list[Precision]:
    """Those of a task that can be exported for text generation here: int8 is checked on what it is served on."""
    found = map(Precision, precisions)
    return [each for each in found if each is not Precision.INT8 or multiplies_bytes()]


def each_precision(precisions: Iterable[str]) -> list[Any]:
    """Parameters of a test that exports each of them: what cannot be exported here is skipped, and says why."""
    able = exported_here(Precision)
    skip = pytest.mark.skip(reason="int8 is exported on a processor with VNNI or AMX only")
    return [pytest.param(each, marks=() if each in able else skip) for each in map(Precision, precisions)]
