"""The manifests of a sweep on Kubernetes: what they say, that Kubernetes would understand it, and what they guard."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy import payload, settings
from deploy.kuberay import manifests, pods, submit
from deploy.kuberay.cluster import NAME
from deploy.kuberay.settings import Kuberay
from storage.objects import CREDENTIALS
from sweeps.errors import RefusedError, SpecError
from tests.conftest import toy_spec
from tests.deploy.conftest import Said, write_toml
from tests.deploy.schemas import check, keys, misspelt

GOLDEN = Path(__file__).parent / "golden"
IMAGE = "registry.example/team/relu-sweeps:0.1.0"
ALL = {
    "image": f"registry.example:5000/relu-sweeps@sha256:{'0' * 64}",
    "namespace": "sweeps",
    "operator_namespace": "ray-system",
    "gpus_per_worker": 2,
    "min_workers": 0,
    "max_workers": 8,
    "deadline": 86_400,
    "secrets": ("bucket", "mlflow"),
    "token_secret": "ray-token",
    "image_pull_secret": "registry",
    "node_selector": {"gpu.example/model": "h100"},
    "tolerations": ("nvidia.com/gpu", "team"),
    "runtime_class": "nvidia",
    "claim": "results",
    "mount": "/results",
}
REFUSED = (jsonschema.ValidationError, kubernetes_validate.ValidationError)
SECRETS = {
    "AWS_ACCESS_KEY_ID": "aws-id-hush",
    "RAY_AUTH_TOKEN": "ray-hush",
    "AWS_SECRET_ACCESS_KEY": "aws-hush",
    "MLFLOW_TRACKING_URI": "https://me:mlflow-hush@mlflow.example",
}
Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same manifests whoever makes them, and secrets in the environment that must not get into them."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(payload, "made_by", dict)
    monkeypatch.setattr(payload, "versions", lambda: {payload.PACKAGE: "0.1.0", "rule": "1", "layout": "1"})
    monkeypatch.setattr(manifests.metadata, "version", lambda name: "2.60.0")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Of a sweep whose store is a bucket."""
    return stored(tmp_path, "s3://bucket/toy.zarr")


def stored(folder: Path, url: str) -> Path:
    return write_toml(folder / "toy.toml", toy_spec(store={"url": url}))


def made(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    """Every set of documents that there is, by the name of its golden file."""
    few, all_ = Kuberay(image=IMAGE), Kuberay(**ALL)  # type: ignore[arg-type]
    spec = stored(Path.cwd(), "s3://bucket/toy.zarr")
    bags = [submit.packed(str(spec), held, ["kuberay.image=..."], None) for held in (few, all_)]
    return {
        "job.yaml": manifests.job(bags[0], few),
        "job-all-settings.yaml": manifests.job(bags[1], all_),
        "cluster.yaml": manifests.cluster(few, NAME),
    }


NAMES = ("job.yaml", "job-all-settings.yaml", "cluster.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_the_manifests_are_those_of_the_golden_files(name: str) -> None:
    """UPDATE_GOLDEN=1 writes them anew, to be read before they are committed."""
    documents = made()[name]
    text = manifests.text(documents)
    assert list(yaml.safe_load_all(text)) == documents
    text = text.replace(str(Path.cwd()), "/home/me")
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_knows_every_field(name: str) -> None:
    for document in made()[name]:
        check(document)


FREE = {"labels", "matchLabels", "metadata", "data", "limits", "requests", "rayStartParams", "nodeSelector"}
"""Objects whose keys are anybody's."""


@pytest.mark.parametrize("number", range(3), ids=["NetworkPolicy", "ConfigMap", "RayJob"])
def test_a_misspelt_field_is_refused_wherever_it_is(number: int) -> None:
    document = made()["job-all-settings.yaml"][number]
    wrong = {path: misspelt(document, path) for path in keys(document)}
    assert max(map(len, wrong)) >= (6, 3, 9)[number]
    accepted = set()
    for path, changed in wrong.items():
        try:
            check(changed)
        except (*REFUSED, KeyError):  # without a kind there is no schema to look for
            continue
        accepted.add(path)
    optional = {path for path in accepted if path[-2:-1] and path[-2] in FREE}
    assert accepted == optional
    assert optional, "labels are free, or nothing was checked"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "backoffLimit"), "3"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), 1.5),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "automountServiceAccountToken"), "no"),
    ],
)
def test_a_wrong_value_is_refused(path: tuple[str | int, ...], value: object) -> None:
    document = made()["job.yaml"][-1]
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] != value
    place[path[-1]] = value
    with pytest.raises(REFUSED):
        check(document)


