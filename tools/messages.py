"""Write service/protocols/grpc_predict_v2_pb2.py: the messages of the Open Inference Protocol over gRPC.

KServe publishes the protocol's definition in its package; its descriptor goes through the protocol buffer compiler of
grpcio-tools, so that a server needs neither of the two. The messages get a descriptor pool of their own: any client
of the protocol defines the same names, and could not be imported into the same process otherwise.

    pip install kserve==0.20.0 grpcio-tools==1.76.0 && python tools/messages.py
"""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from kserve.protocol.grpc import grpc_predict_v2_pb2

OUT = Path(__file__).resolve().parent.parent / "service" / "protocols" / "grpc_predict_v2_pb2.py"
SHARED, OWN = "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"
HEADER = """\
# The Open Inference Protocol's messages, Copyright 2023 The KServe Authors, Apache License 2.0.
# Written by tools/messages.py from the definition in kserve {kserve} with grpcio-tools {tools}; do not edit.
"""


def main() -> None:
    """Write the file."""
    published = FileDescriptorProto()
    grpc_predict_v2_pb2.DESCRIPTOR.CopyToProto(published)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "set").write_bytes(FileDescriptorSet(file=[published]).SerializeToString())
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={folder / 'set'}"]
        subprocess.run([*command, f"--python_out={folder}", published.name], check=True)  # noqa: S603
        code = (folder / OUT.name).read_text(encoding="utf-8")
    if code.count(SHARED) != 1:
        raise SystemExit(f"the compiler's output has changed: no {SHARED} in it")
    header = HEADER.format(kserve=version("kserve"), tools=version("grpcio-tools"))
    OUT.write_text(header + code.replace(SHARED, OWN), encoding="utf-8")
    sys.stdout.write(f"{OUT.name}: {len(published.message_type)} messages\n")


if __name__ == "__main__":
    main()
