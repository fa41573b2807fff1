"""The node: its requirements on this machine, containerd, the kubelet and kube-proxy."""

import json
from pathlib import Path

from cluster import binaries, containerd, control_plane, kernel, network, packages, pki
from cluster.paths import Paths
from cluster.state import State

NAME = "tunesmith"


def prepare(state: State) -> None:
    """Install and build what a node needs, and configure the machine for it.

    Raises:
        CannotRunError: This machine cannot be such a node.
    """
    packages.ensure(packages.FULL, cni=True)
    binaries.probe()
    binaries.coredns()
    state.sysctls = kernel.read_settings()
    state.save()  # from here on the machine differs, and stopping the cluster changes it back to this
    network.check_free()
    kernel.change_settings()
    kernel.make_cgroups(state.paths.cgroup)
    network.set_up()


def start_runtime(state: State) -> None:
    """Start containerd, with only the images of earlier clusters."""
    containerd.configure(state)
    containerd.forget_sandboxes(state.paths)
    containerd.start(state)


def start(state: State, folder: Path) -> None:
    """Start the kubelet and kube-proxy, whose programs are in `folder`."""
    pki.make_certificate(state.paths.pki, "kubelet", f"system:node:{NAME}", "system:nodes", (NAME, network.GATEWAY))
    pki.make_certificate(state.paths.pki, "kube-proxy", "system:kube-proxy")
    for name, content in (("kubelet", _kubelet(state)), ("kube-proxy", _proxy(state))):
        kubeconfig = state.paths.pki / f"{name}.kubeconfig"
        pki.write_kubeconfig(kubeconfig, control_plane.server_url(state), state.paths.pki, name)
        (state.paths.root / f"{name}.json").write_text(json.dumps(content, indent=1))
    state.start(
        "kubelet",
        [
            str(folder / "kubelet"),
            f"--config={state.paths.root / 'kubelet.json'}",
            f"--kubeconfig={state.paths.pki / 'kubelet.kubeconfig'}",
            f"--root-dir={state.paths.kubelet}",
            f"--cert-dir={state.paths.root / 'certificates' / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.GATEWAY}",
        ],
    )
    state.start("kube-proxy", [str(folder / "kube-proxy"), f"--config={state.paths.root / 'kube-proxy.json'}"])


def _kubelet(state: State) -> dict[str, object]:
    """Return the kubelet's configuration.

    It works on cgroup v1 too, has no opinion on how full the disk is, and never removes an image.
    """
    certificates = state.paths.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.GATEWAY,
        "port": state.port("kubelet"),
        "healthzPort": state.port("kubelet-healthz"),
        "tlsCertFile": str(certificates / "kubelet.crt"),
        "tlsPrivateKeyFile": str(certificates / "kubelet.key"),
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(certificates / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": network.DOMAIN,
        "resolvConf": resolver(),
        "containerRuntimeEndpoint": f"unix://{containerd.socket(state.paths)}",
        "podLogsDir": str(state.paths.root / "pod-logs"),
        "volumePluginDir": str(state.paths.root / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{state.paths.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "1Mi",
            **{f"{place}.{kind}": "0%" for place in ("nodefs", "imagefs") for kind in ("available", "inodesFree")},
        },
        "serializeImagePulls": False,
        # Else an image that was pulled under one name cannot be used under another by which it was imported.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "logging": {"verbosity": 1},
    }


def resolver() -> str:
    """Return a resolv.conf with this machine's real name servers, even if /etc/resolv.conf names a local one."""
    real = Path("/run/systemd/resolve/resolv.conf")
    return str(real if real.exists() else "/etc/resolv.conf")


def _proxy(state: State) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": network.PODS,
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": str(state.paths.pki / "kube-proxy.kubeconfig"), "qps": 500, "burst": 1000},
        "conntrack": {"maxPerCore": 0, "min": 0},
        "healthzBindAddress": f"127.0.0.1:{state.port('kube-proxy-healthz')}",
        "metricsBindAddress": f"127.0.0.1:{state.port('kube-proxy-metrics')}",
        "nftables": {"minSyncPeriod": "0.1s"},
    }


def remove_traces(paths: Paths) -> None:
    """Remove what the kubelet and the CNI plugins write outside the cluster's folders."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(paths.root):
            link.unlink()
    for result in Path("/var/lib/cni/results").glob("*"):
        if str(paths.run) in result.read_text(errors="replace"):
            result.unlink()
    plugins = Path("/var/lib/kubelet/device-plugins")
    if plugins.exists() and list(plugins.parent.iterdir()) == [plugins]:  # no other kubelet's
        (plugins / "kubelet.sock").unlink(missing_ok=True)
    for folder in ("/var/log/containers", "/var/lib/cni/results", "/var/lib/cni", plugins, plugins.parent):
        if Path(folder).exists() and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