def clusters() -> Iterator[dict[str, Any]]:
    for documents in made().values():
        yield documents[-1]["spec"].get("rayClusterSpec", documents[-1]["spec"])


def templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def test_no_container_may_more_than_it_needs() -> None:
    for cluster in clusters():
        containers = [c for t in templates(cluster) for c in t["spec"]["containers"]]
        assert len(containers) == 2
        for container in [*containers, cluster["autoscalerOptions"]]:
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
        for template in templates(cluster):
            assert template["spec"]["automountServiceAccountToken"] is False
            assert template["spec"]["securityContext"]["runAsUser"] == pods.USER
            assert "initContainers" not in template["spec"]


def test_only_the_autoscaler_gets_the_service_accounts_token() -> None:
    for cluster in clusters():
        head, worker = templates(cluster)
        assert [v["name"] for v in head["spec"]["volumes"] if "projected" in v] == ["token"]
        assert not [v for v in worker["spec"]["volumes"] if "projected" in v]
        mounts = [m["name"] for t in (head, worker) for c in t["spec"]["containers"] for m in c["volumeMounts"]]
        assert "token" not in mounts
        mount = {"name": "token", "mountPath": pods.TOKEN, "readOnly": True}
        theirs = cluster["autoscalerOptions"]["volumeMounts"]
        assert mount in theirs
        assert not {m["name"] for m in theirs} & set(mounts), "what code on the head writes, the autoscaler would read"


def test_authentication_is_on_and_fails_closed() -> None:
    for cluster in clusters():
        assert cluster["authOptions"]["mode"] == "token"
        for template in templates(cluster):
            assert {"name": "RAY_AUTH_MODE", "value": "token"} in template["spec"]["containers"][0]["env"]


def test_the_head_has_no_work_and_workers_have_the_gpus() -> None:
    for cluster in clusters():
        head, worker = (template["spec"]["containers"][0] for template in templates(cluster))
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert pods.GPU not in head["resources"]["limits"]
        gpus = int(worker["resources"]["limits"][pods.GPU])
        group = cluster["workerGroupSpecs"][0]
        assert group["minReplicas"] == group["replicas"] < group["maxReplicas"]
        most = json.loads(next(e["value"] for e in head["env"] if e["name"] == payload.GROWS_TO))
        assert most == {"GPU": gpus * group["maxReplicas"], "CPU": 4 * group["maxReplicas"]}


def test_only_the_cluster_and_the_operator_reach_the_pods() -> None:
    for documents in made().values():
        policy, name = documents[0]["spec"], documents[-1]["metadata"]["name"]
        assert policy["podSelector"]["matchLabels"] == {pods.CLUSTER: name}
        cluster = documents[-1]["spec"].get("rayClusterSpec", documents[-1]["spec"])
        assert all(template["metadata"]["labels"][pods.CLUSTER] == name for template in templates(cluster))
        ours, operator = policy["ingress"]
        assert ours == {"from": [{"podSelector": {"matchLabels": {pods.CLUSTER: name}}}]}
        assert operator["ports"] == [{"port": 8265, "protocol": "TCP"}]
        assert {"namespaceSelector", "podSelector"} == set(operator["from"][0])
        assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_no_secret_and_nothing_unpinned_is_in_a_manifest() -> None:
    for documents in made().values():
        text = manifests.text(documents)
        assert not re.search("hush|latest", text)
        assert not [d for d in documents if d["kind"] == "Secret"]
        assert all(pinned.count(":") >= 1 for pinned in re.findall(r"image: (\S+)", text))


