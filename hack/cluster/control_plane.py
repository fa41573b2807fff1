"""etcd, the API server, the controllers and the scheduler."""

from pathlib import Path

from cluster import pki
from cluster.network import DOMAIN, GATEWAY, KUBERNETES_SERVICE, SERVICES
from cluster.state import State


def address(state: State) -> str:
    """Return the address of the API server; pods, if any, can reach it too."""
    return GATEWAY if state.mode == "full" else "127.0.0.1"


def server_url(state: State) -> str:
    """Return the API server's URL."""
    return f"https://{address(state)}:{state.port('kube-apiserver')}"


def make_credentials(state: State) -> None:
    """Write certificates and kubeconfigs."""
    folder = state.paths.pki
    pki.make_authority(folder)
    names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{DOMAIN}",
        "localhost",
    )
    addresses = ("127.0.0.1", KUBERNETES_SERVICE, address(state))
    pki.make_certificate(folder, "kube-apiserver", "kube-apiserver", addresses=names + tuple(dict.fromkeys(addresses)))
    users = {
        "admin": ("tunesmith-admin", "system:masters"),
        "kube-controller-manager": ("system:kube-controller-manager", ""),
    }
    if state.mode == "full":
        users["kube-scheduler"] = ("system:kube-scheduler", "")
        users["kubelet-client"] = ("kube-apiserver", "system:masters")
    for name, (user, group) in users.items():
        pki.make_certificate(folder, name, user, group)
        path = state.paths.kubeconfig if name == "admin" else folder / f"{name}.kubeconfig"
        pki.write_kubeconfig(path, server_url(state), folder, name)


def etcd(state: State) -> list[str]:
    """Return etcd's command line. Nothing is synced to disk: its data need not survive a crash of the machine."""
    client, peer = (f"http://127.0.0.1:{state.port(name)}" for name in ("etcd", "etcd-peer"))
    return [
        "--name=tunesmith",
        f"--data-dir={state.paths.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=tunesmith={peer}",
        "--unsafe-no-fsync",
        f"--quota-backend-bytes={4 << 30}",
        "--log-level=warn",
    ]


def api_server(state: State, controllers: bool, extra: list[str]) -> list[str]:
    """Return the API server's command line.

    Args:
        state: The cluster.
        controllers: Whether controllers run that make each namespace's service account.
        extra: More options, after these: the last one of a name counts.
    """
    folder = state.paths.pki
    options = {
        "etcd-servers": f"http://127.0.0.1:{state.port('etcd')}",
        "bind-address": address(state),
        "advertise-address": address(state),
        "secure-port": state.port("kube-apiserver"),
        "service-cluster-ip-range": SERVICES,
        "tls-cert-file": folder / "kube-apiserver.crt",
        "tls-private-key-file": folder / "kube-apiserver.key",
        "client-ca-file": folder / "ca.crt",
        "requestheader-client-ca-file": folder / "ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "service-account-key-file": folder / "service-account.key",
        "service-account-signing-key-file": folder / "service-account.key",
        "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "shutdown-delay-duration": "0s",
    }
    if state.mode == "full":
        options["kubelet-client-certificate"] = folder / "kubelet-client.crt"
        options["kubelet-client-key"] = folder / "kubelet-client.key"
        options["kubelet-certificate-authority"] = folder / "ca.crt"
        options["kubelet-preferred-address-types"] = "InternalIP"
    else:
        options["endpoint-reconciler-type"] = "none"  # a Service cannot have a loopback address as its endpoint
    if not controllers:
        options["disable-admission-plugins"] = "ServiceAccount"
    return _options(options) + extra


def controller_manager(state: State) -> list[str]:
    """Return the controller manager's command line.

    It never finds a node to be gone: nodes that tests make as plain objects have nobody who keeps them alive. Its own
    limit of requests is high, for a burst of a thousand Jobs is not to wait for it.
    """
    folder = state.paths.pki
    return _options(
        {
            **_clients(state, "kube-controller-manager"),
            "service-account-private-key-file": folder / "service-account.key",
            "root-ca-file": folder / "ca.crt",
            "cluster-signing-cert-file": folder / "ca.crt",
            "cluster-signing-key-file": folder / "ca.key",
            "use-service-account-credentials": "true",
            "node-monitor-grace-period": "24h",
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
        }
    )


def scheduler(state: State) -> list[str]:
    """Return the scheduler's command line."""
    return _options({**_clients(state, "kube-scheduler"), "kube-api-qps": 500, "kube-api-burst": 1000})


def _clients(state: State, name: str) -> dict[str, object]:
    """Return the options that all clients of the API server share."""
    kubeconfig = state.paths.pki / f"{name}.kubeconfig"
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "secure-port": state.port(name),
        "leader-elect": "false",
        "cert-dir": state.paths.root / "certificates" / name,
    }


def _options(options: dict[str, str | int | Path | object]) -> list[str]:
    return [f"--{key}={value}" for key, value in options.items()]
