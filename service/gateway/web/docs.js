// The API page: Swagger UI on the gateway's own description, without markup from strings, data: and blob: addresses.

import { drawFile } from "./picture.js";

const SAMPLE_ADDRESS = "http://127.0.0.1:8000"; // of documentation/code_samples.py
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
  const root = new URL(".", link.href).href.replace(/\/$/, "");
  for (const operation of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    const samples = (operation["x-codeSamples"] ?? []).map(({ lang, source }) => ({
      lang: lang === "Shell" ? "curl" : lang,
      source: source.replaceAll(SAMPLE_ADDRESS, root),
    }));
    operation.description = `${operation.description ?? ""}\n\n\`\`\`samples\n${JSON.stringify(samples)}\n\`\`\``;
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
    block.startsWith("```samples")
      ? element(Samples, { samples: JSON.parse(block.replace(/^```samples\n|\n```$/g, "")) })
      : block.startsWith("```")
      ? element("pre", null, element("code", null, block.replace(/^```\w*\n|\n```$/g, "")))
      : element("p", null, ...block.split(/`([^`]+)`/).map((part, at) => (at % 2 ? element("code", null, part) : part)));

  const Samples = ({ samples }) => {
    const languages = [...new Set(samples.map(({ lang }) => lang))];
    const [chosen, choose] = React.useState(languages[0]);
    const [copied, setCopied] = React.useState("");
    const buttons = languages.map((lang) =>
      element("button", { key: lang, type: "button", "aria-pressed": lang === chosen, onClick: () => choose(lang) }, lang),
    );
    const copy = async (source, target) => {
      try {
        await navigator.clipboard.writeText(source);
        setCopied(source);
      } catch {
        getSelection().selectAllChildren(target); // no clipboard without HTTPS: the text is ready for Ctrl+C
      }
    };
    const blocks = samples
      .filter(({ lang }) => lang === chosen)
      .map(({ source }) =>
        element(
          "div",
          { key: source, className: "sample" },
          element("pre", null, element("code", null, source)),
          element(
            "button",
            { type: "button", onClick: (event) => copy(source, event.currentTarget.previousSibling) },
            copied === source ? "Copied" : "Copy",
          ),
        ),
      );
    return element(
      "div",
      { className: "samples" },
      element("div", { className: "languages", role: "group", "aria-label": "Language of the sample" }, ...buttons),
      ...blocks,
    );
  };

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