def test_a_try_that_fails_is_made_again_and_one_that_spent_its_budget_is_not(tmp_path: Path) -> None:
    spec = made()["job.yaml"][-1]["spec"]
    assert (spec["backoffLimit"], spec["shutdownAfterJobFinishes"], spec["submissionMode"]) == (3, True, "HTTPMode")
    (tmp_path / manifests.SCRIPT).write_text(manifests.RUN)
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    for status, expected in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (130, 130)):
        fake.write_text(f'#!/bin/sh\n[ "$*" = "-m deploy.driver job.json" ] || exit 99\nexit {status}\n')
        fake.chmod(0o755)
        path = os.pathsep.join([str(fake.parent), os.environ["PATH"]])
        ran = subprocess.run(["sh", manifests.SCRIPT], cwd=tmp_path, env={"PATH": path})
        assert ran.returncode == expected


def test_the_id_is_that_of_the_sweep_and_its_store(tmp_path: Path) -> None:
    held = Kuberay(image=IMAGE)
    first, again = (submit.packed(str(stored(tmp_path, "s3://bucket/a.zarr")), held, [], None) for _ in range(2))
    other = submit.packed(str(stored(tmp_path, "s3://bucket/b.zarr")), held, [], None)
    assert first.id == again.id != other.id
    assert re.fullmatch(r"sweep-[0-9a-f]{16}", first.id)
    rayjob = manifests.job(first, held)[-1]
    assert rayjob["metadata"]["name"] == rayjob["spec"]["jobId"] == first.id


