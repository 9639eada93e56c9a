"""A sweep as a RayJob of KubeRay, or a standing RayCluster, and what guards and feeds it: plain dicts, then YAML.

The operator submits the job (`HTTPMode`): it reads Ray's token from its Secret itself and needs one pod less, and no
job of ours stands in a command line. What the driver reads is a ConfigMap on the head. A try that fails is followed
by a new cluster, and its driver measures what the store lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

import yaml

from deploy.jobs import about
from deploy.kuberay import pods
from deploy.kuberay.pods import CLUSTER, JOB, Manifest, labels
from deploy.kuberay.settings import Kuberay
from deploy.payload import FILE, Payload
from sweeps.errors import RefusedError

MOST = 1 << 20  # bytes of a ConfigMap
WIDE = 100_000  # no line is folded
SCRIPT = "run.sh"
RUN = f"""\
python -m deploy.driver {FILE}
status=$?
[ "$status" = 4 ] && exit 0  # its budget is spent, as asked: no failure, to be tried again on a new cluster
exit "$status"
"""
METADATA = {"0.0.0.0/0": ["169.254.0.0/16"], "::/0": ["fe80::/10", "fd00:ec2::/32"]}
"""All addresses, and those of them where clouds hand a node's own credentials to whoever asks."""


def job(bag: Payload, held: Kuberay) -> list[Manifest]:
    """All objects of a sweep, in the order in which they are to be made.

    Raises:
        RefusedError: the spec is too large for a ConfigMap.
    """
    spec: Manifest = {
        "entrypoint": f"cd {JOB} && exec sh {SCRIPT}",
        "jobId": bag.id,
        "metadata": about(bag),
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": held.ttl,
        "backoffLimit": held.retries,
    }
    if held.deadline:
        spec["activeDeadlineSeconds"] = held.deadline
    spec["rayClusterSpec"] = _cluster(held, bag.id, bag.id)
    rayjob = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": _metadata(held, bag.id), "spec": spec}
    return [network_policy(held, bag.id), config_map(bag, held), rayjob]


def cluster(held: Kuberay, name: str) -> list[Manifest]:
    """A cluster that stays, for `sweeps submit --address`."""
    spec = _cluster(held, name, None)
    raycluster = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": _metadata(held, name), "spec": spec}
    return [network_policy(held, name), raycluster]


def text(documents: Iterable[Manifest]) -> str:
    """As YAML, without references between equal parts."""
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, explicit_start=True, width=WIDE)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _as_it_is(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Plain.add_representer(str, _as_it_is)


def config_map(bag: Payload, held: Kuberay) -> Manifest:
    data = {FILE: bag.text(indent=1), SCRIPT: RUN}
    size = sum(len(k.encode()) + len(v.encode()) for k, v in data.items())
    if size > MOST:
        raise RefusedError(f"the spec of {bag.name!r} has {size} bytes, over the {MOST} of a ConfigMap; write less out")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(held, bag.id), "data": data}


def network_policy(held: Kuberay, name: str) -> Manifest:
    """The pods hear each other, and the operator on the dashboard's port; they reach anybody but a cloud's metadata."""
    ours = {"podSelector": {"matchLabels": {CLUSTER: name}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": held.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
    }
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    blocks = [{"ipBlock": {"cidr": everywhere, "except": but}} for everywhere, but in METADATA.items()]
    spec = {
        "podSelector": {"matchLabels": {CLUSTER: name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [ours]},
            {"from": [operator], "ports": [{"port": pods.PORTS["dashboard"], "protocol": "TCP"}]},
        ],
        "egress": [{"to": [ours]}, {"ports": names}, {"to": blocks}],
    }
    meta = _metadata(held, name)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def _cluster(held: Kuberay, name: str, job: str | None) -> Manifest:
    authentication = {"mode": "token", **({"secretName": held.token_secret} if held.token_secret else {})}
    return {
        "rayVersion": metadata.version("ray"),
        "authOptions": authentication,
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": pods.autoscaler(),
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},
            "template": pods.head(held, name, job),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": held.min_workers,
                "minReplicas": held.min_workers,
                "maxReplicas": held.max_workers,
                "rayStartParams": {},
                "template": pods.worker(held, name),
            }
        ],
    }


def _metadata(held: Kuberay, name: str) -> Manifest:
    return {"name": name, "namespace": held.namespace, "labels": labels(name)}
