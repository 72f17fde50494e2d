"""Writes the modules of the gRPC server's messages: service/front/protocols/grpc_*_pb2.py.

The definition of the Open Inference Protocol is in KServe's package, Triton's additions are in Triton's client, and
health and reflection are in gRPC's packages. The compiler of grpcio-tools turns their descriptors into modules, so that
a server needs none of these packages. The modules use a descriptor pool of their own. Every client of the protocol
defines messages of the same names, and could not be imported into the same process otherwise.

    pip install --no-deps kserve==0.20.0
    pip install grpcio-tools==1.76.0 grpcio-{health-checking,reflection}==1.76.0 'tritonclient[grpc]==2.73.0'
    python tools/messages.py
"""

import subprocess
import sys
import tempfile
from importlib.metadata import distribution, version
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

FOLDER = Path(__file__).resolve().parent.parent / "service" / "front" / "protocols"
SHARED, OWN = "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"
HEADER = """\
# {what}.
# Written by tools/messages.py from the definition in {source} with grpcio-tools {tools}; do not edit.
"""
TRITON_METHODS = ("ModelConfig", "ModelStatistics", "RepositoryIndex")
TRITON_FIELDS = {
    "ModelConfig": {"name", "platform", "backend", "max_batch_size", "input", "output"},
    "ModelInput": {"name", "data_type", "dims", "optional"},
    "ModelOutput": {"name", "data_type", "dims"},
    "ModelStatistics": {
        "name", "version", "last_inference", "inference_count", "execution_count", "inference_stats",
    },
}  # fmt: skip
"""The fields that are kept, by message: the messages have many more fields, which this server never fills."""


def published(package: str, path: str) -> FileDescriptorProto:
    """Read a definition in a separate process, since two definitions have the same names.

    The file is run alone: its package would import much more.
    """
    file = str(distribution(package).locate_file(path))
    code = "import runpy, sys; sys.stdout.buffer.write(runpy.run_path(sys.argv[1])['DESCRIPTOR'].serialized_pb)"
    read = subprocess.run([sys.executable, "-c", code, file], check=True, capture_output=True)  # noqa: S603
    return FileDescriptorProto.FromString(read.stdout)


def add_triton(file: FileDescriptorProto) -> None:
    """Add Triton's methods, and the messages that they need, to the protocol's."""
    theirs, config = (
        published("tritonclient", f"tritonclient/grpc/{name}_pb2.py") for name in ("service", "model_config")
    )
    known: dict[str, DescriptorProto | EnumDescriptorProto] = {}
    for part in (theirs, config):
        known |= {f".{part.package}.{message.name}": message for message in part.message_type}
        known |= {f".{part.package}.{enum.name}": enum for enum in part.enum_type}
    methods = [method for method in theirs.service[0].method if method.name in TRITON_METHODS]
    file.service[0].method.extend(methods)
    waiting = [name for method in methods for name in (method.input_type, method.output_type)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in known:  # an inner message comes with the outer message
            continue
        seen.add(name)
        found = known[name]
        if isinstance(found, EnumDescriptorProto):
            file.enum_type.append(found)
            continue
        wanted = TRITON_FIELDS.get(found.name)
        kept = [field for field in found.field if wanted is None or field.name in wanted]
        message = DescriptorProto(name=found.name, field=kept)
        needed = {field.type_name for field in kept if field.type_name}
        message.nested_type.extend(inner for inner in found.nested_type if f"{name}.{inner.name}" in needed)
        file.message_type.append(message)
        waiting += sorted(needed)


def write(file: FileDescriptorProto, name: str, what: str, *packages: str) -> None:
    """Compile a definition to a module."""
    file.name = f"{name}.proto"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "set").write_bytes(FileDescriptorSet(file=[file]).SerializeToString())
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={folder / 'set'}"]
        subprocess.run([*command, f"--python_out={folder}", file.name], check=True)  # noqa: S603
        code = (folder / f"{name}_pb2.py").read_text(encoding="utf-8")
    if code.count(SHARED) != 1:
        raise SystemExit(f"the compiler's output has changed: no {SHARED} in it")
    source = " and ".join(f"{package} {version(package)}" for package in packages)
    header = HEADER.format(what=what, source=source, tools=version("grpcio-tools"))
    (FOLDER / f"{name}_pb2.py").write_text(header + code.replace(SHARED, OWN), encoding="utf-8")
    sys.stdout.write(f"{name}_pb2.py: {len(file.message_type)} messages\n")


def main() -> None:
    """Write the files."""
    predict = published("kserve", "kserve/protocol/grpc/grpc_predict_v2_pb2.py")
    add_triton(predict)
    what = (
        "The Open Inference Protocol's messages, Copyright 2023 The KServe Authors, Apache License 2.0;\n"
        "# Triton's additions to them, Copyright 2018-2025 NVIDIA Corporation & Affiliates, 3-clause BSD License"
    )
    write(predict, "grpc_predict_v2", what, "kserve", "tritonclient")
    authors = "Copyright The gRPC Authors, Apache License 2.0"
    health = published("grpcio-health-checking", "grpc_health/v1/health_pb2.py")
    write(health, "grpc_health_v1", f"gRPC's health messages, {authors}", "grpcio-health-checking")
    reflection = published("grpcio-reflection", "grpc_reflection/v1alpha/reflection_pb2.py")
    for message in reflection.message_type:  # version 1 has the same messages under other names
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for method in reflection.service[0].method:
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    reflection.package = "grpc.reflection.v1"
    write(reflection, "grpc_reflection_v1", f"gRPC's reflection messages, {authors}", "grpcio-reflection")


if __name__ == "__main__":
    main()
