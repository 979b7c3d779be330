// The page "Voucherify syncs". Hand-written for React as Airflow 3.1 and later share it: no build, no other library.
// Every text is a text node or an attribute that React escapes, so what a row or Voucherify says stays text.

const React = globalThis.React;
const { useLocation, useNavigate } = globalThis.ReactRouterDOM;
const { createContext, createElement: e, Fragment, useContext, useEffect, useRef, useState } = React;

// Elements: h.td("text"), h.td({ className: "n" }, "text").
const isProps = (first) => Object.getPrototypeOf(first ?? 0) === Object.prototype && !React.isValidElement(first);
const h = new Proxy(
  {},
  {
    get:
      (_, name) =>
      (first, ...rest) =>
        isProps(first) ? e(name, first, ...rest) : e(name, null, first, ...rest),
  },
);
const together = (...children) => e(Fragment, null, ...children);

const STYLE = `
.vs { --bad: #b3261e; --good: #14703a; --link: #1d63b0; --line: #8884; --attention: #b35900;
  padding: 1rem 1.5rem; font-size: 14px; line-height: 1.5; overflow: auto; height: 100%; }
.dark .vs { --bad: #ff8a80; --good: #63d48f; --link: #82b8ff; --attention: #ffb366; }
.vs h1 { font-size: 1.35rem; font-weight: 600; margin-bottom: .6rem; }
.vs h2 { font-size: 1.05rem; font-weight: 600; margin: 1.4rem 0 .4rem; }
.vs table { border-collapse: collapse; width: 100%; }
.vs th, .vs td { text-align: left; padding: .35rem .6rem; vertical-align: top; border-bottom: 1px solid var(--line); }
.vs .table { overflow-x: auto; }
.vs .text { overflow-wrap: anywhere; min-width: 9rem; }
.vs :is(h1, h2, p, li) { overflow-wrap: anywhere; }
.vs .n { text-align: right; white-space: nowrap; }
.vs a { color: var(--link); text-decoration: underline; }
.vs :is(a, button, input, select, summary):focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.vs :is(input, select, button) { border: 1px solid #8888; border-radius: 4px; padding: .25rem .6rem;
  margin-right: .6rem; max-width: 100%; background: transparent; color: inherit; font: inherit; }
.vs option { color: #111; background: #fff; }
.vs .bad { color: var(--bad); font-weight: 600; }
.vs .attention { color: var(--attention); font-weight: 600; }
.vs .good { color: var(--good); }
.vs .quiet { opacity: .75; }
.vs pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8882; border-radius: 4px; padding: .4rem .6rem; }
.vs ul { list-style: disc; padding-left: 1.3rem; }
.vs .bar { display: block; width: 14rem; max-width: 100%; height: 14px; }
.vs .chart { display: block; width: 100%; height: 160px; }
.vs .trend { display: block; width: 100%; height: 46px; }
.vs .trends { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem 2rem; }
.vs .legend span { margin-right: 1rem; display: inline-block; }
.vs .dot { display: inline-block; width: .7em; height: .7em; margin-right: .3em; }
@media (max-width: 60rem) { .vs { padding: .6rem; } .vs .wide { display: none; } .vs .bar { width: 7rem; } }
@media (max-width: 36rem) {
  .vs { font-size: 13px; } .vs .narrow { display: none; } .vs .bar { width: 4rem; }
  .vs th, .vs td { padding: .3rem .2rem; } .vs .n { white-space: normal; }
}
`;

const FAILED = ["failed", "upstream_failed"];

// Colours of the parts of a bar, as the server has them.
const Colours = createContext({});

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const number = (value) => (value === null || value === undefined ? "unknown" : NUMBER.format(value));
const counted = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;
const words = (name) => name.replace(/_/g, " ");
const sum = (values) => values.reduce((total, value) => total + value, 0);

function when(value) {
  const moment = new Date(typeof value === "number" ? value * 1000 : value);
  return value && !Number.isNaN(moment.getTime()) ? DATE.format(moment) : "";
}

// Of a run the night that it is about, which a later try does not change.
const night = (run) => when(run.logical_date || run.run_after || run.started);

