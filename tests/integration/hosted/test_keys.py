"""Who a key lets in."""

from pathlib import Path
from typing import Any

import httpx

from support.hosted import serving


def test_keys_that_are_not_valid_are_refused(tmp_path: Path) -> None:
    backend: Any = None
    with serving(tmp_path, backend) as hosted:
        answers = [
            httpx.get(f"{hosted.url}/healthz", headers={"Authorization": f"Bearer {key}"})
            for key in (hosted.key, hosted.key + "x", "sk-ts-1-2", "sk-other")
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 401, 401]
        assert answers[1].json()["error"]["code"] == "invalid_api_key"
