// What the chart ships, and every query in it.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const directory = fileURLToPath(new URL("../../sojourn/dashboards/", import.meta.url));

/** Every dashboard: its file's name and its content. */
export function dashboards() {
  const files = readdirSync(directory).filter((file) => file.endsWith(".json"));
  return files.map((file) => ({ file, text: readFileSync(directory + file, "utf8") }));
}

/** TraceQL of a dashboard: of its panels, and of the links into Explore. */
export function traceql(dashboard) {
  const queries = [];
  for (const panel of dashboard.panels) {
    for (const target of panel.targets ?? []) {
      if (target.queryType === "traceql") queries.push({ place: panel.title, query: target.query });
    }
    for (const link of panel.fieldConfig?.defaults?.links ?? []) {
      const panes = new URLSearchParams(link.url.split("?")[1]).get("panes");
      for (const pane of Object.values(JSON.parse(panes))) {
        for (const { query } of pane.queries) queries.push({ place: `${panel.title}: ${link.title}`, query });
      }
    }
  }
  return queries;
}

/** PromQL of a dashboard's panels. */
export function promql(dashboard) {
  return dashboard.panels.flatMap((panel) =>
    (panel.targets ?? []).filter((target) => target.expr).map((target) => ({ place: panel.title, query: target.expr })));
}

/** Queries with Grafana's variables filled in: an unknown one is an error. */
export function filledIn(query) {
  const values = { namespace: "chat|search", service: ".*", slow: "10", first_token: "2.5", __rate_interval: "1m" };
  return query.replace(/\$\{(\w+):pipe\}|\$(\w+)/g, (all, braced, bare) => {
    const value = values[braced ?? bare];
    if (value === undefined) throw new Error(`no value for ${all} in ${query}`);
    return value;
  });
}
