"""The precisions that can be tried on this processor."""

from collections.abc import Iterable

from tunesmith_api.local.cpus import multiplies_bytes
from tunesmith_api.spec import Precision


def exported_here(precisions: Iterable[str]) -> list[Precision]:
    """Those of a task that can be exported for text generation here: int8 is checked on what it is served on."""
    found = map(Precision, precisions)
    return [each for each in found if each is not Precision.INT8 or multiplies_bytes()]
