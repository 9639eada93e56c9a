"""What a RayJob or a RayCluster is made of. Secrets are named here, never given: Kubernetes hands them to the pods."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from deploy.settings import Section, matching

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUANTITY = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti)")
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
IMAGE = re.compile(
    r"([a-z0-9.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(?P<tag>:\w[\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
MOUNT = re.compile(r"(/(?!\.+(/|$))[\w.-]+)+", re.ASCII)
TAKEN = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sweep",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
)


def _pinned(text: str) -> str:
    found = IMAGE.fullmatch(text)
    if not found:
        raise ValueError("must be a container image such as registry.example/relu-sweeps:0.1.0")
    if found["tag"] == ":latest" or not (found["tag"] or found["digest"]):
        raise ValueError("must be pinned: a tag other than latest, or @sha256:...")
    return text


def _free(text: str) -> str:
    if any(text == place or text.startswith(f"{place}/") for place in TAKEN):
        raise ValueError("must not lie where the image or the pod keeps its own")
    return text


Label = Annotated[str, matching(LABEL, "must be a name of at most 63 small letters, digits and -")]
Name = Annotated[str, matching(SUBDOMAIN, "must be a name of small letters, digits, - and .")]
Quantity = Annotated[str, matching(QUANTITY, "must be an amount of memory such as 16Gi")]
LabelKey = Annotated[str, matching(KEY, "must be the key of a label or a taint, such as nvidia.com/gpu")]
LabelValue = Annotated[str, matching(VALUE, "must be the value of a label")]
Mount = Annotated[str, matching(MOUNT, "must be an absolute path such as /data"), AfterValidator(_free)]


class Kuberay(Section):
    """Settings of `sweeps submit --kuberay`."""

    image: Annotated[str, AfterValidator(_pinned)] = Field(
        description="container image that has this package, of the same version as the client, pinned"
    )
    namespace: Label = Field("default", description="where all of it is made")
    operator_namespace: Label = Field(
        "kuberay-system", description="where the KubeRay operator runs, which alone may reach the pods from outside"
    )
    gpus_per_worker: int = Field(1, ge=0, le=64, description="GPUs of a worker pod; 0 for a cluster of CPUs")
    worker_cpus: int = Field(4, ge=1, le=1024, description="CPU cores of a worker pod")
    worker_memory: Quantity = Field("16Gi", description="memory of a worker pod")
    head_cpus: int = Field(2, ge=1, le=1024, description="CPU cores of the head pod, which measures nothing")
    head_memory: Quantity = Field("8Gi", description="memory of the head pod")
    min_workers: int = Field(1, ge=0, le=10_000, description="worker pods that are kept, and with which it begins")
    max_workers: int = Field(4, ge=1, le=10_000, description="worker pods at most")
    retries: int = Field(3, ge=0, le=100, description="new clusters after one that failed; each resumes from the store")
    ttl: int = Field(600, ge=0, description="seconds that the cluster stays after the sweep")
    deadline: int | None = Field(None, ge=1, description="seconds after which the sweep is ended; none by default")
    secrets: tuple[Name, ...] = Field(
        (), description="Secrets whose keys the pods get as environment: object store, MLFLOW_TRACKING_URI"
    )
    token_secret: Name | None = Field(
        None, description="Secret with Ray's token as auth_token; by default KubeRay makes one for each cluster"
    )
    image_pull_secret: Name | None = Field(None, description="Secret of the registry that has the image")
    node_selector: dict[LabelKey, LabelValue] = Field({}, description="labels of the nodes for workers")
    tolerations: tuple[LabelKey, ...] = Field(("nvidia.com/gpu",), description="taints that workers put up with")
    runtime_class: Name | None = Field(None, description="RuntimeClass of workers, where GPUs need one, such as nvidia")
    claim: Name | None = Field(
        None, description="PersistentVolumeClaim that all pods share, for a store that is a path"
    )
    mount: Mount = Field("/data", description="where the claim is mounted")

    @field_validator("max_workers")
    @classmethod
    def _no_less_than_least(cls, most: int, info: ValidationInfo) -> int:
        if most < info.data.get("min_workers", 0):
            raise ValueError(f"must not be less than min_workers, which is {info.data['min_workers']}")
        return most
