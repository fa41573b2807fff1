"""Imports without the garbage collector."""

import gc
import subprocess
import sys

import pytest

from tunesmith_api.local.imports import importing


def test_the_collector_is_off_within_and_on_again_after():
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_off_before_it_stays_off():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_imported_is_not_looked_through_again():
    code = (
        "import gc\n"
        "from tunesmith_api.local.imports import importing\n"
        "with importing():\n"
        "    import tunesmith_api.spec\n"
        "looked_at = {id(found) for found in gc.get_objects()}\n"
        "print(id(tunesmith_api.spec.__dict__) in looked_at, gc.get_freeze_count() > 10_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["False", "True"], done.stderr
