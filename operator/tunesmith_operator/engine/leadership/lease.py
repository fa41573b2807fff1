"""Leader election by a coordination.k8s.io Lease: one replica reconciles, the others stand by.

The holder renews the lease well before it expires. A replica that cannot renew it stops leading while the lease is
still its own. Others take the lease only after they have seen no change of it for its whole duration by their own
clock, so clocks need not agree. A replica that stops gives the lease back, and the next one takes it at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.client import KubeClient, Method
from tunesmith_operator.engine.kube.resources import LEASE
from tunesmith_operator.engine.reconciler import KubeObject

_log = logging.getLogger(__name__)


class LeaseClient:
    """Reads and writes one Lease, without retries: the election retries by itself.

    Args:
        client: The client.
        namespace: The Lease's namespace.
        name: Its name.
        seconds: Time limit of a request.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str, seconds: float) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._seconds = seconds

    async def read(self) -> KubeObject | None:
        """Return the Lease, or None when there is none."""
        try:
            return await self._request("GET", LEASE.path(self._namespace, self._name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def write(self, spec: KubeObject, observed: KubeObject | None) -> KubeObject:
        """Create the Lease, or replace the spec of the one that was read.

        Raises:
            ApiError: It was refused; with status 409 if another replica has written it meanwhile.
        """
        metadata: KubeObject = {"name": self._name, "namespace": self._namespace}
        if observed is not None:
            metadata["resourceVersion"] = observed["metadata"]["resourceVersion"]
        body = {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
        if observed is None:
            return await self._request("POST", LEASE.path(self._namespace), body)
        return await self._request("PUT", LEASE.path(self._namespace, self._name), body)

    async def _request(self, method: Method, path: str, body: KubeObject | None = None) -> KubeObject:
        return await self._client.request(method, path, body=body, attempts=1, seconds=self._seconds)


class LeaderElection:
    """Takes, keeps and gives back a Lease.

    Args:
        lease: The Lease.
        identity: Name of this replica.
        seconds: How long a lease is good for after it was renewed.
        clock: Seconds that only go forward.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        lease: LeaseClient,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lease = lease
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._observed: KubeObject | None = None
        self._observed_at = 0.0
        self._renewed_at = 0.0
        self.led_since = 0.0
        """When this replica last became the holder, by the clock."""
        self._warned = ""

    @property
    def retry_seconds(self) -> float:
        """Time between two looks at the lease, and between two renewals."""
        return self._seconds / 7.5

    @property
    def deadline_seconds(self) -> float:
        """Time after the last renewal at which this replica stops leading: before others may take the lease."""
        return self._seconds * 2 / 3

    async def acquire(self) -> None:
        """Wait until this replica holds the lease."""
        holder = None
        while not await self.try_to_take():
            if (now := self._holder()) != holder and now != self._identity:
                holder = now
                _log.info("the leader is %s; this replica waits", holder)
            await self._sleep(self.retry_seconds)
        _log.info("this replica leads")

    async def hold(self) -> None:
        """Renew the lease for as long as that succeeds; return when this replica may no longer lead."""
        while (left := self._renewed_at + self.deadline_seconds - self._clock()) > 0:
            await self._sleep(min(self.retry_seconds, left))
            left = self._renewed_at + self.deadline_seconds - self._clock()
            try:
                async with asyncio.timeout(max(left, 0)):
                    has_lease = await self.try_to_take()
            except TimeoutError:
                break
            if not has_lease and self._holder() != self._identity:
                _log.error("%s has taken the lease", self._holder())
                return
        _log.error("the lease could not be renewed in time")

    async def release(self) -> None:
        """Give the lease back if this replica holds it, so that the next one need not wait until it expires."""
        try:
            # A renewal that was cancelled may or may not have reached the server.
            self._observed = await self._lease.read()
            if self._observed is None or self._holder() != self._identity:
                return
            spec = {**self._observed["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._lease.write(spec, self._observed)
        except (ApiError, ApiUnreachableError) as error:
            _log.warning("the lease was not given back: %s", error)
        else:
            _log.info("the lease was given back")
        self._observed = None

    def _holder(self) -> str:
        return str(((self._observed or {}).get("spec") or {}).get("holderIdentity") or "")

    async def try_to_take(self) -> bool:
        """Take or renew the lease once; return whether this replica holds it now. Errors count as no."""
        asked_at = self._clock()
        try:
            if self._observed is None or self._holder() != self._identity:
                self._observe(await self._lease.read())
            if not self._is_free():
                return False
            was_mine = self._holder() == self._identity
            self._observe(await self._lease.write(self._spec(), self._observed))
        except ApiError as error:
            if error.status == 409:
                await self._look()
            else:
                self._warn(error)
            return False
        except ApiUnreachableError as error:
            self._warn(error)
            return False
        self._renewed_at = asked_at
        if not was_mine or not self.led_since:
            self.led_since = self._clock()
        self._warned = ""
        return True

    async def _look(self) -> None:
        try:
            self._observe(await self._lease.read())
        except (ApiError, ApiUnreachableError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        """Log why the lease cannot be read or written, once for each reason."""
        if str(error) != self._warned:
            self._warned = str(error)
            _log.warning("the lease cannot be read or written: %s", error)

    def _observe(self, lease: KubeObject | None) -> None:
        before = (self._observed or {}).get("metadata", {}).get("resourceVersion")
        if lease is None or lease["metadata"]["resourceVersion"] != before:
            self._observed_at = self._clock()
        self._observed = lease

    def _is_free(self) -> bool:
        if self._observed is None or self._holder() in ("", self._identity):
            return True
        duration = float(self._observed["spec"].get("leaseDurationSeconds") or self._seconds)
        return self._clock() >= self._observed_at + duration

    def _spec(self) -> KubeObject:
        before: KubeObject = (self._observed or {}).get("spec") or {}
        now = _now()
        is_mine = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": before.get("acquireTime", now) if is_mine else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if is_mine else 1),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