function seconds(run) {
  return run.started && run.ended ? Math.max(0, (new Date(run.ended) - new Date(run.started)) / 1000) : null;
}

const rows = (run) => (run.parts ? sum(Object.values(run.parts)) : null);

const notAccepted = (run) => (run.parts ? (run.parts.failed || 0) + (run.parts.refused || 0) : null);

const described = (parts) =>
  Object.entries(parts)
    .map(([name, count]) => `${number(count)} ${words(name)}`)
    .join(", ") || "no rows";

function inLine(run) {
  if (run.parts) return described(run.parts);
  return FAILED.includes(run.state) ? "it failed before it knew what became of its rows" : "no summary";
}

// Links and places

const query = (place, ...names) =>
  new URLSearchParams(names.filter((name) => place[name] !== undefined).map((name) => [PARAMETERS[name], place[name]]));

const PARAMETERS = { dag: "dag_id", task: "task_id", run: "run_id", map: "map_index", record: "record_id" };

const searchOf = (place) => {
  const given = Object.entries(place).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

// With its path, since a query alone would be resolved against Airflow's <base>.
const addressOf = (place) => window.location.pathname + searchOf(place);

function placeOf(search) {
  const given = new URLSearchParams(search);
  const place = {};
  for (const name of Object.keys(PARAMETERS)) if (given.get(name)) place[name] = given.get(name);
  return place;
}

const Go = createContext(() => {});

// A real link, so that it can be opened in another tab, which does not load the page anew.
function To({ place, children, ...more }) {
  const go = useContext(Go);
  const click = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(place);
  };
  return h.a({ href: addressOf(place), onClick: click, ...more }, children);
}

const inAirflow = (path) => new URL(path, document.baseURI).href;
const webAddress = (url) => typeof url === "string" && /^https?:\/\//.test(url);
const Out = ({ url, children }) => (webAddress(url) ? h.a({ href: url }, children || url) : h.span(children || url));

// Data

const MESSAGES = {
  401: "You are not signed in, or your session has ended.",
  403: "You have no right to see the XComs of this DAG, which have what this page shows.",
};

async function answerOf(path) {
  const url = new URL(`voucherify/api/${path}`, document.baseURI);
  const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
  if (answer.ok) return { data: await answer.json() };
  const body = await answer.json().catch(() => ({}));
  const detail = typeof body.detail === "string" ? body.detail : `Airflow answered with ${answer.status}.`;
  return { error: MESSAGES[answer.status] || detail };
}

function Loaded({ path, children }) {
  const [{ of, ...answer }, setAnswer] = useState({});
  useEffect(() => {
    let isCurrent = true;
    answerOf(path)
      .catch(() => ({ error: "Airflow's API server cannot be reached." }))
      .then((next) => isCurrent && setAnswer({ ...next, of: path }));
    return () => {
      isCurrent = false;
    };
  }, [path]);
  if (of !== path) return h.p({ role: "status" }, "Loading …");
  if (answer.error) return h.p({ role: "alert", className: "bad" }, answer.error);
  return e(Colours.Provider, { value: answer.data.colours || {} }, children(answer.data));
}

// Pictures

const NARROWEST = 0.012;

function Bar({ run }) {
  const colours = useContext(Colours);
  const parts = Object.entries(run.parts || {}).filter(([, count]) => count > 0);
  if (!parts.length) return h.span({ className: "quiet" }, run.parts ? "no rows" : "no summary");
  const total = sum(parts.map(([, count]) => count));
  const widths = parts.map(([, count]) => Math.max(NARROWEST, count / total));
  const all = sum(widths);
  let x = 0;
  const drawn = parts.map(([name], at) => {
    const width = (1000 * widths[at]) / all;
    x += width;
    return h.rect({ key: name, x: x - width, width, height: 14, fill: colours[name] });
  });
  const label = { role: "img", "aria-label": described(run.parts) };
  const size = { className: "bar", viewBox: "0 0 1000 14", preserveAspectRatio: "none" };
  return h.svg({ ...size, ...label }, h.title(described(run.parts)), drawn);
}

