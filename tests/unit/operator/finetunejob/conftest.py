"""The time of the world that is being decided about, for the status module."""

import pytest

from support.job_facts import World, stamp


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    worlds = []
    begin = World.__init__
    monkeypatch.setattr(
        World, "__init__", lambda self, *args, **options: (worlds.append(self), begin(self, *args, **options))[1]
    )
    monkeypatch.setattr("tunesmith_api.status.conditions.now", lambda: stamp(worlds[-1].now))
