"""What deploy/ says to a cluster: built by kustomize, held against Kubernetes' own schemas and the pipeline's names."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.36"
OVERLAYS = ("kind", "production", "production/mlflow")
CRDS = ("serving.kserve.io/", "gateway.networking.k8s.io/", "kubeflow.org/")
"""Groups whose kinds a cluster learns from somebody else: Kubernetes has no schema of them."""
WORKLOADS = ("Deployment", "StatefulSet", "Job")
SECRETS = {"s3_secret": "ganflow-s3", "mlflow_secret": "ganflow-mlflow"}

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
needs_schemas = pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None, reason="needs kubernetes-validate (pip install '.[test]')"
)
Manifest = dict[str, Any]
READ_AUTH = """
import json
from mlflow.server.auth.config import read_auth_config
print(json.dumps(read_auth_config()._asdict()))
"""


@cache
def build(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def overlay(name: str) -> list[Manifest]:
    return build(DEPLOY / "overlays" / name)


def secrets(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, str(DEPLOY / "make_secrets.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def made_secrets() -> list[Manifest]:
    items: list[Manifest] = json.loads(secrets().stdout)["items"]
    return items


def pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each workload and its pod's spec."""
    for manifest in manifests:
        if manifest["kind"] in WORKLOADS:
            yield manifest, manifest["spec"]["template"]["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Each container, with its workload's name and pod."""
    for manifest, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{manifest['metadata']['name']}/{container['name']}", pod, container


def identity(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def referred(manifests: list[Manifest]) -> Iterator[tuple[str, str, str]]:
    """Every secret, config map and service account that a pod names."""
    for manifest, pod in pods(manifests):
        where = manifest["metadata"]["namespace"]
        if "serviceAccountName" in pod:
            yield "ServiceAccount", where, pod["serviceAccountName"]
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                yield "Secret", where, volume["secret"]["secretName"]
            if "configMap" in volume:
                yield "ConfigMap", where, volume["configMap"]["name"]
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                    if key in source:
                        yield kind, where, source[key]["name"]
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    yield "Secret", where, variable["valueFrom"]["secretKeyRef"]["name"]


@needs_kubectl
@needs_schemas
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_manifest_fits_kubernetes_own_schema(name):
    import kubernetes_validate

    for manifest in overlay(name):
        if not manifest["apiVersion"].startswith(CRDS):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@needs_kubectl
@needs_schemas
def test_a_misspelt_field_does_not_fit():
    """The schemas are strict: what is not in them is an error, not ignored."""
    import kubernetes_validate

    wrong = json.loads(json.dumps(next(m for m in overlay("kind") if m["kind"] == "Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@needs_schemas
def test_the_secrets_fit_the_schema_and_are_new_each_time():
    import kubernetes_validate

    first, second = made_secrets(), made_secrets()
    for secret in first:
        kubernetes_validate.validate(secret, KUBERNETES, strict=True)
    assert [identity(secret) for secret in first] == [identity(secret) for secret in second]
    assert all(a["stringData"] != b["stringData"] for a, b in zip(first, second, strict=True))


@needs_kubectl
@needs_schemas
def test_serving_is_of_kinds_that_kubernetes_learns_from_others():
    """KServe's and the Gateway API's kinds: only that kustomize builds them is said here (docs/LOG.md has the rest)."""
    for manifest in build(DEPLOY / "serving"):
        assert manifest["apiVersion"].startswith(CRDS)


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_satisfies_the_restricted_standard(name):
    """The Pod Security Standard's `restricted`, and a root file system that cannot be written."""
    for where, pod, container in containers(overlay(name)):
        context, of_pod = container["securityContext"], pod["securityContext"]
        assert of_pod["runAsNonRoot"] is True, where
        assert of_pod["runAsUser"] > 0, where
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert context["readOnlyRootFilesystem"] is True, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), where
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), where
        assert pod["automountServiceAccountToken"] is False, f"{where} asks nothing of Kubernetes"


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_says_what_it_needs_and_how_it_is(name):
    for where, _, container in containers(overlay(name)):
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) >= {"cpu", "memory"}, where
        if not where.startswith("buckets/"):
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), where


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_image_is_pinned(name):
    for where, _, container in containers(overlay(name)):
        assert re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d[\w.-]*$", container["image"]), (where, container["image"])


@needs_kubectl
def test_what_a_pod_names_is_there():
    manifests = overlay("kind") + made_secrets()
    there = {identity(manifest) for manifest in manifests}
    assert set(referred(manifests)) - there == set()


@needs_kubectl
def test_a_secret_has_the_keys_that_are_mounted_and_read():
    data = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in made_secrets()}
    assert data["ganflow-s3"] == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert data["ganflow-mlflow"] == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    for _, _, container in containers(overlay("kind")):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["key"] in data[reference["name"]]


