// Type-checks the dashboards against @grafana/schema, which ships types only: each file becomes a literal of its type.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { dashboards } from "./documents.mjs";

const out = fileURLToPath(new URL("./generated/", import.meta.url));
const options = {
  strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext, types: [],
};

/** What the compiler says of these files. */
function complaints(files) {
  const program = ts.createProgram(files, options);
  return ts.getPreEmitDiagnostics(program).map((found) => {
    const text = ts.flattenDiagnosticMessageText(found.messageText, "\n");
    if (!found.file) return text;
    const { line } = found.file.getLineAndCharacterOfPosition(found.start);
    return `${found.file.fileName}:${line + 1}: ${text}`;
  });
}

/** Enums of the schema are written as their values in JSON: a type that takes the one for the other. */
const head = `import type { Dashboard } from "@grafana/schema";
type Json<T> = T extends string ? \`\${T}\` : T extends number ? number : T extends Array<infer E> ? Json<E>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
`;
function written(name, text) {
  const file = `${out}${name}.ts`;
  writeFileSync(file, `${head}export const dashboard: Json<Dashboard> = ${text};\n`);
  return file;
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const broken = written("broken", '{ "schemaVersion": "41", "panels": [{ "type": 7 }], "nothing": 1 }');
if (complaints([broken]).length < 2) throw new Error("the schema takes what is broken");
rmSync(broken);

const files = dashboards().map(({ file, text }) => written(file.replace(".json", ""), text));
const found = complaints(files);
found.forEach((complaint) => console.error(complaint));
if (found.length > 0) process.exit(1);
console.log(`${files.length} dashboards are what @grafana/schema says`);
