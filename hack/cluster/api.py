"""A small client of the Kubernetes API that needs only the standard library."""

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """A client for a kubeconfig that `pki.write_kubeconfig` wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as file:
            parts = (user["client-certificate-data"], user["client-key-data"])
            file.write(b"".join(map(base64.b64decode, parts)))
            file.flush()
            self._context.load_cert_chain(file.name)
        self._host = urlsplit(cluster["server"]).netloc

    def request(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Return the answer to one request.

        Raises:
            ApiError: The API server refuses.
            OSError: It cannot be reached.
        """
        connection = http.client.HTTPSConnection(self._host, context=self._context, timeout=10)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise ApiError(answer.status, text.decode(errors="replace")[:1000])
        return json.loads(text) if text.startswith(b"{") else {}

    def watch(self, path: str, version: str, seconds: int) -> Iterator[Object]:
        """Yield the events of a list's path after a resource version; ends after some seconds.

        Raises:
            ApiError: The version is too old, or something else that the API server says.
            OSError: The connection broke.
        """
        connection = http.client.HTTPSConnection(self._host, context=self._context, timeout=seconds + 10)
        try:
            connection.request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}")
            answer = connection.getresponse()
            if answer.status >= 300:
                raise ApiError(answer.status, answer.read().decode(errors="replace")[:1000])
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
