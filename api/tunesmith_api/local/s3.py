"""How an S3 store is reached: the same variables for the stages of jobs and for the hosted service."""

from __future__ import annotations

import os
from collections.abc import Mapping


def s3_options(environment: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return the options of Arrow's S3 client that AWS_* variables ask for, and its time limits in seconds.

    Credentials are not among them: the client reads those itself.
    """
    options: dict[str, object] = {"connect_timeout": 10, "request_timeout": 60}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint:
        scheme, _, host = endpoint.partition("://")
        options.update({"endpoint_override": host.rstrip("/"), "scheme": scheme} if host else {})
        region = region or "us-east-1"
    if region:
        options["region"] = region
    return options