const STATE_COLOURS = { 4: "#d73027", 3: "#f46d43", 2: "#fdae61", 1: "#9aa5b1", 0: "#1a9850" };

// One path for each colour: a list has thousands of runs.
function Spark({ levels }) {
  const failed = levels.filter((level) => level >= 3).length;
  const paths = {};
  [...levels].reverse().forEach((level, at) => {
    const height = level >= 3 ? 18 : 10;
    paths[level] = `${paths[level] || ""}M${at * 4} ${18 - height}h3v${height}h-3z`;
  });
  const label = `${counted(levels.length, "run", "runs")}, ${failed} with failures`;
  return h.svg(
    { width: 124, height: 18, role: "img", "aria-label": label },
    Object.entries(paths).map(([level, d]) => h.path({ key: level, d, fill: STATE_COLOURS[level] })),
  );
}

const HEIGHT = 160;

// Columns by run, oldest first. Below each is a foot: its state, and a mark for each try beyond the first.
function Chart({ runs, place }) {
  const colours = useContext(Colours);
  const go = useContext(Go);
  const most = Math.max(1, ...runs.map((run) => rows(run) || 0));
  const width = 1000 / Math.max(10, runs.length);
  const columns = [...runs].reverse().map((run, at) => {
    let y = HEIGHT - 14;
    const parts = Object.entries(run.parts || {}).map(([name, count]) => {
      const height = count ? Math.max(2, ((HEIGHT - 18) * count) / most) : 0;
      y -= height;
      return h.rect({ key: name, x: at * width, y, width: width - 2, height, fill: colours[name] });
    });
    const isFailed = FAILED.includes(run.state);
    const isShown = run.run_id === place.run;
    const tries = run.try_number > 1 ? `, try ${run.try_number}` : "";
    return h.g(
      {
        key: run.run_id,
        onClick: () => go({ dag: place.dag, task: place.task, run: run.run_id }),
        style: { cursor: "pointer" },
      },
      h.title(`${night(run)}: ${run.state}${tries}, ${inLine(run)}`),
      h.rect({
        x: at * width,
        y: 0,
        width: width - 2,
        height: HEIGHT,
        fill: isShown ? "#8883" : isFailed ? "#d7302722" : "transparent",
      }),
      parts,
      h.rect({
        x: at * width,
        y: HEIGHT - 11,
        width: width - 2,
        height: 6,
        fill: STATE_COLOURS[isFailed ? 4 : run.state === "success" ? 0 : 1],
      }),
      run.try_number > 1 &&
        h.rect({
          x: at * width,
          y: HEIGHT - 4,
          width: Math.min(width - 2, 3 * (run.try_number - 1)),
          height: 5,
          fill: TRIED_AGAIN,
        }),
    );
  });
  const last = counted(runs.length, "run", "runs");
  return h.svg(
    {
      className: "chart",
      viewBox: `0 0 1000 ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Outcomes of the last ${last}, of at most ${counted(most, "row", "rows")}`,
    },
    columns,
  );
}

// One figure over the runs, oldest first; a run that has none has no column.
function Trend({ title, runs, figure, note }) {
  const values = [...runs].reverse().map((run) => ({ run, value: figure(run) }));
  const known = values.map(({ value }) => value).filter((value) => value !== null && value !== undefined);
  const most = Math.max(...known, 0);
  const last = known.length ? number(known[known.length - 1]) : "unknown";
  const width = 1000 / Math.max(10, runs.length);
  const label = `${title}: last ${last}, most ${number(most)}`;
  return h.figure(
    h.figcaption(
      title,
      h.span({ className: "quiet" }, `: last ${last}, most ${known.length ? number(most) : "unknown"}`),
    ),
    h.svg(
      { className: "trend", viewBox: "0 0 1000 46", preserveAspectRatio: "none", role: "img", "aria-label": label },
      values.map(({ run, value }, at) => {
        const height = value ? Math.max(1.5, (44 * value) / (most || 1)) : 0;
        return h.rect(
          { key: run.run_id, x: at * width, y: 46 - height, width: width - 2, height, fill: "#7b8da0" },
          h.title(`${night(run)}: ${number(value)}`),
        );
      }),
    ),
    note && h.div({ className: "quiet" }, note),
  );
}

