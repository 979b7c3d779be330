// The page "Voucherify syncs". Hand-written for React as Airflow 3.1 and later share it: no build, no other library.
// Every text is a text node or an attribute that React escapes, so what a row or Voucherify says stays text.

const React = globalThis.React;
const { createElement: e, useEffect, useState } = React;

const OUTCOMES = [
  ["updated", "#2f7ed8"], ["created", "#1a9850"], ["succeeded", "#2f7ed8"], ["unchanged", "#9aa5b1"],
  ["not_updated", "#b7a57a"], ["failed", "#d73027"], ["refused", "#f46d43"], ["superseded", "#c9b6d9"],
  ["not_reported", "#fdae61"],
];

const STYLE = `
.vs { padding: 1rem 1.5rem; font-size: 14px; line-height: 1.5; overflow: auto; height: 100%; }
.vs h1 { font-size: 1.35rem; font-weight: 600; } .vs h2 { font-size: 1.05rem; font-weight: 600; margin: 1.4rem 0 .4rem; }
.vs table { border-collapse: collapse; width: 100%; }
.vs th, .vs td { text-align: left; padding: .35rem .6rem; vertical-align: top; border-bottom: 1px solid #8884; }
.vs td { overflow-wrap: anywhere; } .vs .n { text-align: right; white-space: nowrap; }
.vs button.link, .vs a { color: #2f7ed8; text-decoration: underline; background: none; border: 0; cursor: pointer; font: inherit; padding: 0; text-align: left; }
.vs input, .vs select { border: 1px solid #8888; border-radius: 4px; padding: .25rem .5rem; margin-right: .6rem; background: transparent; color: inherit; }
.vs .bad { color: #d73027; font-weight: 600; } .vs .good { color: #1a9850; } .vs .quiet { opacity: .7; }
.vs .bar { display: block; width: 14rem; max-width: 100%; height: 14px; } .vs .chart { width: 100%; height: 180px; }
.vs .legend span { margin-right: 1rem; white-space: nowrap; } .vs .dot { display: inline-block; width: .7em; height: .7em; margin-right: .3em; }
@media (max-width: 50rem) { .vs .wide { display: none; } }
`;

const number = (value) => (value === null || value === undefined ? "unknown" : Number(value).toLocaleString("en-US"));
const when = (value) => (value ? new Date(typeof value === "number" ? value * 1000 : value).toLocaleString() : "");
const seconds = (run) => (run.started && run.ended ? Math.round((new Date(run.ended) - new Date(run.started)) / 1000) : null);
const rowsOf = (summary) => summary.rows_read ?? summary.submitted ?? 0;

function parts(summary) {
  const split = summary.updated !== null && summary.updated !== undefined && summary.created !== null && summary.created !== undefined;
  const queued = (summary.succeeded === null || summary.succeeded === undefined) && !summary.dry_run ? summary.submitted || 0 : 0;
  const known = OUTCOMES.filter(([name]) => (split ? name !== "succeeded" : name !== "updated" && name !== "created"))
    .map(([name, colour]) => ({ name: name === "succeeded" ? "written" : name.replace("_", " "), colour, count: summary[name] || 0 }))
    .filter((part) => part.count > 0);
  return queued ? [{ name: "queued, outcome not waited for", colour: "#d0d7de", count: queued }, ...known] : known;
}

const bad = (summary) => (summary ? (summary.failed || 0) + (summary.refused || 0) : 0);

export function attention(run) {
  if (!run) return 0;
  if (run.state === "failed" || run.state === "upstream_failed") return 4;
  if (run.summary && bad(run.summary) > 0) return 3;
  if (run.summary && (run.summary.not_reported > 0 || run.summary.warning)) return 2;
  return run.state === "success" ? 0 : 1;
}

function Bar({ summary }) {
  const all = summary ? parts(summary) : [];
  if (!all.length) return e("span", { className: "quiet" }, summary ? "no rows" : "no summary");
  const total = all.reduce((sum, part) => sum + part.count, 0);
  const widths = all.map((part) => Math.max(0.012, part.count / total));
  const whole = widths.reduce((sum, width) => sum + width, 0);
  const label = all.map((part) => `${number(part.count)} ${part.name}`).join(", ");
  let begin = 0;
  return e("svg", { className: "bar", viewBox: "0 0 1000 14", preserveAspectRatio: "none", role: "img", "aria-label": label },
    all.map((part, place) => {
      const width = (1000 * widths[place]) / whole;
      const rect = e("rect", { key: part.name, x: begin, width, height: 14, fill: part.colour }, e("title", null, `${number(part.count)} ${part.name}`));
      begin += width;
      return rect;
    }));
}