@needs_kubectl
def test_a_service_selects_pods_with_the_port_that_it_names():
    for name in ("kind", "production/mlflow"):
        manifests = overlay(name)
        labelled = {
            m["metadata"]["name"]: (m["spec"]["template"]["metadata"]["labels"], pod) for m, pod in pods(manifests)
        }
        for service in (m for m in manifests if m["kind"] == "Service"):
            labels, pod = labelled[service["metadata"]["name"]]
            assert service["spec"]["selector"].items() <= labels.items()
            names = {port["name"] for container in pod["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_no_overlay_holds_a_secret(name):
    assert "Secret" not in {manifest["kind"] for manifest in overlay(name)}


@needs_kubectl
@pytest.mark.parametrize("name", ["kind", "production"])
def test_no_role_of_a_run_has_a_wildcard_or_changes_pods(name):
    rules = [rule for m in overlay(name) if m["kind"] in ("Role", "ClusterRole") for rule in m["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["mlpipeline-minio-artifact"]
            assert rule["verbs"] == ["get"]
        if rule["apiGroups"] == [""]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}


@needs_kubectl
@pytest.mark.parametrize(("name", "namespace"), [("kind", "kubeflow"), ("production", "ganflow")])
def test_every_binding_is_of_a_run_s_service_account(name, namespace):
    manifests = overlay(name)
    there = {identity(manifest) for manifest in manifests}
    bindings = [m for m in manifests if m["kind"].endswith("Binding")]
    assert {b["metadata"]["name"] for b in bindings} >= {"ganflow-pipelines", "ganflow-trainer"}
    for binding in bindings:
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "ganflow", "namespace": namespace}]
        role = binding["roleRef"]
        where = namespace if role["kind"] == "Role" else ""
        outside = role["name"] == "kubeflow-pipelines-edit"  # Kubeflow's own
        assert outside or (role["kind"], where, role["name"]) in there


@needs_kubectl
@pytest.mark.parametrize("name", ["kind", "production"])
def test_the_config_map_has_what_the_pipeline_reads(name):
    """Nothing that no task reads, and MLFLOW_TRACKING_URI, which all must have."""
    resources = pytest.importorskip("pipelines.resources")
    found = next(m for m in overlay(name) if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "ganflow")
    assert set(found["data"]) <= set(resources.CONFIG)
    assert resources.CONFIG[0] in found["data"]


@needs_kubectl
def test_names_are_those_of_params_yaml():
    resources = yaml.safe_load((ROOT / "params.yaml").read_text())["resources"]
    assert {key: resources[key] for key in SECRETS} == SECRETS
    for name in ("kind", "production"):
        there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in overlay(name)}
        assert ("ServiceAccount", resources["service_account"]) in there
        assert ("ConfigMap", resources["config_map"]) in there


@needs_kubectl
def test_the_quota_has_room_for_every_profile():
    resources = yaml.safe_load((ROOT / "params.yaml").read_text()).get("resources")
    if not resources:
        pytest.skip("params.yaml has no section resources")
    quota = next(m for m in overlay("production") if m["kind"] == "ResourceQuota")["spec"]["hard"]
    for profile in resources["profiles"].values():
        nodes = profile["nodes"]
        assert nodes * int(profile["cpu"]) < int(quota["requests.cpu"])
        assert nodes * int(profile["memory"].removesuffix("Gi")) < int(quota["requests.memory"].removesuffix("Gi"))
        assert nodes * profile["accelerators"] <= int(quota["requests.nvidia.com/gpu"])


@needs_kubectl
def test_the_policy_of_nodes_selects_what_a_trainjob_s_pods_are_labelled():
    labels = pytest.importorskip("ganflow.trainjob").LABELS
    policies = {m["metadata"]["name"]: m["spec"] for m in overlay("production") if m["kind"] == "NetworkPolicy"}
    nodes = policies["ganflow-nodes"]
    assert nodes["podSelector"]["matchLabels"].items() <= labels.items()
    assert nodes["ingress"] == [{"from": [{"podSelector": nodes["podSelector"]}]}], "nobody but each other calls them"
    assert {"to": [{"podSelector": nodes["podSelector"]}]} in nodes["egress"], "on any port"