const TRIED_AGAIN = "#8b5cf6";

function Legend({ runs, hasTries }) {
  const colours = useContext(Colours);
  const names = Object.keys(colours).filter((name) => runs.some((run) => (run.parts || {})[name]));
  return h.p(
    { className: "legend" },
    names.map((name) =>
      h.span({ key: name }, h.i({ className: "dot", style: { background: colours[name] } }), words(name)),
    ),
    hasTries && h.span(h.i({ className: "dot", style: { background: TRIED_AGAIN } }), "tried more than once"),
  );
}

const TONES = { 4: "bad", 3: "attention", 2: "attention", 0: "good" };

const State = ({ run }) =>
  h.span({ className: TONES[run.attention] }, run.dry_run ? `dry run, ${run.state}` : run.state || "not started");

// Columns: [head, class, what a cell has]; what is false is left out.
function Table({ label, rows, columns }) {
  const shown = columns.filter(Boolean);
  return h.div(
    { className: "table" },
    h.table(
      { "aria-label": label },
      h.thead(h.tr(shown.map(([head, className]) => h.th({ key: head, scope: "col", className }, head)))),
      h.tbody(
        rows.map((row, at) =>
          h.tr(
            { key: at },
            shown.map(([head, className, cell]) => h.td({ key: head, className }, cell(row))),
          ),
        ),
      ),
    ),
  );
}

const Bad = ({ is, children }) => h.span({ className: is ? "bad" : "" }, children);

const Items = ({ title, items }) =>
  items.length > 0 && together(h.h2(title), h.ul(items.map((item, at) => h.li({ key: at }, item))));

// All syncs

// A try that has failed and waits for the next one is no reason to be calm, nor is a night that has not begun.
const isBehind = (sync) => sync.is_overdue || (sync.since && sync.since.state === "up_for_retry");
const need = (sync) => Math.max(sync.last.attention, isBehind(sync) ? 2 : 0);

// What the list was filtered by, for whoever comes back to it.
const kept = { text: "", resource: "", onlyThose: false };

function useKept(name) {
  const [value, setValue] = useState(kept[name]);
  const keep = (next) => {
    kept[name] = next;
    setValue(next);
  };
  return [value, keep];
}

function Syncs() {
  const [text, setText] = useKept("text");
  const [resource, setResource] = useKept("resource");
  const [onlyThose, setOnlyThose] = useKept("onlyThose");
  return e(Loaded, { path: "syncs" }, (answer) => {
    const all = answer.syncs.map((sync) => ({ ...sync, name: `${sync.dag_id}.${sync.task_id}` }));
    if (!all.length) return h.p("No task of this provider has run yet in a DAG that you may see.");
    const shown = all
      .filter(
        (sync) =>
          sync.name.toLowerCase().includes(text.toLowerCase()) && (!resource || sync.resources.includes(resource)),
      )
      .filter((sync) => !onlyThose || need(sync) > 1)
      .sort((a, b) => need(b) - need(a) || new Date(b.last.run_after) - new Date(a.last.run_after));
    const needy = all.filter((sync) => need(sync) > 1).length;
    return together(
      h.p(
        { role: "status" },
        `${counted(all.length, "sync", "syncs")}, ${needy ? counted(needy, "needs", "need") : "none needs"} attention`,
      ),
      h.p(
        h.input({
          "aria-label": "Filter by DAG or task",
          placeholder: "DAG or task",
          value: text,
          onChange: (event) => setText(event.target.value),
        }),
        h.select(
          { "aria-label": "Resource", value: resource, onChange: (event) => setResource(event.target.value) },
          h.option({ value: "" }, "all resources"),
          ["customers", "products", "vouchers"].map((name) => h.option({ key: name, value: name }, name)),
        ),
        h.label(
          h.input({ type: "checkbox", checked: onlyThose, onChange: (event) => setOnlyThose(event.target.checked) }),
          "needs attention",
        ),
      ),
      e(Legend, { runs: shown.map((sync) => sync.last) }),
      e(Table, { label: "Syncs", rows: shown, columns: OF_SYNCS }),
      !shown.length && h.p("No sync fits the filters."),
    );
  });
}

