// What the service can do now: asked again and again while the page is looked at.

const READY_MS = 10_000;
const WAITING_MS = 2_000;

export class Service extends EventTarget {
  /** "asking", "ready", "waiting" (it answers, but not with predictions) or "unreachable". */
  state = "asking";
  /** What it waits for: its code, and in its words. */
  code = "";
  message = "";
  /** Version that answers, by model. */
  models = {};
  #api;
  #timer = 0;

  constructor(api) {
    super();
    this.#api = api;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.refresh();
    });
  }

  /** Ask now, and again later. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const { ready, body } = await this.#api.readiness();
      const { code = "", message = "" } = body.error ?? noLiveVersion(body);
      this.#become({ state: ready && code === "" ? "ready" : "waiting", code, message, models: body.models ?? {} });
    } catch {
      this.#become({ state: "unreachable", code: "", message: "", models: {} });
    }
    this.dispatchEvent(new Event("asked"));
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), this.state === "ready" ? READY_MS : WAITING_MS);
  }

  #become(now) {
    const { state, code, message, models } = this;
    if (JSON.stringify({ state, code, message, models }) === JSON.stringify(now)) return;
    Object.assign(this, now);
    this.dispatchEvent(new Event("change"));
  }
}

/** Return why a service that is ready cannot answer: no model has a live version. */
function noLiveVersion({ models = {} }) {
  if (Object.keys(models).length > 0) return {};
  const message = "no model has a live version; `fovea promote NAME VERSION` makes a candidate live";
  return { code: "no_live_version", message };
}
