"""Another kind of model is served by an engine and its row in the registry: nothing else knows of it."""

import signal
import sys
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, Request

from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.registry import LOADERS
from tunesmith_serving.process.command import main


class LongestLabel:
    healthy = True

    def __init__(self, artifact: Any, config: Any) -> None:
        self.labels, self.count = artifact.read_json("labels.json")["labels"], 0

    def warm_up(self, timeout: float) -> None:
        self.count += 1

    def routes(self, context: Any) -> APIRouter:
        async def classify(request: Request) -> dict[str, str]:
            self.count += 1
            text = (await context.read_json(request))["text"]
            return {"label": max((label for label in self.labels if label in text), key=len)}

        router = APIRouter()
        router.post("/v1/classify")(classify)
        return router

    def statistics(self) -> list[Statistic]:
        return [Statistic("toy_classified", "Texts classified.", self.count, "counter")]

    start_draining = staticmethod(lambda: print("drained"))
    close = staticmethod(lambda: print("closed"))


def test_a_toy_engine_is_served(tmp_path: Path) -> None:
    from support import serving_process, tiny_models

    (tmp_path / "onnx" / "fp32").mkdir(parents=True)
    (tmp_path / "onnx" / "fp32" / "labels.json").write_text('{"labels": ["no", "spam"]}')
    tiny_models.write_manifest(tmp_path, task="toy")
    with serving_process.ServingProcess(tmp_path, "--precision", "fp32", program=(__file__,)) as server:
        assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}
        assert httpx.post(f"{server.url}/v1/classify", json={"text": "no spam"}).json() == {"label": "spam"}
        assert "toy_classified_total 2.0" in httpx.get(f"{server.url}/metrics").text  # the warm-up's and ours
        server.process.send_signal(signal.SIGTERM)
        assert server.process.communicate(timeout=300)[0] == "drained\nclosed\n"


if __name__ == "__main__":
    LOADERS["toy"] = LongestLabel
    sys.exit(main())