const inSeconds = (run) => (seconds(run) === null ? "" : number(Math.round(seconds(run))));
const placeOfSync = (sync) => ({ dag: sync.dag_id, task: sync.task_id });

function NotAccepted({ run }) {
  const failed = notAccepted(run);
  if (failed === null) return "";
  const share = failed && rows(run) ? ` (${number(Math.max(0.01, (100 * failed) / rows(run)))} %)` : "";
  return e(Bad, { is: failed }, `${number(failed)}${share}`);
}

const nextRun = (sync) => {
  if (sync.is_paused) return "paused";
  return sync.is_overdue ? e(Bad, { is: true }, `overdue: ${when(sync.next_run)}`) : when(sync.next_run);
};

const OF_SYNCS = [
  [
    "Sync",
    "text",
    (sync) =>
      together(
        e(To, { place: placeOfSync(sync) }, sync.name),
        h.div(
          { className: "quiet" },
          [sync.resources.join(", "), sync.last.instances && `${sync.last.instances} mapped`]
            .filter(Boolean)
            .join(", "),
        ),
      ),
  ],
  [
    "Last run",
    "",
    (sync) =>
      together(
        e(To, { place: { ...placeOfSync(sync), run: sync.last.run_id } }, e(State, { run: sync.last })),
        h.div({ className: "quiet" }, night(sync.last)),
        sync.since && h.div({ className: "quiet" }, `since then: ${sync.since.state || "waits to begin"}`),
      ),
  ],
  ["Rows", "n narrow", ({ last }) => (last.parts ? number(rows(last)) : "")],
  ["Outcomes", "", ({ last }) => e(Bar, { run: last })],
  ["Not accepted", "n", ({ last }) => e(NotAccepted, { run: last })],
  ["Seconds", "n wide", ({ last }) => inSeconds(last)],
  ["Last 30 runs", "wide", (sync) => e(Spark, { levels: sync.attention })],
  ["Next run", "wide quiet", nextRun],
];

// One sync

function Sync({ place }) {
  return e(Loaded, { path: `sync?${query(place, "dag", "task")}` }, ({ runs }) => {
    if (!runs.length) return h.p("There is no run of such a task.");
    const at = { ...place, run: place.run || runs[0].run_id };
    return together(
      e(Legend, { runs, hasTries: runs.some((run) => run.try_number > 1) }),
      e(Chart, { runs, place: at }),
      e(ChooseRun, { runs, place: at }),
      e(Run, { place: at }),
      e(Trends, { runs, place: at }),
    );
  });
}

function ChooseRun({ runs, place }) {
  const go = useContext(Go);
  const isAmong = runs.some((run) => run.run_id === place.run);
  const choose = (event) => go({ dag: place.dag, task: place.task, run: event.target.value }, { replace: true });
  return h.p(
    h.label(
      "Run: ",
      h.select(
        { value: place.run, onChange: choose },
        !isAmong && h.option({ value: place.run }, `${place.run} (not among the last ${runs.length})`),
        runs.map((run) =>
          h.option(
            { key: run.run_id, value: run.run_id },
            `${night(run)}, ${run.state}${run.try_number > 1 ? `, try ${run.try_number}` : ""} (${run.run_id})`,
          ),
        ),
      ),
    ),
  );
}

