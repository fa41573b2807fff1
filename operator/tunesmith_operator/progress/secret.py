"""The Secret with the progress server's certificate, shared by all replicas, and the ConfigMaps with its authority."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import APPLY, KubeClient
from tunesmith_operator.engine.kube.resources import CONFIG_MAP, SECRET
from tunesmith_operator.engine.labels import FIELD_MANAGER
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.progress.certificates import Certificates, is_good, issue

_log = logging.getLogger(__name__)
CA_CONFIG_MAP = "tunesmith-progress-ca"
CA_KEY = "ca.crt"
_KEYS = ("ca.crt", "ca.key", "tls.crt", "tls.key")


def server_names(url: str, cluster_domain: str) -> list[str]:
    """Return the names by which a URL's host is reached inside the cluster.

    Args:
        url: Such as `https://progress.tunesmith-system.svc:8443`.
        cluster_domain: DNS domain of the cluster.
    """
    host = urlsplit(url).hostname or ""
    parts = host.removesuffix(f".{cluster_domain}").split(".")
    if len(parts) == 3 and parts[2] == "svc":
        service = ".".join(parts[:2])
        return [parts[0], service, f"{service}.svc", f"{service}.svc.{cluster_domain}"]
    return [host]


async def shared_certificates(client: KubeClient, namespace: str, name: str, names: Iterable[str]) -> Certificates:
    """Return the certificates that all replicas use; the first replica creates or renews them.

    Raises:
        ApiError: The Secret may not be read or written.
        ApiUnreachableError: The API server did not answer.
    """
    names = list(names)
    while True:
        observed = await _find(client, namespace, name)
        held = _certificates(observed) if observed is not None else None
        if held is not None and is_good(held, names):
            return held
        try:
            # Only an intact authority can sign again.
            again = held if held is not None and is_good(held, ()) else None
            fresh = issue(names, again)
            await _write(client, namespace, name, fresh, observed)
        except ApiError as error:
            if error.status != 409:
                raise
            continue  # Another replica was first: use its certificates.
        _log.info("the progress server has a new certificate for %s", ", ".join(names))
        return fresh


async def ensure_config_map(client: KubeClient, namespace: str, authority: bytes) -> None:
    """Write the ConfigMap with the authority's certificate into a namespace, unless it is there.

    Raises:
        ApiError: It may not be read or written.
        ApiUnreachableError: The API server did not answer.
    """
    path, data = CONFIG_MAP.path(namespace, CA_CONFIG_MAP), {CA_KEY: authority.decode()}
    try:
        observed = await client.request("GET", path)
        if observed.get("data") == data:
            return
    except ApiError as error:
        if error.status != 404:
            raise
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_CONFIG_MAP}, "data": data}
    query = {"fieldManager": FIELD_MANAGER, "force": "true"}
    await client.request("PATCH", path, query=query, body=body, content_type=APPLY, retry_conflict=True)


async def _find(client: KubeClient, namespace: str, name: str) -> KubeObject | None:
    try:
        return await client.request("GET", SECRET.path(namespace, name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _write(
    client: KubeClient, namespace: str, name: str, fresh: Certificates, observed: KubeObject | None
) -> None:
    values = (fresh.authority, fresh.authority_key, fresh.server, fresh.server_key)
    data = {key: base64.b64encode(value).decode() for key, value in zip(_KEYS, values, strict=True)}
    body: KubeObject = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "data": data,
    }
    if observed is None:
        await client.request("POST", SECRET.path(namespace), body=body)
        return
    # Labels and annotations stay: the chart may have created it empty.
    kept = {**observed, "data": {**(observed.get("data") or {}), **data}}
    await client.request("PUT", SECRET.path(namespace, name), body=kept)


def _certificates(secret: KubeObject) -> Certificates | None:
    data = secret.get("data") or {}
    try:
        return Certificates(*(base64.b64decode(data[key]) for key in _KEYS))
    except (KeyError, ValueError):
        return None
