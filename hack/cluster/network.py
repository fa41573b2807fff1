"""The cluster's addresses and names, and the bridge that connects its pods."""

import subprocess

from cluster import packages
from cluster.errors import CannotRunError, ClusterError

SERVICES = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
PODS = "10.244.0.0/16"
GATEWAY = "10.244.0.1"
"""The bridge's address: the node's, the API server's, and what pods send everything to."""
BRIDGE = "tunesmith0"
_MAC = "02:54:53:00:00:01"  # a bridge without one of its own changes it with each pod
_PROXY_TABLES = ("ip kube-proxy", "ip6 kube-proxy")
_REMOVE = {"interface": ("ip", "link", "delete"), "table": ("nft", "delete", "table")}
_MASQUERADE = f"""
table ip tunesmith {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {PODS} ip daddr != {PODS} oifname != "{BRIDGE}" masquerade
  }}
}}
"""


def check_free() -> None:
    """Raise CannotRunError when the addresses or the firewall's tables are in use by something else."""
    if f" {GATEWAY}/" in _run("ip", "-4", "-o", "address", "show"):
        raise CannotRunError(
            f"The address {GATEWAY}, which the cluster's bridge is to have, is in use on this machine."
        )
    if "table ip kube-proxy" in _run("nft", "list", "tables"):
        raise CannotRunError("Another cluster's kube-proxy runs on this machine, and there can be one only.")


def set_up() -> None:
    """Create the bridge, and masquerade traffic from pods to other networks."""
    _run("ip", "link", "add", BRIDGE, "address", _MAC, "type", "bridge")
    _run("ip", "address", "add", f"{GATEWAY}/{PODS.partition('/')[2]}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    _run("nft", "-f", "-", text=_MASQUERADE)


def tear_down() -> None:
    """Remove the bridge and the firewall's tables, including kube-proxy's, if they exist."""
    for left in leftovers():
        _run(*_REMOVE[left.split()[0]], *left.split()[1:])


def leftovers() -> list[str]:
    """Return what exists of the bridge and the tables: `interface NAME`, `table FAMILY NAME`."""
    names = [line.split()[1].rstrip(":") for line in _run("ip", "-o", "link", "show").splitlines()]
    tables = _run("nft", "list", "tables").splitlines()
    wanted = [f"table {table}" for table in (*_PROXY_TABLES, "ip tunesmith")]
    return [f"interface {BRIDGE}"] * (BRIDGE in names) + [table for table in wanted if table in tables]


def _run(program: str, *arguments: str, text: str | None = None) -> str:
    path = packages.find(program)
    if path is None:
        return ""  # what was never installed has left nothing
    result = subprocess.run([path, *arguments], input=text, capture_output=True, text=True)
    if result.returncode:
        raise ClusterError(f"{program} {' '.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout
