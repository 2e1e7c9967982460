// Requests to the gateway, and what can become of them.

const ROOT = new URL("../", import.meta.url);
const TIMEOUT_MS = 120_000;
const BUSY = [429, 503];
const ATTEMPTS = 4;
const MAX_WAIT_S = 30;

/** A request that was not answered as asked; `status` is 0 if there was no reply. */
export class ServiceError extends Error {
  constructor(message, { status = 0, code = "", requestId = "", retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfterS });
  }
}

export class Api {
  #keys;

  constructor(keys) {
    this.#keys = keys;
  }

  /** Return what /readyz says, whatever its status. */
  async readiness() {
    const reply = await fetch(new URL("readyz", ROOT), { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    return { ready: reply.ok, body: await reply.json() };
  }

  /**
   * Return a model's description, of the live version or of that with a role; throws a ServiceError of status 401
   * without a key.
   */
  async describe(model, role = "live") {
    const accept = "application/vnd.fovea+json"; // by default it is TensorFlow Serving's status alone
    const path = role === "live" ? "" : `/labels/${role}`;
    const reply = await this.#send(`v1/models/${encodeURIComponent(model)}${path}`, { accept });
    if (!reply.ok) throw await errorOf(reply);
    return reply.json();
  }

  /** Classify one file, sent as it is. */
  async predict(file, query, options) {
    return (await this.#post("v1/predict", file, query, options)).json();
  }

  /** Return where a model looked in one file, as numbers. */
  async explain(file, query, options) {
    return (await this.#post("v1/explain", file, query, options)).json();
  }

  /** Return where a model looked in one file, as a PNG of the service. */
  async drawExplanation(file, query, options) {
    return (await this.#post("v1/explain", file, query, { ...options, accept: "image/png" })).blob();
  }

  /** Return which parts of the page this service has use for. */
  async features() {
    const reply = await fetch(new URL("web/features.json", ROOT), { cache: "no-store" });
    return reply.ok ? reply.json() : {};
  }

  /** Give an image's true class, with consent; its name is not sent. */
  async giveFeedback(file, texts, options) {
    return (await this.#post("v1/feedback", formOf(file, texts), {}, options)).json();
  }

  /** Take an image's feedback back. */
  async deleteFeedback(id, options) {
    await this.#ask(`v1/feedback/${encodeURIComponent(id)}`, { ...options, method: "DELETE" });
  }

  /** Queue an image without a label for review. */
  async queueReview(file, texts, options) {
    return (await this.#post("v1/review", formOf(file, texts), {}, options)).json();
  }

  /** Return a part of the review. */
  async review(query) {
    return (await this.#ask(`v1/review?${new URLSearchParams(query)}`, {})).json();
  }

  /** Return the picture of an image in the review. */
  async reviewImage(id, options) {
    return (await this.#ask(`v1/review/${encodeURIComponent(id)}/image`, { ...options, accept: "image/*" })).blob();
  }

  /** Accept or correct the label of an image in the review. */
  async decideReview(id, label) {
    const body = new Blob([JSON.stringify({ label })], { type: "application/json" });
    await this.#ask(`v1/review/${encodeURIComponent(id)}`, { method: "PUT", body, isFile: false });
  }

  /** Delete an image of the review. */
  async deleteReview(id) {
    await this.#ask(`v1/review/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  /** Send a request; a missing key is asked for. */
  async #ask(address, options) {
    for (;;) {
      const sent = this.#keys.current;
      const reply = await this.#send(address, options);
      if (reply.ok) return reply;
      const error = await errorOf(reply);
      if (error.status !== 401 || !(await this.#keys.ask(sent))) throw error;
    }
  }

  /**
   * Post a file; a busy service is tried again when it says so, a missing key is asked for.
   *
   * @param {{signal: AbortSignal, onWait?: (seconds: number) => void, accept?: string}} options
   */
  async #post(path, file, query, { signal, onWait = () => {}, accept = "application/json" }) {
    const address = `${path}?${new URLSearchParams(query)}`;
    for (let attempt = 1; ; ) {
      const sent = this.#keys.current;
      const reply = await this.#send(address, { method: "POST", body: file, accept, signal });
      if (reply.ok) return reply;
      const error = await errorOf(reply);
      if (error.status === 401 && (await this.#keys.ask(sent))) continue;
      if (!BUSY.includes(error.status) || error.retryAfterS === null || attempt === ATTEMPTS) throw error;
      attempt += 1;
      onWait(error.retryAfterS);
      await pause(error.retryAfterS, signal);
    }
  }

  async #send(address, { method = "GET", body = null, accept = "application/json", signal = null, isFile = true }) {
    const headers = { accept };
    // A file that is no image must be refused as a file, not read as what its type says, JSON for example.
    if (body instanceof Blob && isFile) headers["content-type"] = body.type.startsWith("image/") ? body.type : "application/octet-stream";
    if (this.#keys.current !== null) headers["x-api-key"] = this.#keys.current;
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    try {
      return await fetch(new URL(address, ROOT), {
        method,
        headers,
        body,
        cache: "no-store",
        signal: signal === null ? limit : AbortSignal.any([signal, limit]),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw await explainFailure(error, body);
    }
  }
}

/** Say why there was no reply: no answer in time, a file that is gone (fetch does not tell), or no network. */
async function explainFailure(error, body) {
  if (error.name === "TimeoutError") {
    return new ServiceError(`The service did not answer within ${TIMEOUT_MS / 1000} seconds.`, { code: "no_answer" });
  }
  const files = body instanceof FormData ? [body.get("file")] : [body].filter(Boolean);
  if (files.length > 0 && !(await isReadable(files[0]))) {
    return new ServiceError("It was moved, changed or removed after it was chosen, or is a folder.", {
      code: "unreadable_file",
    });
  }
  return new ServiceError("The network or the service is down. The image was not classified.", { code: "unreachable" });
}

/** Return a form with an image without its name, and texts. */
function formOf(file, texts) {
  const form = new FormData();
  form.append("file", file, "image");
  for (const [name, value] of Object.entries(texts)) form.append(name, value);
  return form;
}

async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

async function errorOf(reply) {
  const body = await reply.json().catch(() => null);
  const retryAfter = Number.parseFloat(reply.headers.get("retry-after") ?? "");
  return new ServiceError(body?.error?.message ?? `The service answered with status ${reply.status}.`, {
    status: reply.status,
    code: body?.error?.code ?? "",
    requestId: body?.error?.request_id ?? reply.headers.get("x-request-id") ?? "",
    retryAfterS: Number.isFinite(retryAfter) ? Math.min(retryAfter, MAX_WAIT_S) : null,
  });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}
