"""Asks a server with the unmodified KServe client, in a separate process: KServe defines messages of the same names.

Reads {"url", "rpc", "model", "inputs": [{"name", "datatype", "shape", "data"}]}, and writes the answers.
"""

import asyncio
import json
import logging
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

DTYPES = {"FP32": np.float32, "BYTES": np.object_, "UINT8": np.uint8}


def request(task: Any, *, binary: bool | None) -> InferRequest:
    """Make a request with tensors as binary data (True), as JSON (False), or as lists for typed contents (None)."""
    inputs = []
    for given in task["inputs"]:
        tensor = InferInput(given["name"], given["shape"], given["datatype"])
        if binary is None:
            tensor.data = given["data"]
        else:
            array = np.array(given["data"], dtype=DTYPES[given["datatype"]]).reshape(given["shape"])
            tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    parameters = {"binary_data_output": True} if binary else None
    return InferRequest(task["model"], inputs, request_id="kserve", parameters=parameters)


def answer(response: Any) -> Any:
    """Turn the tensors of an answer into JSON."""
    outputs = {}
    for output in response.outputs:
        array = output.as_numpy()
        values = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
        outputs[output.name] = {"shape": list(array.shape), "datatype": output.datatype, "data": values}
    return {"id": response.id, "outputs": outputs}


async def main(task: Any) -> Any:
    """Ask over REST with JSON and binary data, and over gRPC with raw and typed contents."""
    url, model = task["url"], task["model"]
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
    rpc = InferenceGRPCClient(task["rpc"], retries=2)
    said = {
        "ready": [
            await rest.is_server_live(url), await rest.is_server_ready(url), await rest.is_model_ready(url, model),
            await rpc.is_server_live(), await rpc.is_server_ready(), await rpc.is_model_ready(model),
        ],
        "json": answer(await rest.infer(url, request(task, binary=False), model_name=model)),
        "binary": answer(await rest.infer(url, request(task, binary=True), model_name=model)),
        "raw": answer(await rpc.infer(request(task, binary=True))),
        "typed": answer(await rpc.infer(request(task, binary=None))),
    }  # fmt: skip
    await rest.close()
    await rpc.close()
    return said


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.stdout.write(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
