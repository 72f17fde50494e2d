"""A client of the Open Inference Protocol without a library, which sends rows as tensors in every form."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gateways import Gateway, free_port

DATATYPES = {
    **{
        np.dtype(f"{kind}{size}"): f"{word}{8 * size}"
        for kind, word in (("u", "UINT"), ("i", "INT"))
        for size in (1, 2, 4, 8)
    },
    **{np.dtype(f"f{size}"): f"FP{8 * size}" for size in (2, 4, 8)},
    np.dtype("?"): "BOOL",
    np.dtype("O"): "BYTES",
}
HEADER = "Inference-Header-Content-Length"
Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A running server, and its gRPC address."""

    gateway: Gateway
    rpc: str

    @property
    def infer_path(self) -> str:
        """The path of v2 predictions."""
        return f"/v2/models/{self.gateway.name}/infer"


def speak(bundles: Any, name: str, *, mode: str = "enforce", **server: Any) -> Iterator[Speaker]:
    """Serve a made-up model over HTTP and gRPC; ``server`` changes keys of the config's section ``server``."""
    gateway, rpc = start(bundles, name, mode=mode, **server)
    yield Speaker(gateway.wait_ready(), rpc)
    gateway.stop()


def start(bundles: Any, name: str, *, mode: str = "enforce", environment: Any = None, **server: Any) -> Any:
    """Start a server as :func:`speak` does, without waiting until it is ready."""
    path: Path = bundles.config(name)
    config = yaml.safe_load(path.read_text())
    port = free_port()
    config |= {"mode": mode, "server": {**config["server"], **server, "grpc_port": port}}
    changed = path.with_name(f"grpc-{port}.yaml")
    changed.write_text(yaml.safe_dump(config))
    return bundles.serve(name, config=changed, **(environment or {})), f"127.0.0.1:{port}"


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn rows of a table into one array for each column: float32 or strings; a missing value is NaN or ""."""
    arrays: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if any(isinstance(value, str) for value in values) or name in ("region", "job"):
            arrays[name] = np.array([value or "" for value in values], dtype=object)
        else:
            arrays[name] = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    return arrays


def head(name: str, array: Any) -> dict[str, Any]:
    """Write the JSON description of a tensor."""
    return {"name": name, "datatype": DATATYPES[array.dtype], "shape": list(array.shape)}


def packed(array: Any) -> bytes:
    """Write a tensor as binary data."""
    if array.dtype == object:
        texts = [value if isinstance(value, bytes) else value.encode() for value in array.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return bytes(array.tobytes())


def unpacked(data: bytes) -> list[str]:
    """Read the strings of a BYTES tensor from binary data."""
    texts = []
    while data:
        size = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return texts


def json_request(arrays: Arrays, *, nested: bool = False, **more: Any) -> dict[str, Any]:
    """Write a request without binary data; NaN is null."""
    inputs = []
    for name, array in arrays.items():
        values = array if nested else array.ravel()
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), None, values.astype(object))
        inputs.append({**head(name, array), "data": values.tolist()})
    return {"inputs": inputs, **more}


def binary_request(arrays: Arrays, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Write a request with all its tensors as binary data: the body and its headers."""
    parts = [packed(array) for array in arrays.values()]
    inputs = [
        {**head(name, array), "parameters": {"binary_data_size": len(part)}}
        for (name, array), part in zip(arrays.items(), parts, strict=True)
    ]
    start = json.dumps({"inputs": inputs, **more}).encode()
    headers = {HEADER: str(len(start)), "Content-Type": "application/octet-stream"}
    return b"".join([start, *parts]), headers


def json_answer(document: Mapping[str, Any]) -> dict[str, Any]:
    """Read the tensors of an answer in JSON."""
    answer = {}
    for output in document["outputs"]:
        dtype = object if output["datatype"] == "BYTES" else np.float32
        answer[output["name"]] = np.array(output["data"], dtype=dtype).reshape(output["shape"])
    return answer


def v1_answer(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn a v1 answer into the tensors of the equivalent v2 answer."""
    answer: dict[str, Any] = {
        "action": np.array([said["action"] for said in predictions], dtype=object),
        "id": np.array([said["id"] for said in predictions], dtype=object),
    }
    if "guards" in predictions[0]:
        values = [[np.nan if g["p_value"] is None else g["p_value"] for g in p["guards"].values()] for p in predictions]
        answer["p_value"] = np.array(values, dtype=np.float32)
    shown = [said for said in predictions if said["action"] not in ("abstain", "reject")]
    if any("value" in said for said in shown):
        nothing: dict[str, Any] = {"value": np.nan, "interval": [np.nan, np.nan]}
        for name, blank in nothing.items():
            answer[name] = np.array([said.get(name, blank) for said in predictions], dtype=np.float32)
    elif shown:
        answer["label"] = np.array([said["label"] or "" for said in predictions], dtype=object)
        k = len(shown[0]["probabilities"])
        numbers = [list(said.get("probabilities", dict.fromkeys(range(k), np.nan)).values()) for said in predictions]
        answer["probabilities"] = np.array(numbers, dtype=np.float32)
    return answer


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether the tensors that both answers have are equal to the last bit; all NaN are equal."""
    both = one.keys() & other.keys()
    return bool(both) and all(
        one[name].shape == other[name].shape
        and (
            _texts(one[name]) == _texts(other[name])
            if one[name].dtype == object
            else np.array_equal(one[name], other[name], equal_nan=True)
        )
        for name in both
    )


def _texts(array: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
