// What the page says, in words: warnings, failures, numbers.

const UNLIKE = "unlike_training_images";
const WARNINGS = {
  [UNLIKE]: {
    title: "Unlike the training images",
    text: "This picture is unlike the images that the model was trained on. Its answer says nothing about such a picture.",
  },
};

const FAILURES = {
  undecodable_image: "The image is damaged",
  empty_image: "The file is empty",
  unsupported_image: "This format is not read",
  image_too_large: "The image has too many pixels",
  body_too_large: "The file is too large",
  model_not_found: "The model is gone",
  version_not_found: "The version is gone",
  no_live_version: "No live version",
  no_model: "No model yet",
  model_not_ready: "The model is not loaded yet",
  overloaded: "The service is busy",
  draining: "The service is stopping",
  rate_limited: "Too many requests",
  model_server_broke_contract: "The model failed",
  deadline_exceeded: "The model took too long",
  model_server_unreachable: "The model server does not answer",
  unreachable: "The service cannot be reached",
  unreadable_file: "The file cannot be read",
  no_explanation: "This model gives no heat maps",
  no_embedding: "This model gives no embeddings",
  no_answer: "No answer in time",
};

const BY_STATUS = {
  401: "A key is needed",
  403: "Not allowed with this key",
  413: "Too large",
  415: "This format is not read",
  429: "Too many requests",
  503: "Not ready",
  504: "The model took too long",
};

/** Return a warning's title and sentence; a code that this page does not know is shown as it is. */
export function describeWarning(code) {
  const words = String(code).replaceAll("_", " ");
  return WARNINGS[code] ?? { title: "Warning", text: `Warning of the service: ${words}.` };
}

/** Return whether an answer's class and probabilities say nothing about its image. */
export function isDistrusted({ warnings }) {
  return warnings.includes(UNLIKE);
}

/** Return the title of a failure. */
export function describeFailure(error) {
  return FAILURES[error.code] ?? BY_STATUS[error.status] ?? "The service could not answer";
}

/** Return one of the model's thresholds, applied to an image: a headline and what it rests on. */
export function describeDecision({ label, probability, threshold, called, sensitivity, specificity }) {
  const share = (value) => `${(100 * value).toFixed(0)} %`;
  return {
    title: `${called ? "Called" : "Not called"}: ${label}`,
    text:
      `${percent(probability)} is ${called ? "not below" : "below"} the threshold of ${percent(threshold)}. On test images it ` +
      `found ${share(sensitivity)} of this class and left alone ${share(specificity)} of the others.`,
  };
}

/** Return how many classes are not listed. */
export function describeRest(number) {
  return number === 1 ? "and one further class, less probable" : `and ${number} further classes, all less probable`;
}

/** Return a probability in [0, 1] as a percentage that never rounds doubt away. */
export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "< 0.1 %";
  if (probability < 1 && probability > 0.999) return "> 99.9 %";
  return `${(100 * probability).toFixed(1)} %`;
}

/** Return a message of the service as a sentence. */
export function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Return a text as nodes, with what stands between backticks as code. */
export function withCode(text) {
  return text.split("`").map((piece, i) => {
    if (i % 2 === 0) return document.createTextNode(piece);
    const code = document.createElement("code");
    code.textContent = piece;
    return code;
  });
}

/** Return a count with its noun. */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return "a", "a and b", "a, b and c". */
export function list(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}