function Trends({ runs, place }) {
  const keys = Object.create(null);
  for (const run of runs) for (const [key, count] of Object.entries(run.reasons)) keys[key] = (keys[key] || 0) + count;
  const frequent = Object.entries(keys)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 8);
  const written = ({ parts }) =>
    ["updated", "created", "written"].reduce((total, name) => total + (parts[name] || 0), 0);
  const perSecond = (run) =>
    run.parts && seconds(run) && run.try_number === 1 && !run.instances ? written(run) / seconds(run) : null;
  return together(
    h.h2("Over time"),
    h.div(
      { className: "trends" },
      e(Trend, { title: "Seconds", runs, figure: seconds }),
      e(Trend, { title: "Written records per second", runs, figure: perSecond }),
      e(Trend, {
        title: "Bulk requests",
        runs,
        figure: (run) => (run.parts ? run.requests : null),
        note: "A common plan allows 100 API calls a minute, a sandbox 100 an hour.",
      }),
    ),
    frequent.length > 0 &&
      together(
        h.h2("Failures by reason over time"),
        h.div(
          { className: "trends" },
          frequent.map(([key]) => {
            const oldest = [...runs].reverse().find((run) => Object.hasOwn(run.reasons, key));
            const since = e(
              To,
              { place: { dag: place.dag, task: place.task, run: oldest.run_id } },
              `this key first appears on ${night(oldest)}`,
            );
            return e(Trend, {
              key,
              title: key,
              runs,
              figure: (run) => (run.parts ? (Object.hasOwn(run.reasons, key) ? run.reasons[key] : 0) : null),
              note: since,
            });
          }),
        ),
      ),
  );
}

// One run

function Run({ place }) {
  return e(Loaded, { path: `run?${query(place, "dag", "task", "run", "map")}` }, (answer) =>
    together(
      answer.instances.length > 0 && e(Instances, { instances: answer.instances, more: answer.more_instances, place }),
      answer.instance
        ? e(Instance, { ...answer, place })
        : !answer.instances.length && h.p("This run has no such instance."),
    ),
  );
}

function Instances({ instances, more, place }) {
  return together(
    h.h2(counted(instances.length + more, "mapped task instance", "mapped task instances")),
    e(Table, {
      label: "Mapped task instances",
      rows: instances,
      columns: [
        [
          "Map index",
          "",
          (one) => e(To, { place: { ...place, map: one.map_index, record: undefined } }, one.map_index),
        ],
        ["State", "", (one) => e(State, { run: one })],
        ["Rows", "n", (one) => (one.parts ? number(rows(one)) : "")],
        ["Outcomes", "", (one) => e(Bar, { run: one })],
        ["Not accepted", "n", (one) => e(NotAccepted, { run: one })],
        ["Seconds", "n", inSeconds],
      ],
    }),
    more > 0 && h.p(`and ${number(more)} more, less in need of attention`),
  );
}

function Instance(answer) {
  const { instance, summary, place, next_steps: steps } = answer;
  return together(
    h.h2(
      e(State, { run: instance }),
      ` ${place.run}${place.map >= 0 ? `, map index ${place.map}` : ""}, try ${instance.try_number}, ran at ${when(instance.started)}`,
      seconds(instance) === null ? "" : `, ${number(Math.round(seconds(instance)))} s`,
    ),
    e(Elsewhere, answer),
    summary ? h.p(e(Bar, { run: instance }), described(instance.parts)) : h.p(withoutSummary(instance)),
    answer.read_back && h.p(answer.read_back),
    e(Tries, answer),
    summary && e(Items, { title: "Warnings", items: summary.warning ? summary.warning.split("\n") : [] }),
    summary && e(Reasons, { summary, place }),
    answer.differences.length > 0 && e(Differences, answer),
    answer.has_records && e(Ask, { place }),
    place.record && e(Record, { place }),
    e(Items, {
      title: "What now",
      items: steps.map(([text, lines], at) => e(Fragment, { key: at }, text, lines && h.pre(lines))),
    }),
    summary && e(Numbers, answer),
  );
}

function withoutSummary(instance) {
  if (instance.state === "upstream_failed") return "The task did not run, since one before it had failed.";
  if (instance.state === "failed")
    return "The task failed before it knew what became of its rows: see why below, and its log.";
  if (instance.state === "skipped") return "The task was skipped.";
  if (instance.state === "success")
    return "There is no summary: its XCom was cleared, is not pushed, or is kept by a backend of your own.";
  return "The task has not ended yet.";
}

