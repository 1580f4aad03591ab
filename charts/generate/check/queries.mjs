// Parses every query of the dashboards with Grafana's grammar of TraceQL and Prometheus' of PromQL, variables filled in.
import { parser as traceqlParser } from "@grafana/lezer-traceql";
import { parser as promqlParser } from "@prometheus-io/lezer-promql";
import { dashboards, filledIn, promql, traceql } from "./documents.mjs";

const languages = [
  { name: "TraceQL", parser: traceqlParser, queries: traceql, least: 9, broken: ["{ span.a = }", '{ span:name="x" | select(span.b)', "{ } | compare("] },
  { name: "PromQL", parser: promqlParser, queries: promql, least: 60, broken: ["sum by (a (b)", "rate(a[5m)", 'a{b~"c"}'] },
];

/** Where the parser had to recover, or null. */
function fault(parser, query) {
  let at = null;
  parser.parse(query).iterate({ enter: (node) => { if (node.type.isError && at === null) at = node.from; } });
  return at;
}

let failed = false;
for (const { name, parser, queries, least, broken } of languages) {
  for (const query of broken) {
    if (fault(parser, query) === null) throw new Error(`the grammar takes what is broken: ${query}`);
  }
  let count = 0;
  for (const { file, text } of dashboards()) {
    for (const { place, query } of queries(JSON.parse(text))) {
      count += 1;
      const filled = filledIn(query);
      const at = fault(parser, filled);
      if (at === null) continue;
      failed = true;
      console.error(`${file}: ${place}: not ${name} at '${filled.slice(at, at + 30)}' in ${filled}`);
    }
  }
  if (count < least) throw new Error(`only ${count} queries of ${name} were found`);
  console.log(`${count} queries of ${name} were read`);
}
if (failed) process.exit(1);