@needs_kubectl
def test_mlflow_in_the_cluster_and_the_runs_let_each_other_through():
    """Its policy says whom it hears, and on which port; theirs must let them call it there."""
    [server] = [m for m in overlay("production/mlflow") if m["kind"] == "NetworkPolicy"]
    [heard] = server["spec"]["ingress"]
    runs = [m for m in overlay("production") if m["kind"] == "NetworkPolicy"]
    assert len(runs) == 2
    for policy in runs:
        assert {"namespaceSelector": namespace(policy["metadata"]["namespace"])} in heard["from"]
        to = {"to": [{"namespaceSelector": namespace(server["metadata"]["namespace"])}], "ports": heard["ports"]}
        assert to in policy["spec"]["egress"]


def namespace(name: str) -> Manifest:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}


@needs_kubectl
def test_the_token_for_kubeflow_lies_where_a_pod_looks_for_it():
    path = Path(pytest.importorskip("ganflow.kubeflow").TOKEN)
    [default] = [m["spec"] for m in overlay("production") if m["kind"] == "PodDefault"]
    assert default["selector"] == {"matchLabels": {"access-ml-pipeline": "true"}}
    assert default["env"] == [{"name": "KF_PIPELINES_SA_TOKEN_PATH", "value": str(path)}]
    [volume], [mount] = default["volumes"], default["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": str(path.parent), "readOnly": True}
    [source] = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert (token["path"], token["audience"]) == (path.name, "pipelines.kubeflow.org")


@needs_kubectl
@pytest.mark.parametrize("name", ["kind", "production"])
def test_the_launcher_s_role_is_what_it_asks_for_and_no_more(name):
    role = next(m for m in overlay(name) if m["kind"] == "Role" and m["metadata"]["name"] == "ganflow-trainer")
    rights = {(verb, what) for rule in role["rules"] for verb in rule["verbs"] for what in rule["resources"]}
    trainjobs = {(verb, "trainjobs") for verb in ("create", "get", "list", "delete")}
    assert rights == trainjobs | {("list", "pods"), ("get", "pods/log")}


@needs_kubectl
@pytest.mark.parametrize("name", ["production", "production/mlflow"])
def test_production_enforces_the_restricted_standard(name):
    namespace = next(m for m in overlay(name) if m["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_secret_is_in_the_repository():
    """Values stand in the environment or in the cluster; the names of variables may stand anywhere."""
    pattern = re.compile(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|^kind: Secret$", re.MULTILINE)
    for file in (file for file in DEPLOY.rglob("*") if file.is_file()):
        assert not pattern.search(file.read_text()), file


def test_a_password_of_any_characters_reaches_the_database_and_mlflow(tmp_path):
    """Read as they are read there: the address by SQLAlchemy, auth.ini by MLflow."""
    word = "a@b/c%:#d"
    given = {"POSTGRES_PASSWORD": word, "MLFLOW_TRACKING_PASSWORD": word}
    data = {item["metadata"]["name"]: item["stringData"] for item in json.loads(secrets(**given).stdout)["items"]}
    assert data["postgres"]["POSTGRES_PASSWORD"] == data["ganflow-mlflow"]["MLFLOW_TRACKING_PASSWORD"] == word
    (tmp_path / "auth.ini").write_text(data["mlflow-auth"]["auth.ini"])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ_AUTH], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "MLFLOW_AUTH_CONFIG_PATH": "auth.ini"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    auth = json.loads(done.stdout)
    assert (auth["admin_username"], auth["admin_password"]) == ("admin", word)
    for address, database in (
        (data["mlflow-server"]["MLFLOW_BACKEND"], "mlflow"),
        (auth["database_uri"], "mlflow_auth"),
    ):
        url = make_url(address)
        assert (url.password, url.host, url.port, url.database) == (word, "postgres.ganflow", 5432, database)


def test_secrets_of_a_production_run_come_from_the_environment():
    done = secrets("--only-runs", "--runs", "ganflow", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD is not set;")
    given = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": 'b"\n', "MLFLOW_TRACKING_USERNAME": "robot"}
    done = secrets("--only-runs", "--runs", "ganflow", MLFLOW_TRACKING_PASSWORD="%p", **given)
    items = json.loads(done.stdout)["items"]
    assert [identity(item) for item in items] == [("Secret", "ganflow", n) for n in SECRETS.values()]
    assert items[0]["stringData"]["AWS_SECRET_ACCESS_KEY"] == 'b"\n'