function Spark({ runs }) {
  const shown = runs.slice().reverse();
  return e("svg", { className: "wide", width: 124, height: 18, role: "img", "aria-label": `${runs.length} runs, ${runs.filter((run) => attention(run) >= 3).length} with failures` },
    shown.map((run, place) => e("rect", {
      key: place, x: place * 4, width: 3, y: attention(run) >= 3 ? 0 : 8, height: attention(run) >= 3 ? 18 : 10,
      fill: attention(run) >= 4 ? "#d73027" : attention(run) === 3 ? "#f46d43" : run.state === "success" ? "#1a9850" : "#9aa5b1",
    }, e("title", null, `${run.run_id}: ${run.state}`))));
}

function Chart({ runs, open }) {
  const shown = runs.slice().reverse();
  const most = Math.max(1, ...shown.map((run) => (run.summary ? rowsOf(run.summary) : 0)));
  const width = 1000 / Math.max(10, shown.length);
  return e("svg", { className: "chart", viewBox: "0 0 1000 180", preserveAspectRatio: "none", role: "img", "aria-label": `Outcomes of the last ${shown.length} runs` },
    shown.map((run, place) => {
      let top = 170;
      const columns = run.summary ? parts(run.summary) : [];
      return e("g", { key: run.run_id, onClick: () => open(run), style: { cursor: "pointer" } },
        e("title", null, `${run.run_id}: ${run.state}${run.summary ? `, ${columns.map((part) => `${number(part.count)} ${part.name}`).join(", ")}` : ", no summary"}`),
        e("rect", { x: place * width, y: 0, width: width - 2, height: 180, fill: run.state === "failed" ? "#d7302722" : "transparent" }),
        columns.map((part) => {
          const height = Math.max(2, (165 * part.count) / most);
          top -= height;
          return e("rect", { key: part.name, x: place * width, y: top, width: width - 2, height, fill: part.colour });
        }),
        e("rect", { x: place * width, y: 172, width: width - 2, height: 8, fill: run.state === "failed" ? "#d73027" : run.state === "success" ? "#1a9850" : "#9aa5b1" }));
    }));
}

const Legend = () => e("p", { className: "legend" }, OUTCOMES.filter(([name]) => name !== "succeeded").map(([name, colour]) =>
  e("span", { key: name }, e("i", { className: "dot", style: { background: colour } }), name.replace("_", " "))));

function useData(path) {
  const [state, setState] = useState({ loading: true });
  useEffect(() => {
    let current = true;
    setState({ loading: true });
    fetch(new URL(`voucherify/api/${path}`, document.baseURI), { credentials: "same-origin", headers: { Accept: "application/json" } })
      .then(async (answer) => {
        if (answer.ok) return { data: await answer.json() };
        if (answer.status === 401) return { error: "You are not signed in, or your session has ended." };
        if (answer.status === 403) return { error: "You have no right to see this DAG." };
        const body = await answer.json().catch(() => ({}));
        return { error: typeof body.detail === "string" ? body.detail : `Airflow answered with ${answer.status}.` };
      })
      .catch(() => ({ error: "Airflow's API server cannot be reached." }))
      .then((next) => current && setState(next));
    return () => { current = false; };
  }, [path]);
  return state;
}

function Loaded({ path, children }) {
  const { loading, error, data } = useData(path);
  if (loading) return e("p", { role: "status" }, "Loading …");
  if (error) return e("p", { role: "alert", className: "bad" }, error);
  return children(data);
}

const State = ({ run }) => e("span", { className: run.state === "failed" ? "bad" : run.state === "success" ? "good" : "" },
  run.summary && run.summary.dry_run ? "dry run" : run.state || "not started");

