"""The tests in this folder are about the embedded cluster, and about no other."""

import os

import pytest

from support.cluster_fixtures import CONTEXT


@pytest.fixture(autouse=True)
def embedded(request: pytest.FixtureRequest) -> None:
    """Leave a test out that would be run against somebody's own cluster."""
    if request.node.get_closest_marker("e2e") and os.environ.get(CONTEXT):
        pytest.skip(f"This is a test of the embedded cluster, and {CONTEXT} names another one.")