function Elsewhere({ place, summary, dashboard_url: dashboard, report_url: report, assets }) {
  const [dag, run, task] = [place.dag, place.run, place.task].map(encodeURIComponent);
  const log = `dags/${dag}/runs/${run}/tasks/${task}${place.map >= 0 ? `/mapped/${place.map}` : ""}`;
  const folder = summary && summary.report_uri;
  return h.p(
    { className: "legend" },
    h.span(h.a({ href: inAirflow(log) }, "Log in Airflow")),
    webAddress(dashboard) && h.span(e(Out, { url: dashboard }, "Async actions in Voucherify")),
    folder && h.span("Report folder: ", e(Out, { url: report || folder }, folder)),
    assets.map((asset) =>
      h.span({ key: asset.id }, h.a({ href: inAirflow(`assets/${asset.id}`) }, `Asset events of ${asset.name}`)),
    ),
  );
}

const BAD = ["failed", "refused", "differing", "missing"];

const KNOWS_ROWS = ["succeeded", "failed", "refused"];

// The tries as Airflow has them, until the history has told more of them.
function Tries({ tries, place }) {
  const [recorded, setRecorded] = useState([]);
  const path = `tries?${query(place, "dag", "task", "run", "map")}`;
  useEffect(() => {
    let isCurrent = true;
    setRecorded([]);
    answerOf(path).then(
      ({ data }) => isCurrent && data && setRecorded(data.tries),
      () => {},
    );
    return () => {
      isCurrent = false;
    };
  }, [path]);
  const shown = recorded.length ? recorded : tries;
  const why = (one) => one.exceeded || (one.error_message && `${one.error_type || "Error"}: ${one.error_message}`);
  const hasReasons = shown.some(why);
  if (shown.length < 2 && !hasReasons) return null;
  const known = (one, count) => (KNOWS_ROWS.every((name) => one[name] === null) ? "" : number(count));
  return together(
    h.h2("Tries"),
    e(Table, {
      label: "Tries",
      rows: shown,
      columns: [
        ["Try", "", (one) => one.try_number],
        ["State", "", (one) => e(Bad, { is: ["failed", "lost"].includes(one.status) }, one.status)],
        ["From", "", (one) => when(one.started_at)],
        ["To", "", (one) => when(one.finished_at)],
        recorded.length > 0 && ["Written", "n", (one) => known(one, one.succeeded)],
        recorded.length > 0 && ["Not accepted", "n", (one) => known(one, (one.failed || 0) + (one.refused || 0))],
        hasReasons && [
          "Why it failed",
          "text",
          (one) => together(why(one), one.advice && h.div(`What to do: ${one.advice}`)),
        ],
      ],
    }),
  );
}

const isRow = (name) => /^row \d/.test(name);

function Reasons({ summary, place }) {
  if (!summary.reasons.length) return null;
  const sample = (id, at) =>
    h.span(
      { key: at, style: { marginRight: ".6em" } },
      isRow(id) ? id : e(To, { place: { ...place, record: id } }, id),
    );
  return together(
    h.h2("Why rows failed"),
    e(Table, {
      label: "Why rows failed",
      rows: summary.reasons,
      columns: [
        ["Records", "n", (reason) => number(reason.count)],
        ["Outcome", "", (reason) => reason.outcome],
        ["Key", "text", (reason) => reason.key || ""],
        ["Message", "text", (reason) => reason.message || ""],
        ["Such as", "text", (reason) => reason.ids.map(sample)],
      ],
    }),
  );
}

function Differences({ summary, differences }) {
  const title = summary.dry_run ? "What would change" : "What differs";
  return together(
    h.h2(title),
    e(Table, {
      label: title,
      rows: differences,
      columns: ["Id", "Change", "Field", "At Voucherify", "In the source"].map((head, at) => [
        head,
        "text",
        (row) => row[at],
      ]),
    }),
  );
}

function Numbers({ summary, numbers }) {
  const ids = summary.async_action_ids;
  return together(
    h.h2("Numbers"),
    e(Table, {
      label: "Numbers",
      rows: numbers,
      columns: [
        ["Name", "", ([name]) => words(name)],
        ["Number", "n", ([, count]) => count],
        ["Meaning", "wide quiet", ([, , meaning]) => meaning],
      ],
    }),
    ids.length > 0 &&
      h.details(
        h.summary(counted(ids.length, "async action", "async actions")),
        h.ul(
          ids.slice(0, 500).map((id) => {
            const hasFailed = summary.failed_async_action_ids.includes(id);
            return h.li({ key: id }, id, hasFailed && h.span({ className: "bad" }, " failed as a whole"));
          }),
        ),
      ),
  );
}

