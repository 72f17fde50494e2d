"""Writes the Helm chart of deploy/chart from the objects of deploy/base; what differs between models are values."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BASE, CHART = ROOT / "deploy" / "base", ROOT / "deploy" / "chart"
HEADER = "# Written by `make chart` from deploy/base; do not edit.\n"
TEMPLATED = {
    "HELM_IMAGE": "{{ .Values.image | quote }}",
    "HELM_BUNDLE_MAP": "guardhouse-bundle-{{ .Values.bundle | sha256sum | trunc 10 }}",
    "HELM_BUNDLE": "{{ .Values.bundle | quote }}",
    "HELM_CONFIG_MAP": "guardhouse-config-{{ .Values.config | toJson | sha256sum | trunc 10 }}",
    "HELM_CONFIG": "{{ .Values.config | toJson }}",
    "HELM_RESOURCES": "{{ .Values.resources | toJson }}",
    "  storageClassName: HELM_STORAGE_CLASS\n": (
        "{{- with .Values.storageClass }}\n  storageClassName: {{ . | quote }}\n{{- end }}\n"
    ),
    "        - name: metrics\n          containerPort: HELM_METRICS_PORT\n": (
        "{{- with .Values.metricsPort }}\n        - name: metrics\n          containerPort: {{ . | int }}\n{{- end }}\n"
    ),
}
"""Expressions by the text that they replace in the objects; a text comes before any text that is its beginning."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def template(objects: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the objects as a template, and the values with which the template renders the same objects."""
    values: dict[str, Any] = dict.fromkeys(("image", "bundle", "storageClass", "metricsPort", "resources", "config"))
    values["storageClass"] = ""
    names = {}
    for each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind == "ConfigMap" and "gateway.yaml" in each["data"]:
            values["config"], each["data"], names[name] = each["data"], "HELM_CONFIG", "HELM_CONFIG_MAP"
        elif kind == "ConfigMap":
            values["bundle"], each["data"]["name"], names[name] = each["data"]["name"], "HELM_BUNDLE", "HELM_BUNDLE_MAP"
        elif kind == "PersistentVolumeClaim":
            each["spec"]["storageClassName"] = "HELM_STORAGE_CLASS"
        elif kind == "Deployment":
            pod = each["spec"]["template"]["spec"]
            (gateway,) = pod["containers"]
            values["image"], values["resources"] = gateway["image"], gateway["resources"]
            gateway["resources"] = "HELM_RESOURCES"
            gateway["ports"].append({"name": "metrics", "containerPort": "HELM_METRICS_PORT"})
            for container in (gateway, *pod["initContainers"]):
                container["image"] = "HELM_IMAGE"
    text = yaml.safe_dump_all(objects, sort_keys=False, width=1000)
    for name, sentinel in names.items():
        text = text.replace(name, sentinel)
    for sentinel, expression in TEMPLATED.items():
        assert sentinel in text, f"deploy/base has changed: nothing is {sentinel}"  # noqa: S101 - a tool of ours
        text = text.replace(sentinel, expression)
    return text, values


def main() -> None:
    """Write the template and the values."""
    done = subprocess.run(["kubectl", "kustomize", BASE], capture_output=True, text=True, check=True)  # noqa: S603, S607
    text, values = template(list(yaml.safe_load_all(done.stdout)))
    (CHART / "templates").mkdir(parents=True, exist_ok=True)
    (CHART / "templates" / "guardhouse.yaml").write_text(HEADER + text, encoding="utf-8")
    written = yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=1000)
    (CHART / "values.yaml").write_text(HEADER + NOTES + written, encoding="utf-8")
    sys.stdout.write(f"{CHART.relative_to(ROOT)}: written\n")


NOTES = """#
#   image         by tag, or by digest: registry.example/guardhouse@sha256:...
#   bundle        what deploy/load-bundle.sh prints
#   storageClass  of both claims; empty: the cluster's default
#   metricsPort   `server.metrics_port` of the config, as the container's port `metrics`; null: no such port
#   config        files beside each other: --set-file 'config.gateway\\.yaml=gateway.yaml'
"""


if __name__ == "__main__":
    main()
