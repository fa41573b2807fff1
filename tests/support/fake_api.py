"""An API server that is a few dictionaries: enough to see which requests are made, and to answer as told."""

from __future__ import annotations

import copy
from typing import Any

from tunesmith_operator.engine.kube.api_errors import ApiError

Object = dict[str, Any]


class FakeClient:
    """Takes a KubeClient's place. Objects are by path; `requests` holds what was asked, `refuse` what to refuse."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Object] = []
        self.refuse: dict[tuple[str, str], ApiError] = {}
        self.version = 100

    async def request(self, method: str, path: str, *, query: Any = None, body: Any = None, **_: Any) -> Object:
        self.requests.append((method, path))
        self.bodies.append(copy.deepcopy(body))
        if (error := self.refuse.get((method, path))) is not None:
            raise error
        if method == "POST":
            name = body["metadata"]["name"]
            if f"{path}/{name}" in self.objects:
                raise ApiError(409, "AlreadyExists", f"{name} already exists")
            return self.store(f"{path}/{name}", body)
        main = path.removesuffix("/status")
        if method == "PATCH":
            if path.endswith("/status"):
                held = self._get(main)
                wanted = body["metadata"].get("resourceVersion")
                if wanted is not None and wanted != held["metadata"]["resourceVersion"]:
                    raise ApiError(409, "Conflict", "the object has been modified")
                status = {**(held.get("status") or {}), **body["status"]}
                return self.store(main, {**held, "status": status})
            held = self.objects.get(main, {})
            return self.store(main, {**held, **body, "metadata": {**held.get("metadata", {}), **body["metadata"]}})
        if method == "PUT":
            if body["metadata"].get("resourceVersion") != self._get(main)["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "the object has been modified")
            return self.store(main, body)
        found = self._get(main)
        if method == "DELETE":
            del self.objects[main]
            return {"kind": "Status", "status": "Success"}
        return copy.deepcopy(found)

    def store(self, path: str, obj: Object) -> Object:
        """Put an object where requests find it, with the next resourceVersion, and return a copy."""
        self.version += 1
        obj = copy.deepcopy(obj)
        uid = self.objects.get(path, {}).get("metadata", {}).get("uid") or f"uid-{self.version}"
        obj["metadata"] = {"uid": uid, **obj["metadata"], "resourceVersion": str(self.version)}
        self.objects[path] = obj
        return copy.deepcopy(obj)

    def _get(self, path: str) -> Object:
        if path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} not found")
        return self.objects[path]
