"""deploy/kubernetes: rendered by a real kubectl, held to the schemas of the API, and to what the servers accept."""

from __future__ import annotations

import copy
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.__main__ import _parser
from pipeline.commands.score import is_file, read_shard
from pipeline.units.work import Shard
from service.gateway.context.backend_targets import endpoints_of
from service.gateway.context.settings import load_settings
from service.modelserver.foreign_flags import IGNORED, REFUSED
from service.modelserver.options import parse_options
from service.modelserver.server import DRAIN_S
from tests.docs.blocks import DOCS, read_blocks
from tests.repository.project import ROOT, read_pins

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ["base", *sorted(f"overlays/{path.name}" for path in (KUBERNETES / "overlays").iterdir())]
JOBS = ("overlays/audit", "overlays/batch", "overlays/ray", "overlays/train", "overlays/upload")
SERVING = [overlay for overlay in OVERLAYS if overlay not in JOBS]
VERSIONS = ("1.31", "1.37")
# Kinds that the API server itself does not know; everything else without a schema is a mistake.
CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("ray.io/v1", "RayJob"),
}
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
# Volumes that the profile `restricted` of the pod security standards allows.
ALLOWED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
                   "secret"}  # fmt: skip

# The fields that variables take their values from, and a value of each.
_FIELDS = {
    '{"resourceFieldRef": {"resource": "limits.cpu"}}': "CORES",
    '{"fieldRef": {"fieldPath": "metadata.annotations[\'batch.kubernetes.io/job-completion-index\']"}}': "3",
}

Object = dict[str, Any]


