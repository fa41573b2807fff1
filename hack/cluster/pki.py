"""Certificates and kubeconfigs, made with openssl."""

import base64
import json
import subprocess
from pathlib import Path

from cluster.errors import CannotRunError, ClusterError

_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]


def make_authority(folder: Path) -> None:
    """Write ca.crt and ca.key, and the key that signs service-account tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "basicConstraints=critical,CA:TRUE"]
    files = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    _openssl("req", "-x509", *_CURVE, "-subj", "/CN=tunesmith-cluster", *usage, *files)
    _openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", str(folder / "service-account.key"))


def make_certificate(folder: Path, name: str, user: str, group: str = "", addresses: tuple[str, ...] = ()) -> None:
    """Write NAME.crt and NAME.key: for a client `user` of `group`, and for a server at `addresses`, if any."""
    subject = (f"/O={group}" if group else "") + f"/CN={user}"
    extensions = ["-addext", "extendedKeyUsage=clientAuth,serverAuth", "-addext", "basicConstraints=critical,CA:FALSE"]
    if addresses:
        kinds = ("IP" if address.replace(".", "").isdigit() else "DNS" for address in addresses)
        names = ",".join(f"{kind}:{address}" for kind, address in zip(kinds, addresses, strict=True))
        extensions += ["-addext", f"subjectAltName={names}"]
    authority = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    _openssl("req", "-x509", *_CURVE, "-subj", subject, *authority, *extensions, *files)


def write_kubeconfig(path: Path, server: str, folder: Path, name: str) -> None:
    """Write a kubeconfig (JSON is YAML) that contains the certificate NAME."""
    data = {
        file: base64.b64encode((folder / file).read_bytes()).decode()
        for file in ("ca.crt", f"{name}.crt", f"{name}.key")
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "tunesmith", "cluster": {"server": server, "certificate-authority-data": data["ca.crt"]}}
        ],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": data[f"{name}.crt"], "client-key-data": data[f"{name}.key"]},
            }
        ],
        "contexts": [{"name": "tunesmith", "context": {"cluster": "tunesmith", "user": name}}],
        "current-context": "tunesmith",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))


def _openssl(*arguments: str) -> None:
    try:
        result = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotRunError("openssl is not installed; install it to run a cluster.") from None
    if result.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {result.stderr.strip()}")
