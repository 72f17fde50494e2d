// Requests to this server, with the key of the session if there is one.

const KEY = "guardhouse-key";
let onNeedOfKey = () => {};

// An answer that is no success: `status` is the HTTP status (0: no answer), `detail` a sentence, `document` the body.
export class ApiError extends Error {
  constructor(status, detail, document = null) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.detail = detail;
    this.document = document;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export const useKey = (key) => sessionStorage.setItem(KEY, key);

export const whenKeyIsNeeded = (listener) => { onNeedOfKey = listener; };

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    // A relative address: a proxy may serve everything under a prefix.
    answer = await fetch(`.${path}`, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch {
    throw new ApiError(0, "The server does not answer.");
  }
  const kind = answer.headers.get("Content-Type") ?? "";
  let body = null;
  try {
    body = kind.includes("json") ? await answer.json() : await answer.blob();
  } catch {
    throw new ApiError(answer.status, "The server's answer ended early.");
  }
  if (answer.ok) return body;
  if (answer.status === 401) {
    sessionStorage.removeItem(KEY);
    onNeedOfKey(key !== null);
  }
  const document = body instanceof Blob ? null : body;
  throw new ApiError(answer.status, document?.detail ?? document?.error ?? `The server answered ${answer.status}.`, document);
}

export const api = {
  // Paths begin with a slash. JSON becomes an object, and any other body a Blob.
  get: (path) => ask(path),
  post: (path, body, headers = {}) =>
    ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } }),
};