@functools.cache
def render(overlay: str) -> str:
    """Return what kubectl makes of an overlay."""
    command = [KUBECTL, "kustomize", str(KUBERNETES / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    return done.stdout


@functools.cache
def objects(overlay: str) -> list[Object]:
    """Return the objects of an overlay; shared, so not to be changed."""
    return [item for item in yaml.load_all(render(overlay), yaml.CSafeLoader) if item]


def find(overlay: str, kind: str, name: str) -> Object:
    """Return one object of an overlay."""
    (found,) = [item for item in objects(overlay) if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    """Return name and pod template of each workload."""
    for item in objects(overlay):
        if item["kind"] in ("Deployment", "Job", "StatefulSet", "DaemonSet"):
            yield item["metadata"]["name"], item["spec"]["template"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item
        elif item["kind"] == "RayJob":
            cluster = item["spec"]["rayClusterSpec"]
            yield "submitter", item["spec"]["submitterPodTemplate"]
            yield "head", cluster["headGroupSpec"]["template"]
            yield from ((group["groupName"], group["template"]) for group in cluster["workerGroupSpecs"])


def container_of(overlay: str, name: str) -> Object:
    """Return the one container of a workload."""
    (container,) = dict(pods(overlay))[name]["spec"]["containers"]
    found: Object = container
    return found


def environment_of(container: Object, *, cores: str = "4") -> dict[str, str]:
    """Return a container's variables, as its pod sets them with a limit of so many cores."""
    values = {}
    for item in container.get("env", ()):
        if "valueFrom" in item:
            values[item["name"]] = _FIELDS[json.dumps(item["valueFrom"])].replace("CORES", cores)
        else:
            values[item["name"]] = item["value"]
    return values


def arguments_of(container: Object, *, cores: str = "4") -> list[str]:
    """Return a container's arguments with its variables filled in, as Kubernetes does."""
    values = environment_of(container, cores=cores)
    return [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], argument) for argument in container["args"]]


def check_schema(item: Object, version: str) -> None:
    """Hold an object to the strict schema of a Kubernetes version: unknown fields and unknown kinds are errors."""
    if (item["apiVersion"], item["kind"]) not in CUSTOM:
        assert version == kubernetes_validate.validate(item, version, strict=True)


def faults_of_pod(template: Object) -> list[str]:
    """Return what the profile `restricted` of the pod security standards refuses in a pod."""
    spec = template["spec"]
    of_pod = spec.get("securityContext", {})
    faults = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    faults += [f"volume {v['name']}" for v in spec.get("volumes", ()) if not v.keys() - {"name"} <= ALLOWED_VOLUMES]
    faults += ["sysctls"] * bool(of_pod.get("sysctls"))
    for container in [*spec["containers"], *spec.get("initContainers", ()), *spec.get("ephemeralContainers", ())]:
        own = container.get("securityContext", {})
        context = {**of_pod, **own}
        is_fault = {
            "privileged": own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation", True),
            "runAsNonRoot": context.get("runAsNonRoot") is not True,
            "runAsUser": context.get("runAsUser") == 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
            "drop": "ALL" not in own.get("capabilities", {}).get("drop", ()),
            "add": set(own.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"},
            "procMount": own.get("procMount", "Default") != "Default",
            "hostPort": any("hostPort" in port for port in container.get("ports", ())),
            "probe host": any("host" in probe for probe in handlers_of(container)),
        }
        faults += [f"{container['name']}: {name}" for name, wrong in is_fault.items() if wrong]
    return faults


def handlers_of(container: Object) -> Iterator[Object]:
    """Return what the probes of a container do."""
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(name, {})
        yield from (probe[kind] for kind in ("httpGet", "tcpSocket", "grpc") if kind in probe)


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_have_the_schemas_of_the_api(version: str) -> None:
    """Strictly: a misspelt field is an error. Objects that several overlays share are checked once."""
    distinct = {json.dumps(item, sort_keys=True): item for overlay in OVERLAYS for item in objects(overlay)}

    assert len(distinct) > 20
    for item in distinct.values():
        check_schema(item, version)


@pytest.mark.parametrize(
    "change",
    [{"kind": "Deploymend"}, {"apiVersion": "apps/v2"}, {"kind": "RayJob", "apiVersion": "ray.io/v2"}, {"sepc": {}}],
)
def test_mistakes_do_not_pass_as_schemas(change: Object) -> None:
    """Unknown kinds and fields are not overlooked."""
    item = {**find("base", "Deployment", "gateway"), **change}
    with pytest.raises((kubernetes_validate.SchemaNotFoundError, kubernetes_validate.ValidationError)):
        check_schema(item, VERSIONS[0])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted(overlay: str) -> None:
    """They fit the namespace's label, and write nowhere but into their volumes; no token, no variables of Services."""
    for name, template in pods(overlay):
        spec = template["spec"]

        assert [] == faults_of_pod(template), name
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in spec["containers"]), name
        assert (False, False) == (spec["automountServiceAccountToken"], spec["enableServiceLinks"]), name
        assert not find(overlay, "ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"]


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("hostNetwork", lambda spec: spec.update(hostNetwork=True)),
        ("volume host", lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
        ("gateway: runAsNonRoot", lambda spec: spec["securityContext"].pop("runAsNonRoot")),
        ("gateway: seccompProfile", lambda spec: spec["securityContext"].pop("seccompProfile")),
        ("gateway: drop", lambda spec: spec["containers"][0]["securityContext"].pop("capabilities")),
        ("gateway: privileged", lambda spec: spec["containers"][0]["securityContext"].update(privileged=True)),
    ],
)
def test_pods_that_are_not_restricted_are_found(fault: str, change: Any) -> None:
    """The check above can fail."""
    template = copy.deepcopy(dict(pods("base"))["gateway"])
    change(template["spec"])

    assert [fault] == faults_of_pod(template)


@pytest.mark.parametrize("overlay", SERVING)
def test_gateway_takes_its_settings(overlay: str) -> None:
    """Its variables are known, it asks for keys, and it looks up the model servers' own addresses."""
    container = container_of(overlay, "gateway")
    # Dockerfile: the rest of its environment.
    settings = load_settings([], {"FOVEA_HOST": "0.0.0.0", "FOVEA_PORT": "8000", **environment_of(container)})
    ((host, port),) = endpoints_of(settings.backend) or ()
    service = find(overlay, "Service", host)

    assert (True, 4) == (settings.needs_key, settings.decode_threads)
    assert "None" == service["spec"]["clusterIP"]
    assert port in [item["port"] for item in service["spec"]["ports"]]
    grace_s = dict(pods(overlay))["gateway"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= settings.shutdown_delay_s + settings.drain_timeout_s + 10
    assert {settings.port, settings.metrics_port} == {port["containerPort"] for port in container["ports"]}


@pytest.mark.parametrize("overlay", ["base", "overlays/monitoring"])
def test_model_server_takes_its_flags(overlay: str) -> None:
    """The real parser reads them; health is served where it is asked for; calls in flight may end."""
    container = container_of(overlay, "modelserver")
    options = parse_options(arguments_of(container))

    assert (4, "0.0.0.0", True) == (options.num_threads, options.host, options.enable_grpc_healthcheck_service)
    assert {options.port, options.monitoring_port} == {port["containerPort"] for port in container["ports"]}
    assert "float32" == options.precision
    assert dict(pods(overlay))["modelserver"]["spec"]["terminationGracePeriodSeconds"] >= DRAIN_S + 10


@pytest.mark.parametrize("overlay", ["overlays/tfserving", "overlays/gpu"])
def test_tensorflow_serving_has_its_flags_and_files(overlay: str) -> None:
    """Its flags are tensorflow_model_server's, its files those of compose, its health is not relied on."""
    container = container_of(overlay, "modelserver")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["tfserving"]["command"]
    names = {argument.partition("=")[0] for argument in container["args"]}
    known = {f"--{name}" for name in (*IGNORED, *REFUSED)} | {argument.partition("=")[0] for argument in compose}
    (config,) = [item for item in objects(overlay) if item["kind"] == "ConfigMap"]

    assert names <= known | {"--tensorflow_session_parallelism"}
    assert {argument.partition("=")[0] for argument in compose} <= names
    assert {p.name: p.read_text() for p in (ROOT / "deploy/tfserving").glob("*.config")} == config["data"]
    assert all("grpc" not in container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert config["metadata"]["name"].startswith("tfserving-")  # a change of the files restarts the pods
    volumes = dict(pods(overlay))["modelserver"]["spec"]["volumes"]
    assert [config["metadata"]["name"]] == [v["configMap"]["name"] for v in volumes if "configMap" in v]


def test_gpu_pods_ask_for_a_card() -> None:
    """One each, with the image that can use it."""
    container = container_of("overlays/gpu", "modelserver")

    assert "1" == container["resources"]["limits"]["nvidia.com/gpu"]
    assert container["image"].endswith("-gpu")


def test_training_job_takes_its_arguments() -> None:
    """The pipeline's own parser reads them; store and runs are volumes of its working folder."""
    container = container_of("overlays/train", "train")
    arguments = _parser("run").parse_args(arguments_of(container))
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    assert "eyes" == arguments.name
    assert str(arguments.dataset).startswith("/data/")
    assert {"/models", "/runs", "/data", "/keras", "/tmp"} == mounts.keys()
    assert [path for path, mount in mounts.items() if mount.get("readOnly")] == ["/data"]
    assert "data" == find("overlays/upload", "PersistentVolumeClaim", "data")["metadata"]["name"]
    claims = {v.get("persistentVolumeClaim", {}).get("claimName") for v in
              dict(pods("overlays/train"))["train"]["spec"]["volumes"]}  # fmt: skip
    assert find("base", "PersistentVolumeClaim", "models")["metadata"]["name"] in claims


@pytest.mark.parametrize("name", ["gateway", "modelserver"])
def test_pods_fetch_the_store_from_a_bucket_and_follow_it(name: str) -> None:
    """Once before the server starts and then as a side-car; there is no shared volume, and keys are a Secret's."""
    spec = dict(pods("overlays/bucket"))[name]["spec"]
    fetch, follow = spec["initContainers"]
    settings = find("overlays/bucket", "ConfigMap", fetch["envFrom"][0]["configMapRef"]["name"])["data"]
    words = [word.replace("$(FOVEA_BUCKET)", settings["FOVEA_BUCKET"]) for word in follow["args"]]
    arguments = _parser("sync").parse_args(words)
    (models,) = [volume for volume in spec["volumes"] if volume["name"] == "models"]

    assert ("s3://bucket/models", "/models", 5) == (str(arguments.source), str(arguments.target), arguments.watch)
    assert (fetch["args"], "Always") == (follow["args"][:3], follow["restartPolicy"])
    assert {"name", "emptyDir"} == models.keys()
    assert not any(item["kind"] == "PersistentVolumeClaim" for item in objects("overlays/bucket"))
    assert [{"name": "bucket", "optional": True}] == [e["secretRef"] for e in follow["envFrom"] if "secretRef" in e]


def test_batch_job_gives_each_pod_its_shard() -> None:
    """The pipeline's own parser reads the arguments; the last index is a shard, and there are as many as it says."""
    job, container = find("overlays/batch", "Job", "batch")["spec"], container_of("overlays/batch", "batch")
    arguments = _parser("score").parse_args(arguments_of(container))
    shard = read_shard(arguments.shard)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    assert shard == Shard(3, job["completions"])
    assert ("Indexed", job["completions"]) == (job["completionMode"], job["parallelism"])
    assert "float32" == arguments.precision
    assert str(arguments.out).startswith("/scores/")
    assert not is_file(arguments.out)
    assert ["/models", "/data"] == [path for path, mount in mounts.items() if mount.get("readOnly")]


def test_audit_job_gives_each_pod_its_shard() -> None:
    """The Job of `batch` with the arguments of `audit`, whose reports and parts go to a volume that can be written."""
    job, container = find("overlays/audit", "Job", "audit")["spec"], container_of("overlays/audit", "audit")
    arguments = _parser("audit").parse_args(arguments_of(container))
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    assert read_shard(arguments.shard) == Shard(3, job["completions"])
    assert {"/scores"} == {str(path)[:7] for path in (arguments.out, arguments.runs_dir)}
    assert not mounts["/scores"].get("readOnly")
    assert "/data" == str(arguments.dataset)
    assert find("overlays/batch", "Job", "batch")["spec"]["completions"] == job["completions"]


def test_ray_job_has_tokens_and_takes_its_arguments() -> None:
    """Each pod requires the token of the Secret; the workers are as many as their cores; Ray is the lock's."""
    job = find("overlays/ray", "RayJob", "score")["spec"]
    templates = dict(pods("overlays/ray"))
    program, *words = shlex.split(job["entrypoint"].removeprefix("python -m "))
    arguments = _parser("score").parse_args(words)
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    cores = int(container_of("overlays/ray", "workers")["resources"]["limits"]["cpu"])

    assert ("pipeline", "score") == (program, words[0])
    assert ("ray", "float32", None) == (arguments.executor, arguments.precision, arguments.address)
    assert arguments.workers == group["replicas"] * cores
    assert {"submitter", "head", "workers"} == templates.keys()
    for name in templates:
        container = container_of("overlays/ray", name)
        values = {item["name"]: item for item in container["env"]}
        assert "token" == values["RAY_AUTH_MODE"]["value"], name
        assert {"name": "ray-token", "key": "auth_token"} == values["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    for name in ("head", "workers"):
        mounts = {mount["mountPath"]: mount for mount in container_of("overlays/ray", name)["volumeMounts"]}
        assert ["/models", "/data"] == [path for path, mount in mounts.items() if mount.get("readOnly")]
        assert arguments.out.is_relative_to("/scores")
        assert "/scores" in mounts
    assert {job["rayClusterSpec"]["rayVersion"]} == read_pins("requirements-ray.lock")["ray"]


@pytest.mark.parametrize("overlay", SERVING)
@pytest.mark.parametrize("name", ["gateway", "modelserver"])
def test_servers_scale_spread_and_survive_drains(overlay: str, name: str) -> None:
    """Each has an autoscaler on CPU, a budget of disruptions and a spread over zones that holds no pod back."""
    deployment = find(overlay, "Deployment", name)
    template = deployment["spec"]["template"]
    scaler = find(overlay, "HorizontalPodAutoscaler", name)["spec"]
    budget = find(overlay, "PodDisruptionBudget", name)["spec"]
    (container,) = template["spec"]["containers"]

    assert "replicas" not in deployment["spec"]
    assert {"apiVersion": "apps/v1", "kind": "Deployment", "name": name} == scaler["scaleTargetRef"]
    (metric,) = scaler["metrics"]
    assert ("cpu", 65) == (metric["resource"]["name"], metric["resource"]["target"]["averageUtilization"])
    assert scaler["minReplicas"] >= 2
    assert (1, "AlwaysAllow") == (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"])
    for selector in (budget["selector"], deployment["spec"]["selector"], find(overlay, "Service", name)["spec"]):
        labels = selector.get("matchLabels", selector.get("selector"))
        assert labels.items() <= template["metadata"]["labels"].items()
    zones = {c["topologyKey"]: c["whenUnsatisfiable"] for c in template["spec"]["topologySpreadConstraints"]}
    assert "ScheduleAnyway" == zones["topology.kubernetes.io/zone"]
    restarting = [container.get(probe, {}) for probe in ("startupProbe", "livenessProbe")]
    assert not any("grpc" in probe or probe.get("httpGet", {}).get("path") == "/readyz" for probe in restarting)
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys() & container["resources"]["limits"].keys()
    assert all(m.get("readOnly") for m in container["volumeMounts"] if m["mountPath"] != "/tmp")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_is_closed_but_for_what_is_needed(overlay: str) -> None:
    """Everything is refused by one policy; each pod has one that allows, with ports that exist."""
    policies = [item for item in [*objects("base"), *objects(overlay)] if item["kind"] == "NetworkPolicy"]
    closed = [item for item in policies if item["spec"]["podSelector"] == {}]

    assert {("Egress", "Ingress")} == {tuple(sorted(item["spec"]["policyTypes"])) for item in closed}
    assert not any("ingress" in item["spec"] or "egress" in item["spec"] for item in closed)
    for name, template in pods(overlay):
        labels = template["metadata"]["labels"]
        mine = [p for p in policies if p["spec"]["podSelector"].get("matchLabels", {"": ""}).items() <= labels.items()]
        ports = {port["name"] for c in template["spec"]["containers"] for port in c.get("ports", ())}
        rules = [rule for item in mine for rule in item["spec"].get("ingress", ())]
        opened = {p["port"] for rule in rules for p in rule.get("ports", ())}
        if any("ports" not in rule for rule in rules):  # among the nodes of Ray, which chooses ports
            assert overlay == "overlays/ray"
            opened |= ports
        assert opened == ports - {"metrics"}, name
    grpc = find("base", "NetworkPolicy", "modelserver")["spec"]["ingress"]
    assert [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "fovea-gateway"}}}] == grpc[0]["from"]


def test_alerts_are_those_of_prometheus() -> None:
    """The rules are a copy; the jobs that they name are the monitored services."""
    rules = find("overlays/monitoring", "PrometheusRule", "fovea")["spec"]
    jobs = set(re.findall(r'up\{job="([\w-]+)"\}', render("overlays/monitoring")))
    services = {
        item["metadata"]["labels"]["app.kubernetes.io/name"]
        for item in objects("overlays/monitoring")
        if item["kind"] == "Service"
    }

    assert yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text()) == rules
    assert jobs <= services
    for name in ("gateway", "modelserver"):
        monitor = find("overlays/monitoring", "ServiceMonitor", name)["spec"]
        service = find("overlays/monitoring", "Service", name)
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [e["port"] for e in monitor["endpoints"]] == ["metrics"]


def commands_of_page() -> list[str]:
    """Return the kubectl commands of docs/kubernetes.md."""
    blocks = [block for block in read_blocks(DOCS / "kubernetes.md") if block.language == "sh"]
    lines = "\n".join(block.text for block in blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" | ")[0].partition(" > ")[0] for line in lines if line.startswith("kubectl ")]


