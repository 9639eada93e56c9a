"""The pods of a Ray cluster: what each may do, hold and see.

All run as one user without rights, on a root that cannot be written, with a temporary folder of their own. Of the
pods' containers only the autoscaler's gets the service account's token, which KubeRay binds to the one cluster: the
pods mount none by themselves, and the head's token is a volume that this container alone has. It shares no folder
with the head's container but the one where Ray keeps its logs, which KubeRay adds.
"""

from __future__ import annotations

import json
from typing import Any

from deploy.kuberay.settings import Kuberay
from deploy.payload import GROWS_TO

Manifest = dict[str, Any]

USER = 10001  # as in the Dockerfile
CLUSTER = "relu-sweeps/cluster"  # label of everything that is of one cluster, however often KubeRay makes it anew
GPU = "nvidia.com/gpu"
JOB = "/sweep"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607  # as Kubernetes' own
ROOM = "10Gi"  # of a temporary folder
ASIDE = (
    "tmp-autoscaler"  # of its own: what lies in the head's, the profile of its shell say, is anybody's who runs code
)
CONFINED: Manifest = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
PORTS = {"gcs-server": 6379, "dashboard": 8265}
IDLE_SECONDS = 300


def labels(name: str) -> Manifest:
    return {"app.kubernetes.io/name": "relu-sweeps", CLUSTER: name}


def head(held: Kuberay, name: str, job: str | None) -> Manifest:
    """The head's template; `job` is the ConfigMap that it shows to the driver."""
    container = _container("ray-head", held, _resources(held.head_cpus, held.head_memory))
    container["ports"] = [{"name": port, "containerPort": number} for port, number in PORTS.items()]
    container["env"].append({"name": GROWS_TO, "value": json.dumps(grows_to(held))})
    pod = _pod(held, container)
    pod["volumes"] += [{"name": ASIDE, "emptyDir": {"sizeLimit": ROOM}}, {"name": "token", "projected": _projected()}]
    if job:
        pod["volumes"].append({"name": "job", "configMap": {"name": job}})
        container["volumeMounts"].append({"name": "job", "mountPath": JOB, "readOnly": True})
    return {"metadata": {"labels": labels(name)}, "spec": pod}


def worker(held: Kuberay, name: str) -> Manifest:
    resources = _resources(held.worker_cpus, held.worker_memory, held.gpus_per_worker)
    pod = _pod(held, _container("ray-worker", held, resources))
    if held.node_selector:
        pod["nodeSelector"] = dict(held.node_selector)
    if held.tolerations:
        pod["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in held.tolerations]
    if held.runtime_class:
        pod["runtimeClassName"] = held.runtime_class
    return {"metadata": {"labels": labels(name)}, "spec": pod}


def autoscaler() -> Manifest:
    """What KubeRay is told of the container that it adds to the head's pod."""
    mounts = [{"name": ASIDE, "mountPath": "/tmp"}, {"name": "token", "mountPath": TOKEN, "readOnly": True}]
    return {
        "version": "v2",
        "idleTimeoutSeconds": IDLE_SECONDS,
        "imagePullPolicy": "IfNotPresent",
        "resources": {kind: {"cpu": "500m", "memory": "1Gi"} for kind in ("limits", "requests")},
        "securityContext": CONFINED,
        "env": [{"name": "HOME", "value": "/tmp"}],
        "volumeMounts": mounts,
    }


def grows_to(held: Kuberay) -> dict[str, int]:
    """What a full cluster offers, by Ray's names."""
    most = {"CPU": held.max_workers * held.worker_cpus, "GPU": held.max_workers * held.gpus_per_worker}
    return {name: number for name, number in most.items() if number}


def _pod(held: Kuberay, container: Manifest) -> Manifest:
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": ROOM}}],
    }
    if held.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": held.image_pull_secret}]
    if held.claim:
        pod["volumes"].append({"name": "store", "persistentVolumeClaim": {"claimName": held.claim}})
    return pod


def _container(name: str, held: Kuberay, resources: Manifest) -> Manifest:
    # The mode is said here too: an operator that knew no authOptions would otherwise leave the cluster open.
    environment = {"HOME": "/tmp", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    container: Manifest = {
        "name": name,
        "image": held.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {"limits": resources, "requests": resources},
        "securityContext": CONFINED,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    if held.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in held.secrets]
    if held.claim:
        container["volumeMounts"].append({"name": "store", "mountPath": held.mount})
    return container


def _resources(cpus: int, memory: str, gpus: int = 0) -> Manifest:
    return {"cpu": str(cpus), "memory": memory, **({GPU: str(gpus)} if gpus else {})}


def _projected() -> Manifest:
    """The token as Kubernetes mounts it by itself."""
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    token = {"path": "token", "expirationSeconds": TOKEN_SECONDS}
    return {"sources": [{"serviceAccountToken": token}, {"configMap": authority}]}