function Syncs({ go }) {
  const [text, setText] = useState("");
  const [resource, setResource] = useState("");
  const [only, setOnly] = useState(false);
  return e(Loaded, { path: "syncs" }, (all) => {
    if (!all.length) return e("p", null, "No task of this provider has run yet in a DAG that you may see.");
    const syncs = all.map((sync) => ({ ...sync, last: sync.runs[0], resource: (sync.runs.find((run) => run.summary) || { summary: {} }).summary.resource }))
      .filter((sync) => (!text || `${sync.dag_id}.${sync.task_id}`.toLowerCase().includes(text.toLowerCase())) && (!resource || sync.resource === resource) && (!only || attention(sync.last) > 1))
      .sort((a, b) => attention(b.last) - attention(a.last) || new Date(b.last.started) - new Date(a.last.started));
    return e(React.Fragment, null,
      e("p", null,
        e("input", { "aria-label": "Filter by DAG or task", placeholder: "DAG or task", value: text, onChange: (event) => setText(event.target.value) }),
        e("select", { "aria-label": "Resource", value: resource, onChange: (event) => setResource(event.target.value) },
          e("option", { value: "" }, "all resources"), ["customers", "products", "vouchers"].map((name) => e("option", { key: name, value: name }, name))),
        e("label", null, e("input", { type: "checkbox", checked: only, onChange: (event) => setOnly(event.target.checked) }), "needs attention")),
      e(Legend),
      e("table", null,
        e("thead", null, e("tr", null, ["Sync", "Last run", "Rows", "Outcomes", "Not accepted", "Seconds", "Last 30 runs", "Next run"].map((name, place) => e("th", { key: name, className: place > 4 ? "wide" : undefined, scope: "col" }, name)))),
        e("tbody", null, syncs.map((sync) => {
          const { last } = sync;
          const rows = last.summary ? rowsOf(last.summary) : null;
          return e("tr", { key: `${sync.dag_id}.${sync.task_id}.${sync.map_index}` },
            e("td", null, e("button", { className: "link", onClick: () => go({ dag: sync.dag_id, task: sync.task_id, map: sync.map_index }) }, `${sync.dag_id}.${sync.task_id}${sync.map_index >= 0 ? `[${sync.map_index}]` : ""}`), e("div", { className: "quiet" }, sync.resource || "")),
            e("td", null, e(State, { run: last }), e("div", { className: "quiet" }, when(last.started))),
            e("td", { className: "n" }, last.summary ? number(rows) : ""),
            e("td", null, e(Bar, { summary: last.summary })),
            e("td", { className: `n ${bad(last.summary) ? "bad" : ""}` }, last.summary ? `${number(bad(last.summary))}${rows ? ` (${((100 * bad(last.summary)) / rows).toFixed(1)} %)` : ""}` : ""),
            e("td", { className: "n wide" }, seconds(last) ?? ""),
            e("td", { className: "wide" }, e(Spark, { runs: sync.runs })),
            e("td", { className: "wide quiet" }, sync.is_paused ? "paused" : when(sync.next_run)));
        }))),
      !syncs.length && e("p", null, "No sync fits the filters."));
  });
}

const query = (sync) => `dag_id=${encodeURIComponent(sync.dag)}&task_id=${encodeURIComponent(sync.task)}&map_index=${sync.map ?? -1}`;

function Sync({ place, go }) {
  return e(Loaded, { path: `sync?${query(place)}` }, (runs) => {
    if (!runs.length) return e("p", null, "This task has not run yet.");
    const run = runs.find((one) => one.run_id === place.run) || (place.run ? null : runs[0]);
    return e(React.Fragment, null,
      e(Legend), e(Chart, { runs, open: (one) => go({ ...place, run: one.run_id }) }),
      e("p", null, "Run: ", e("select", { "aria-label": "Run", value: run ? run.run_id : "", onChange: (event) => go({ ...place, run: event.target.value }) },
        !run && e("option", { value: "" }, "a run that is not among the last 50"),
        runs.map((one) => e("option", { key: one.run_id, value: one.run_id }, `${one.run_id} (${one.state})`)))),
      run && e(Run, { run, place, go }));
  });
}

const webAddress = (url) => typeof url === "string" && /^https?:\/\//.test(url);

function Run({ run, place, go }) {
  const { summary } = run;
  const lines = summary && summary.warning ? summary.warning.split("\n") : [];
  const log = new URL(`dags/${encodeURIComponent(place.dag)}/runs/${encodeURIComponent(run.run_id)}/tasks/${encodeURIComponent(place.task)}${place.map >= 0 ? `/mapped/${place.map}` : ""}`, document.baseURI).href;
  return e(React.Fragment, null,
    e("h2", null, e(State, { run }), ` ${run.run_id}, try ${run.try_number}, ${when(run.started)}${seconds(run) === null ? "" : `, ${seconds(run)} s`}`),
    e("p", null, e("a", { href: log }, "Log in Airflow")),
    !summary && e("p", null, run.state === "failed" ? "The task failed before it knew what became of its rows: see its log." : "There is no summary: the task has not ended, or its XComs are kept by a backend of your own."),
    summary && e(React.Fragment, null,
      e("p", null, e(Bar, { summary })),
      lines.length > 0 && e(React.Fragment, null, e("h2", null, "Warnings"), e("ul", null, lines.map((line, place) => e("li", { key: place }, line)))),
      (summary.reasons || []).length > 0 && e(React.Fragment, null, e("h2", null, "Why rows failed"),
        e("table", null, e("thead", null, e("tr", null, ["records", "outcome", "key", "message", "such as"].map((name) => e("th", { key: name, scope: "col" }, name)))),
          e("tbody", null, summary.reasons.map((reason, row) => e("tr", { key: row },
            e("td", { className: "n" }, number(reason.count)), e("td", null, reason.outcome), e("td", null, reason.key || ""), e("td", null, reason.message || ""),
            e("td", null, (reason.ids || []).map((id, at) => /^row \d/.test(id) ? e("span", { key: at, style: { marginRight: ".6em" } }, id) : e("button", { key: at, className: "link", style: { marginRight: ".6em" }, onClick: () => go({ ...place, run: run.run_id, record: id }) }, id)))))))),
      (summary.what_now || []).length > 0 && e(React.Fragment, null, e("h2", null, "What now"), e("ul", null, summary.what_now.map((line, at) => e("li", { key: at }, line)))),
      e("h2", null, "Numbers"),
      e("table", null, e("tbody", null, ["rows_read", "submitted", "updated", "created", "unchanged", "not_updated", "failed", "refused", "superseded", "not_reported", "removed", "values_not_cleared", "requests", "bytes_sent", "resubmitted"].map((name) =>
        e("tr", { key: name }, e("th", { scope: "row" }, name.replace(/_/g, " ")), e("td", { className: "n" }, number(summary[name])))))),
      e("h2", null, "Async actions"), (summary.async_action_ids || []).length ? e("ul", null, summary.async_action_ids.slice(0, 100).map((id) => e("li", { key: id }, id))) : e("p", null, "none"),
      summary.report_uri && e("p", null, "Report folder: ", webAddress(summary.report_uri) ? e("a", { href: summary.report_uri }, summary.report_uri) : summary.report_uri)),
    e(Ask, { place, run, go }),
    place.record && e(Record, { place, resource: summary && summary.resource }));
}