@pytest.mark.parametrize("command", commands_of_page())
def test_commands_of_the_page_are_kubectls(command: str, tmp_path: Path) -> None:
    """Each comes as far as the connection to a cluster; those that need none succeed."""
    (tmp_path / "keys.json").write_text('{"keys": []}')
    (tmp_path / "eyes").mkdir()
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    write_own_overlay(tmp_path)
    words = shlex.split(command)
    done = subprocess.run(
        [KUBECTL, "--server=http://127.0.0.1:9", "--request-timeout=2s", *words[1:]],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "KUBECONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if words[1] == "kustomize":
        assert 0 == done.returncode, done.stderr
    else:
        assert "127.0.0.1:9" in done.stderr and "refused" in done.stderr, done.stderr


def write_own_overlay(folder: Path) -> None:
    """Write the overlay that docs/kubernetes.md shows, as its reader does."""
    (text,) = [b.text for b in read_blocks(DOCS / "kubernetes.md") if b.language == "yaml" and "images:" in b.text]
    (folder / "production").mkdir()
    (folder / "production" / "kustomization.yaml").write_text(text)


def test_own_overlay_of_the_page_is_valid(tmp_path: Path) -> None:
    """Its images, bounds and storage arrive in the objects."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    write_own_overlay(tmp_path)
    command = [KUBECTL, "kustomize", str(tmp_path / "production")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = list(yaml.safe_load_all(done.stdout))
    for item in found:
        check_schema(item, VERSIONS[-1])

    assert {"registry.example/fovea-gateway:1.0", "registry.example/fovea-modelserver:1.0"} == {
        item["spec"]["template"]["spec"]["containers"][0]["image"] for item in found if item["kind"] == "Deployment"
    }
