// Parses every TraceQL query of the dashboards with Grafana's own grammar, variables filled in as Grafana would.
import { parser } from "@grafana/lezer-traceql";
import { dashboards, traceql } from "./documents.mjs";

const values = { namespace: "chat|search", service: ".*", slow: "10", first_token: "2.5" };

function filledIn(query) {
  return query.replace(/\$\{(\w+):pipe\}|\$(\w+)/g, (all, braced, bare) => {
    const value = values[braced ?? bare];
    if (value === undefined) throw new Error(`no value for ${all} in ${query}`);
    return value;
  });
}

/** Where the parser had to recover, or null. */
function fault(query) {
  let at = null;
  parser.parse(query).iterate({ enter: (node) => { if (node.type.isError && at === null) at = node.from; } });
  return at;
}

for (const broken of ["{ span.a = }", '{ span:name="x" | select(span.b)', "{ } | compare("]) {
  if (fault(broken) === null) throw new Error(`the grammar takes what is broken: ${broken}`);
}

let count = 0;
let failed = false;
for (const { file, text } of dashboards()) {
  for (const { place, query } of traceql(JSON.parse(text))) {
    count += 1;
    const filled = filledIn(query);
    const at = fault(filled);
    if (at !== null) {
      failed = true;
      console.error(`${file}: ${place}: not TraceQL at '${filled.slice(at, at + 30)}' in ${filled}`);
    }
  }
}
if (count < 9) throw new Error(`only ${count} TraceQL queries were found`);
if (failed) process.exit(1);
console.log(`${count} TraceQL queries are well-formed`);