function Ask({ place, run, go }) {
  const [id, setId] = useState(place.record || "");
  useEffect(() => setId(place.record || ""), [place.record]);
  return e(React.Fragment, null, e("h2", null, "What happened to a record"),
    e("form", { onSubmit: (event) => { event.preventDefault(); if (id) go({ ...place, run: run.run_id, record: id }); } },
      e("input", { "aria-label": "Id of a record", placeholder: "id or code", value: id, maxLength: 500, onChange: (event) => setId(event.target.value) }),
      e("button", { className: "link", type: "submit" }, "Show")));
}

function Record({ place, resource }) {
  return e(Loaded, { path: `record?${query(place)}&resource=${encodeURIComponent(resource || "")}&record_id=${encodeURIComponent(place.record)}` }, ({ state, lines }) =>
    e(React.Fragment, null,
      state ? e("p", null, `${place.record}: ${state.outcome}${state.failing_since ? `, failing since ${when(state.failing_since)}` : ""}${state.confirmed_at ? `, last confirmed ${when(state.confirmed_at)}` : ", never confirmed"}${state.is_certain ? "" : "; it is not certain that Voucherify has it as the source has it"}`)
        : e("p", null, `No sync of this task knows a record ${place.record}.`),
      state && state.content && e("p", null, "Last confirmed: ", e("code", null, state.content)),
      lines.length > 0 && e("table", null, e("thead", null, e("tr", null, ["when", "outcome", "why", "run", "sent"].map((name) => e("th", { key: name, scope: "col" }, name)))),
        e("tbody", null, lines.map((line, row) => e("tr", { key: row }, e("td", null, when(line.written_at)), e("td", null, line.outcome), e("td", null, [line.reason_key, line.message, line.details].filter(Boolean).join(": ")), e("td", null, `${line.run_id || ""} (try ${line.try_number ?? "?"})`), e("td", null, e("code", null, line.content || ""))))))));
}

function fromAddress() {
  const given = new URLSearchParams(window.location.search);
  const place = {};
  for (const name of ["dag", "task", "run", "record"]) if (given.get(name)) place[name] = given.get(name);
  if (place.dag) place.map = Number(given.get("map") ?? -1);
  return place;
}

function VoucherifySyncs() {
  const [place, setPlace] = useState(fromAddress);
  useEffect(() => {
    const back = () => setPlace(fromAddress());
    window.addEventListener("popstate", back);
    return () => window.removeEventListener("popstate", back);
  }, []);
  const go = (next) => {
    const search = new URLSearchParams(Object.entries(next).filter(([, value]) => value !== undefined && value !== null)).toString();
    // With its path, since a query alone would be resolved against Airflow's <base>.
    window.history.pushState(window.history.state, "", window.location.pathname + (search && `?${search}`));
    setPlace(next);
  };
  const inSync = place.dag && place.task;
  return e("div", { className: "vs" }, e("style", null, STYLE),
    e("h1", null, inSync ? e(React.Fragment, null, e("button", { className: "link", onClick: () => go({}) }, "Voucherify syncs"), ` › ${place.dag}.${place.task}${place.map >= 0 ? `[${place.map}]` : ""}`) : "Voucherify syncs"),
    inSync ? e(Sync, { key: `${place.dag}.${place.task}.${place.map}`, place, go }) : e(Syncs, { go }));
}

globalThis.AirflowPlugin = VoucherifySyncs;
globalThis["Voucherify syncs"] = VoucherifySyncs;
