// Makes src/protocol.ts, the types of all that calderad takes and answers, from docs/openrpc.json.
//
//   node generate.mjs           writes it
//   node generate.mjs --check   fails if it is not what would be written
//
// A generator of our own, because the document is small and ours: it has a dozen words of JSON
// Schema, and one that it does not know yet stops the generator, where a general one would write
// `unknown` and go on. What is written is committed, so that whoever reads or installs the client
// needs neither the document nor this script.

import { readFileSync, writeFileSync } from "node:fs";

const source = new URL("../../docs/openrpc.json", import.meta.url);
const target = new URL("src/protocol.ts", import.meta.url);
const { info, methods, components } = JSON.parse(readFileSync(source, "utf8"));

const KNOWN = new Set([
  ...["description", "examples", "type", "enum", "$ref", "allOf", "oneOf", "properties", "required"],
  ...["items", "additionalProperties"],
  // Bounds, which types cannot hold; the service does.
  ...["pattern", "minLength", "maxLength", "minimum", "maximum", "contentEncoding"],
]);
const PRIMITIVES = { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" };

/** A schema as a type; `indent` is where its lines begin. */
function type(schema, indent, optional) {
  const unknown = Object.keys(schema).filter((word) => !KNOWN.has(word));
  if (unknown.length > 0) {
    throw new Error(`a schema has what this generator does not know: ${unknown.join(", ")}`);
  }
  if (schema.$ref !== undefined) {
    return reference(schema.$ref);
  }
  if (schema.allOf !== undefined) {
    return schema.allOf.map((part) => type(part, indent, optional)).join(" & ");
  }
  if (schema.oneOf !== undefined) {
    return schema.oneOf.map((part) => type(part, indent, optional)).join(" | ");
  }
  if (schema.enum !== undefined) {
    return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  }
  if (Array.isArray(schema.type)) {
    return schema.type.map((it) => type({ ...schema, type: it }, indent, optional)).join(" | ");
  }
  if (schema.type === "array") {
    const item = type(schema.items, indent, optional);
    return /[|&]/.test(item) ? `(${item})[]` : `${item}[]`;
  }
  if (schema.type === "object") {
    if (schema.properties === undefined) {
      return "Record<string, unknown>";
    }
    const fields = Object.entries(schema.properties).map(([name, field]) => ({
      name,
      field,
      required: schema.required.includes(name),
    }));
    return object(fields, indent, optional);
  }
  if (!(schema.type in PRIMITIVES)) {
    throw new Error(`a schema has the type ${JSON.stringify(schema.type)}`);
  }
  return PRIMITIVES[schema.type];
}

/**
 * Fields in braces. `optional` follows the type of a field that may be absent: a parameter may be
 * `undefined` as well, which JSON leaves out; what the service answers is never that.
 */
function object(fields, indent, optional) {
  const lines = fields.map(({ name, field, required }) => {
    const text = type(field, `${indent}  `, optional);
    const shown = required ? `${name}: ${text}` : `${name}?: ${text}${optional}`;
    return `${comment(field.description, `${indent}  `)}${indent}  ${shown};\n`;
  });
  return `{\n${lines.join("")}${indent}}`;
}

function reference(name) {
  const [, kind, last] = /^#\/components\/(schemas|errors)\/(\w+)$/.exec(name) ?? [];
  if (last === undefined || components[kind][last] === undefined) {
    throw new Error(`${name} is not in the document`);
  }
  return last;
}

function comment(text, indent) {
  return text === undefined ? "" : `${indent}/** ${text.replaceAll("*/", "* /")} */\n`;
}

const parts = [
  `// Generated from docs/openrpc.json by generate.mjs; do not edit.\n`,
  `/** The version of the protocol that these types are of. */\nexport const PROTOCOL_VERSION = ${JSON.stringify(info.version)};\n`,
];

for (const [name, schema] of Object.entries(components.schemas)) {
  // Quotas are sent and answered: there, too, an absent field may be `undefined`.
  const sent = methods.some((method) =>
    method.params.some((it) => it.schema.$ref === `#/components/schemas/${name}`),
  );
  const text = type(schema, "", sent ? " | undefined" : "");
  const declared = schema.properties === undefined ? `type ${name} = ${text};` : `interface ${name} ${text}`;
  parts.push(`${comment(schema.description, "")}export ${declared}\n`);
}

const signatures = methods.map(({ name, summary, params, result, errors }) => {
  const fields = params.map((it) => ({
    name: it.name,
    field: { ...it.schema, description: it.description },
    required: it.required,
  }));
  const shown = fields.length === 0 ? "Record<string, never>" : object(fields, "    ", " | undefined");
  const reasons = errors.map((it) => JSON.stringify(reference(it.$ref))).join(" | ") || "never";
  return (
    `${comment(summary, "  ")}  ${JSON.stringify(name)}: {\n    params: ${shown};\n` +
    `    result: ${type(result.schema, "    ", "")};\n    refusals: ${reasons};\n  };\n`
  );
});
parts.push(
  `/**\n * What can be called. Any method may also answer with a reason that has to do with no method of its\n` +
    ` * own: parse, invalidRequest, methodNotFound, invalidParams, internal, and those of a quota.\n */\n` +
    `export interface Methods {\n${signatures.join("")}}\n`,
);

const codes = Object.entries(components.errors).map(([reason, error]) => `  ${reason}: ${error.code},\n`);
parts.push(
  `/** Why the service may refuse, and the code that goes with the reason. */\n` +
    `export const ERROR_CODES = {\n${codes.join("")}} as const;\n`,
  `/** The stable name of a refusal: match on this. */\nexport type ServiceReason = keyof typeof ERROR_CODES;\n`,
);

const text = parts.join("\n");
if (process.argv[2] === "--check") {
  let found = "";
  try {
    found = readFileSync(target, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") {
      throw error;
    }
  }
  if (found !== text) {
    const [expected, got] = [text.split("\n"), found.split("\n")];
    const line = [...expected, undefined].findIndex((it, at) => it !== got[at]);
    console.error(
      `src/protocol.ts is not of docs/openrpc.json: run \`npm run generate\`\n` +
        `line ${line + 1}: expected ${expected[line] ?? "the end of the file"}\n     got ${got[line] ?? "the end of the file"}`,
    );
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
