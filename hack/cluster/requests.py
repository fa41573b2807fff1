"""Requests to the Kubernetes API by any kubeconfig, with objects as the API server writes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import config

Object = dict[str, Any]


class ApiError(Exception):
    """The API server's refusal.

    Attributes:
        status: The HTTP status.
        reason: The API's reason, such as `NotFound` or `Invalid`.
        message: The API's own words.
    """

    def __init__(self, status: int, text: str) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        self.status, self.reason, self.message = status, answer.get("reason", ""), answer.get("message", text)
        super().__init__(f"{status} {self.reason}: {self.message}")


@dataclass(frozen=True)
class Resource:
    """Where the objects of a kind are.

    Attributes:
        version: Group and version, such as `batch/v1`.
        plural: The kind's name in paths.
        namespaced: Whether its objects are in namespaces.
    """

    version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of an object, or of a list."""
        parts = ["/apis" if "/" in self.version else "/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *([name] if name else [])])


class Http:
    """A connection to one API server; several threads may use it."""

    def __init__(self, kubeconfig: Path, context: str | None = None) -> None:
        self._client = config.new_client_from_config(str(kubeconfig), context)
        self._resources: dict[str, Resource] = {}

    def request(
        self,
        method: str,
        path: str,
        body: Object | bytes | None = None,
        kind: str = "application/json",
        **query: str | int,
    ) -> Object:
        """Return the answer to one request.

        Raises:
            ApiError: The API server refuses.
            urllib3.exceptions.HTTPError: It cannot be reached.
        """
        response = self._send(method, path, body, kind, query, 30)
        text = response.data.decode()
        if response.status >= 300:
            raise ApiError(response.status, text)
        return json.loads(text) if text.startswith("{") else {"text": text}

    def watch(self, path: str, seconds: float, **query: str | int) -> Iterator[Object]:
        """Yield a watch's events, for some seconds at most.

        Raises:
            ApiError: The API server refuses, or says that the version is too old.
            urllib3.exceptions.HTTPError: The connection broke.
        """
        query |= {"watch": 1, "timeoutSeconds": max(1, int(seconds))}
        response = self._send("GET", path, None, "", query, seconds + 5, preload=False)
        try:
            if response.status >= 300:
                raise ApiError(response.status, response.data.decode())
            rest = b""
            for chunk in response.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 500), json.dumps(event["object"]))
                    yield event
        finally:
            response.close()

    def resource(self, kind: str) -> Resource:
        """Return where a kind's objects are: the group that the API server names first, if several have it."""
        if kind not in self._resources:
            self._resources = self._discover()
        if kind not in self._resources:
            raise LookupError(f"The API server knows no kind {kind}.")
        return self._resources[kind]

    def _discover(self) -> dict[str, Resource]:
        found: dict[str, Resource] = {}
        groups = [("/api/v1", "v1")]
        for group in self.request("GET", "/apis")["groups"]:
            version = group["preferredVersion"]["groupVersion"]
            groups.append((f"/apis/{version}", version))
        for path, version in groups:
            for entry in self.request("GET", path)["resources"]:
                if "/" not in entry["name"]:
                    found.setdefault(entry["kind"], Resource(version, entry["name"], entry["namespaced"]))
        return found

    def _send(
        self,
        method: str,
        path: str,
        body: Object | bytes | None,
        kind: str,
        query: Object,
        timeout: float,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", **({"Content-Type": kind} if body is not None else {})}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._client.rest_client.pool_manager.request(
            method, url, body=content, headers=headers, timeout=timeout, retries=False, preload_content=preload
        )
