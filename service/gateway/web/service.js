// What the service can do now: asked again and again while the page is looked at.

const READY_MS = 10_000;
const WAITING_MS = 2_000;

export class Service extends EventTarget {
  /** "asking", "ready", "waiting" (it answers, but not with predictions) or "unreachable". */
  state = "asking";
  /** What it waits for, in its words. */
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
      this.#become(ready ? "ready" : "waiting", body.error?.message ?? "", body.models ?? {});
    } catch {
      this.#become("unreachable", "", {});
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), this.state === "ready" ? READY_MS : WAITING_MS);
  }

  #become(state, message, models) {
    const before = JSON.stringify([this.state, this.message, this.models]);
    Object.assign(this, { state, message, models });
    if (before !== JSON.stringify([state, message, models])) this.dispatchEvent(new Event("change"));
  }
}
