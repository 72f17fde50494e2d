// The same request as text: for a shell, for Python with requests, tritonclient, and BentoML's client.

const KEY = "GUARDHOUSE_KEY"; // the environment variable from which the texts read the key

const WRITERS = { curl, "Python (requests)": requests, tritonclient: triton, "BentoML client": bentoml };
export const WAYS = Object.keys(WRITERS);

/**
 * The request for one of the ways, as a text that runs as it is.
 *
 * `base` is the address of the server, which ends with a slash, `model` its name, `rows` the schema, `body` the request
 * as v1 takes it, and `keyed` says whether the server wants a key.
 */
export function requestText(way, { base, model, rows, body, keyed }) {
  return WRITERS[way]({ url: new URL(base), model, rows, body, keyed });
}

function curl({ url, model, body, keyed }) {
  const address = `${url.href}v1/models/${encodeURIComponent(model)}:predict`;
  const lines = [`curl -s ${address} \\`, "  -H 'Content-Type: application/json' \\"];
  if (keyed) lines.push(`  -H "Authorization: Bearer $${KEY}" \\`);
  return [...lines, "  -d @- <<'JSON'", JSON.stringify(body), "JSON", ""].join("\n");
}

function requests({ url, model, body, keyed }) {
  return `# pip install requests
${keyed ? "import os\n\n" : ""}import requests

body = ${literal(body)}
answer = requests.post(
    "${url.href}v1/models/${encodeURIComponent(model)}:predict",
    json=body,${keyed ? `\n    headers={"Authorization": f"Bearer {os.environ['${KEY}']}"},` : ""}
    timeout=60,
)
answer.raise_for_status()
print(answer.json())
`;
}

function triton({ url, model, rows, body, keyed }) {
  const secure = url.protocol === "https:" ? ", ssl=True" : "";
  const headers = keyed ? `, headers={"Authorization": f"Bearer {os.environ['${KEY}']}"}` : "";
  const tensors = tensorsOf(rows, body).map(
    ([name, datatype, values]) => `    ${literal(name)}: ("${datatype}", ${values}),`,
  );
  return `# pip install "tritonclient[http]"
${body.instances[0]?.b64 === undefined ? "" : "import base64\n"}${keyed ? "import os\n" : ""}
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

tensors = {
${tensors.join("\n")}
}
inputs = []
for name, (datatype, values) in tensors.items():
    array = np.array(values, dtype=np.float32 if datatype == "FP32" else object)
    inputs.append(InferInput(name, list(array.shape), datatype))
    inputs[-1].set_data_from_numpy(array)
client = InferenceServerClient("${url.host}${url.pathname.slice(0, -1)}"${secure})
answer = client.infer(${literal(model)}, inputs, parameters=${literal(body.parameters)}${headers})
for output in answer.get_response()["outputs"]:
    print(output["name"], answer.as_numpy(output["name"]).tolist())
client.close()
`;
}

/** The tensors of the request: for a table one a column, otherwise `x`; a group's value is one more. */
function tensorsOf(rows, { instances: [row], groups = {} }) {
  const tensors = [];
  if (rows.kind === "tabular") {
    for (const [place, column] of rows.columns.entries()) {
      const value = Array.isArray(row) ? row[place] : row[column.name];
      if (column.kind === "categorical") tensors.push([column.name, "BYTES", literal([value == null ? "" : String(value)])]);
      else tensors.push([column.name, "FP32", literal([value ?? null])]); // NumPy reads None as NaN
    }
  } else if (row?.b64 !== undefined) {
    tensors.push(["x", "BYTES", `[base64.b64decode(${literal(row.b64)})]`]);
  } else {
    tensors.push(["x", "FP32", literal([row])]);
  }
  for (const [name, values] of Object.entries(groups)) tensors.push([`group_${name}`, "BYTES", literal(values)]);
  return tensors;
}

function bentoml({ url, body, keyed }) {
  const given = Object.entries(body).map(([name, value]) => `        ${name}=${literal(value)},`);
  return `# pip install bentoml; the server must run under BentoML (not with --plain)
${keyed ? "import os\n\n" : ""}import bentoml

with bentoml.SyncHTTPClient("${url.href.slice(0, -1)}"${keyed ? `, token=os.environ["${KEY}"]` : ""}) as client:
    answer = client.predict(
${given.join("\n")}
    )
print(answer)
`;
}

/** A value of JSON as Python writes it. */
export function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
}