// One record

function Ask({ place }) {
  const go = useContext(Go);
  const [id, setId] = useState(place.record || "");
  useEffect(() => setId(place.record || ""), [place.record]);
  const ask = (event) => {
    event.preventDefault();
    if (id) go({ ...place, record: id });
  };
  return together(
    h.h2("What happened to a record"),
    h.form(
      { onSubmit: ask },
      h.input({
        "aria-label": "Id of a record",
        placeholder: "source_id or code",
        value: id,
        maxLength: 500,
        onChange: (event) => setId(event.target.value),
      }),
      h.button({ type: "submit" }, "Show"),
    ),
  );
}

// What was asked for is brought into sight when it is there.
function InSight({ children }) {
  const here = useRef(null);
  useEffect(() => {
    here.current.scrollIntoView({ block: "center" });
  }, []);
  return h.div({ ref: here }, children);
}

function Record({ place }) {
  return e(
    Loaded,
    { path: `record?${query(place, "dag", "task", "map", "record")}` },
    ({ state, lines, runs_searched: searched }) =>
      e(
        InSight,
        { key: place.record },
        state
          ? h.p(standing(place.record, state))
          : !lines.length &&
              h.p(
                `No sync of this task ${searched === null ? "knows" : "of those searched has changed"} a record ${place.record}.`,
              ),
        state && state.content && h.p("Confirmed last: ", h.code(state.content)),
        searched !== null &&
          h.p({ className: "quiet" }, `The files of the last ${counted(searched, "run", "runs")} were searched.`),
        lines.length > 0 &&
          e(Table, {
            label: `Outcomes of ${place.record}`,
            rows: lines,
            columns: [
              ["When", "", (line) => when(line.written_at)],
              [
                "Outcome",
                "",
                (line) => e(Bad, { is: BAD.includes(line.outcome) }, words(line.outcome)),
              ],
              ["Why", "text", (line) => [line.reason_key, line.message, line.details].filter(Boolean).join(": ")],
              [
                "Run",
                "text",
                (line) => (line.run_id ? e(To, { place: { ...place, run: line.run_id } }, line.run_id) : ""),
              ],
              ["Try", "", (line) => line.try_number],
              lines.some((line) => line.content) && ["Sent", "text", (line) => h.code(line.content || "")],
            ],
          }),
      ),
  );
}

function standing(id, state) {
  const said = [`${id}: ${words(state.outcome)}`];
  if (state.failing_since) said.push(`failing since ${when(state.failing_since)}`);
  said.push(state.confirmed_at ? `last confirmed ${when(state.confirmed_at)}` : "never confirmed");
  if (!state.is_certain) said.push("not certain that Voucherify has it as the source has it");
  return said.join("; ");
}

// The page

function Heading({ place }) {
  if (!place.task) return h.h1("Voucherify syncs");
  const sync = `${place.dag}.${place.task}`;
  return h.h1(
    e(To, { place: {} }, "Voucherify syncs"),
    " › ",
    place.run ? e(To, { place: { dag: place.dag, task: place.task } }, sync) : sync,
  );
}

// The place is the address, which Airflow's own links change too.
function VoucherifySyncs() {
  const { pathname, search } = useLocation();
  const navigate = useNavigate();
  const go = (next, options) => navigate({ pathname, search: searchOf(next) }, options);
  const place = placeOf(search);
  return e(
    Go.Provider,
    { value: go },
    h.div(
      { className: "vs" },
      h.style(STYLE),
      e(Heading, { place }),
      place.dag && place.task ? e(Sync, { key: `${place.dag}.${place.task}`, place }) : e(Syncs),
    ),
  );
}

globalThis.AirflowPlugin = VoucherifySyncs;
globalThis["Voucherify syncs"] = VoucherifySyncs;
