"""Creates a PersistentVolume, a folder on this machine, for each claim of the cluster's storage classes.

`python -m cluster.provisioner NAME`. What it does follows from what there is, looked at again after each change, so it
can be ended and started at any time.
"""

import queue
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from cluster.addons import PROVISIONER
from cluster.api import Api, ApiError, Object
from cluster.paths import Paths

_BY = "pv.kubernetes.io/provisioned-by"
_FOR = "volume.kubernetes.io/storage-provisioner"
_CLAIMS, _VOLUMES, _CLASSES = (
    "/api/v1/persistentvolumeclaims",
    "/api/v1/persistentvolumes",
    "/apis/storage.k8s.io/v1/storageclasses",
)


def main() -> None:
    """Serve claims until the process is stopped."""
    paths = Paths(sys.argv[1])
    api = Api(paths.kubeconfig)
    changes: queue.SimpleQueue[None] = queue.SimpleQueue()
    for path in (_CLAIMS, _VOLUMES):
        threading.Thread(target=follow, args=(api, path, changes), daemon=True).start()
    while True:
        changes.get()
        with suppress(queue.Empty):
            while True:
                changes.get_nowait()  # one look serves all of them
        try:
            reconcile(api, paths.volumes)
        except (ApiError, OSError) as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(0.5)
            changes.put(None)


def follow(api: Api, path: str, changes: "queue.SimpleQueue[None]") -> None:
    """Call back on each change of a list, forever."""
    while True:
        try:
            version = api.request("GET", path)["metadata"]["resourceVersion"]
            changes.put(None)
            for _ in api.watch(path, version, 300):
                changes.put(None)
        except (ApiError, OSError):
            time.sleep(0.5)


def reconcile(api: Api, folder: Path) -> None:
    """Create the requested volumes, and remove released ones with their contents."""
    for claim in api.request("GET", _CLAIMS)["items"]:
        asked = claim["metadata"].get("annotations", {}).get(_FOR) == PROVISIONER
        if asked and not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]:
            volume = _volume(api, claim, folder)
            path = Path(volume["spec"]["hostPath"]["path"])
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o777)  # whatever user a pod runs as; the kubelet leaves a hostPath's owner alone
            _send(api, "POST", _VOLUMES, volume)
    for volume in api.request("GET", _VOLUMES)["items"]:
        ours = volume["metadata"].get("annotations", {}).get(_BY) == PROVISIONER
        released = volume.get("status", {}).get("phase") == "Released"
        if ours and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            path = Path(volume["spec"]["hostPath"]["path"])
            if path.parent == folder and path.exists():
                shutil.rmtree(path)
            _send(api, "DELETE", f"{_VOLUMES}/{volume['metadata']['name']}")


def _send(api: Api, method: str, path: str, body: Object | None = None) -> None:
    """Make a change, unless it has been made already."""
    try:
        api.request(method, path, body)
    except ApiError as error:
        if error.status not in (404, 409):
            raise


def _volume(api: Api, claim: Object, folder: Path) -> Object:
    """Return the PersistentVolume for a claim; a folder supports any access mode."""
    meta, spec = claim["metadata"], claim["spec"]
    storage_class = api.request("GET", f"{_CLASSES}/{spec['storageClassName']}")
    name = f"pvc-{meta['uid']}"
    reference = {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            "hostPath": {"path": str(folder / name), "type": "Directory"},
            "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
            "storageClassName": spec["storageClassName"],
        },
    }


if __name__ == "__main__":
    main()
