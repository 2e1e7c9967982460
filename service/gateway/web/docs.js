// The API page: Swagger UI on the gateway's own description, without markup from strings, data: and blob: addresses.

import { drawFile } from "./picture.js";

const link = document.getElementById("openapi");

followColorScheme();
start().catch((error) => {
  const failure = document.getElementById("failure");
  failure.textContent = `The description of the API cannot be loaded: ${error.message}. Reload the page to try again.`;
  failure.hidden = false;
});

async function start() {
  const reply = await fetch(link.href);
  if (!reply.ok) throw new Error(`${link.href} answered with status ${reply.status}`);
  globalThis.SwaggerUIBundle({
    dom_id: "#swagger-ui",
    spec: prepare(await reply.json()),
    plugins: [StrictPolicy],
    validatorUrl: null, // by default Swagger UI sends the address of the description to a server of its own
    deepLinking: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
  });
}

/** Return the description as Swagger UI shows it best: with the server's address, shell samples and empty fields. */
function prepare(document) {
  // The paths start where the description lies, also behind a proxy that hides its prefix from the gateway.
  document.servers ??= [{ url: new URL(".", link.href).pathname }];
  for (const operation of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    for (const { source } of operation["x-codeSamples"] ?? []) {
      operation.description += `\n\n\`\`\`\n${source}\n\`\`\``;
    }
    for (const parameter of operation.parameters ?? []) {
      if (!parameter.required) delete parameter.example; // Swagger UI would send it
    }
  }
  return document;
}

/** A plugin of Swagger UI: draws texts and images with elements, not as markup or from blob: addresses. */
function StrictPolicy({ React }) {
  const element = React.createElement;

  const Markdown = ({ source, className = "" }) =>
    element("div", { className: `markdown ${className}` }, ...split(source ?? "").map(drawBlock));

  const drawBlock = (block) =>
    block.startsWith("```")
      ? element("pre", null, element("code", null, block.replace(/^```\w*\n|\n```$/g, "")))
      : element("p", null, ...block.split(/`([^`]+)`/).map((part, at) => (at % 2 ? element("code", null, part) : part)));

  const Picture = ({ file }) => {
    const canvas = React.useRef(null);
    React.useEffect(() => {
      const leaving = new AbortController();
      drawFile(file, canvas.current, leaving.signal);
      return () => leaving.abort();
    }, [file]);
    return element("canvas", { ref: canvas, role: "img", "aria-label": "The reply's image" });
  };

  const ResponseBody = (Original) => (props) => {
    const { content, contentType } = props;
    const isImage = content instanceof Blob && /^image\//i.test(contentType);
    return isImage
      ? element("div", null, element("h5", null, "Response body"), element(Picture, { file: content }))
      : element(Original, props);
  };

  return { wrapComponents: { Markdown: () => Markdown, responseBody: ResponseBody } };
}

/** Return the blocks of a text: paragraphs, and code between lines of three backticks. */
function split(text) {
  return text
    .split(/(^```[^]*?^```$)/m)
    .flatMap((part) => (part.startsWith("```") ? [part] : part.split(/\n\s*\n/)))
    .map((block) => block.trim())
    .filter((block) => block !== "");
}

function followColorScheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();
}