@pytest.mark.parametrize(
    ("changes", "url", "said"),
    [
        ({}, "/data/a.zarr", r"store\.url '/data/a\.zarr' is a path that the pods do not share: give one on a claim"),
        ({"claim": "disk"}, "/home/a.zarr", r"give one below /data, which is disk, or a bucket"),
        ({"claim": "disk"}, "a.zarr", r"store\.url 'a\.zarr' is relative, and the cluster is not on this machine"),
    ],
)
def test_a_store_that_the_pods_do_not_share_is_refused(tmp_path: Path, changes: dict, url: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        submit.packed(str(stored(tmp_path, url)), Kuberay(image=IMAGE, **changes), [], None)


def test_who_submits_needs_no_credentials_of_the_bucket(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CREDENTIALS, *SECRETS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    assert submit.packed(str(spec), Kuberay(image=IMAGE), [], None).store == "s3://bucket/toy.zarr"


def test_a_store_on_the_claim_is_taken(tmp_path: Path) -> None:
    held = Kuberay(image=IMAGE, claim="disk")
    assert submit.packed(str(stored(tmp_path, "/data/a.zarr")), held, [], None).store == "/data/a.zarr"


def test_a_spec_that_no_config_map_takes_is_refused(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Kuberay(image=IMAGE)
    bag = submit.packed(str(spec), held, [], None)
    monkeypatch.setattr(manifests, "MOST", 100)
    with pytest.raises(RefusedError, match=r"the spec of 'toy' has \d+ bytes, over the 100 of a ConfigMap"):
        manifests.job(bag, held)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("image=relu-sweeps", "must be pinned: a tag other than latest, or @sha256"),
        ("image=registry.example:5000/relu-sweeps", "must be pinned"),
        ("image=relu-sweeps:latest", "must be pinned"),
        ("image=Relu Sweeps:1", "must be a container image such as"),
        ("namespace=My_Team", "must be a name of at most 63 small letters, digits and -, got 'My_Team'"),
        ("namespace=" + "a" * 64, "must be a name of at most 63"),
        ("worker_memory=16 gigabytes", "must be an amount of memory such as 16Gi"),
        ("max_workers=0", "greater than or equal to 1"),
        ("max_workers=1", "must not be less than min_workers, which is 2"),
        ("retries=-1", "greater than or equal to 0"),
        ('secrets=["Bucket"]', r"kuberay\.secrets\.0 \(from --set kuberay\.secrets\) must be a name of small letters"),
        ('node_selector={"a b" = "c"}', "must be the key of a label or a taint"),
        ("mount=/tmp/data", "must not lie where the image or the pod keeps its own"),
        ("mount=/data/../etc", "must be an absolute path such as /data"),
        ("gpu_per_worker=1", r"unknown setting of kuberay 'gpu_per_worker'; did you mean 'gpus_per_worker'\?"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, said: str) -> None:
    more = [f"kuberay.image={IMAGE}", "kuberay.min_workers=2", f"kuberay.{setting}"]
    with pytest.raises(SpecError, match=said) as error:
        settings.resolve("kuberay", more=more)
    assert "\n" not in str(error.value)
    assert setting.partition("=")[0] in str(error.value)


@pytest.mark.parametrize(
    "image", ["a:1", "ghcr.io/a/b-c:v1.2", f"a/b@sha256:{'f' * 64}", f"h:5000/a:1@sha256:{'f' * 64}"]
)
def test_a_pinned_image_is_taken(image: str) -> None:
    assert Kuberay(image=image).image == image


FAKE = """\
#!/bin/sh
echo "$*" >>"$KUBE/calls"
case "$1" in
  get) cat "$KUBE/found" ;;
  apply) cat >"$KUBE/applied" ;;
esac
[ ! -e "$KUBE/refusal" ] || { cat "$KUBE/refusal" >&2; exit 1; }
"""


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that writes down what it is told, and says what it finds in `found`."""
    folder = tmp_path / "kube"
    folder.mkdir()
    (folder / "kubectl").write_text(FAKE)
    (folder / "kubectl").chmod(0o755)
    (folder / "found").touch()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("KUBE", str(folder))
    return folder


def calls(kube: Path) -> list[str]:
    return [line.split()[0] for line in (kube / "calls").read_text().splitlines()]


SET = ("--kuberay", "--set", f"kuberay.image={IMAGE}")


def test_a_dry_run_prints_the_manifests_and_asks_nobody(sweeps: Run, spec: Path, kube: Path) -> None:
    said = sweeps("submit", spec, *SET, "--dry-run")
    assert (said.code, [d["kind"] for d in yaml.safe_load_all(said.out)]) == (
        0,
        ["NetworkPolicy", "ConfigMap", "RayJob"],
    )
    assert not (kube / "calls").exists()
    assert said.err == ""


def test_kubectl_gets_the_manifests_through_its_input(sweeps: Run, spec: Path, kube: Path) -> None:
    said = sweeps("submit", spec, *SET)
    assert said.code == 0, said.err
    assert calls(kube) == ["get", "apply"]
    assert (kube / "applied").read_text() == sweeps("submit", spec, *SET, "--dry-run").out
    assert "apiVersion" not in (kube / "calls").read_text()
    assert said.out == f"{yaml.safe_load((kube / 'applied').read_text().split('---')[-1])['metadata']['name']}\n"


def test_one_that_runs_is_joined_and_one_that_ended_is_resumed(sweeps: Run, spec: Path, kube: Path) -> None:
    (kube / "found").write_text('{"status": {"jobDeploymentStatus": "Running"}}')
    said = sweeps("submit", spec, *SET)
    assert (said.code, calls(kube)) == (0, ["get"])
    assert said.err.startswith("joined: it runs already, Running\n")
    (kube / "found").write_text("{}")  # the operator has not seen it yet
    assert sweeps("submit", spec, *SET).err.startswith("joined: it runs already, New\n")
    (kube / "found").write_text('{"status": {"jobDeploymentStatus": "Failed"}}')
    (kube / "calls").unlink()
    assert sweeps("submit", spec, *SET).code == 0
    assert calls(kube) == ["get", "delete", "apply"]


def test_what_kubectl_refuses_is_one_line(sweeps: Run, spec: Path, kube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kube / "refusal").write_text('\nerror: no matches for kind "RayJob"\n')
    said = sweeps("submit", spec, *SET)
    assert (said.code, said.out, said.err) == (2, "", 'error: kubectl get: error: no matches for kind "RayJob"\n')
    monkeypatch.setenv("PATH", str(kube.parent))
    said = sweeps("submit", spec, *SET)
    assert (said.code, said.err.startswith("error: kubectl is not installed here")) == (2, True)


def test_a_standing_cluster_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from deploy.kuberay.cluster import main

    main([f"kuberay.image={IMAGE}"])
    assert capsys.readouterr().out == (GOLDEN / "cluster.yaml").read_text()


def test_the_page_lists_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    assert listed == {name: field.description for name, field in Kuberay.model_fields.items()}
