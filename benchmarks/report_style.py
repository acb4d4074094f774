"""The look of the report page; inline, so that the page needs nothing but its own folder."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f6f8fa; --ink: #1f2328; --muted: #59636e; --line: #d1d9e0;
  --good: #1a7f37; --good-ground: #dafbe1; --bad: #cf222e; --bad-ground: #ffebe9; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --card: #151b23; --ink: #e6edf3; --muted: #9198a1;
  --line: #2f3742; --good: #3fb950; --good-ground: #12361f; --bad: #f85149; --bad-ground: #3d1518; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 52px 0 4px; }
h2 small { color: var(--muted); font-size: 15px; font-weight: 400; margin-left: 6px; }
p.lead { color: var(--muted); margin: 0 0 28px; max-width: 70ch; }
p.about { color: var(--muted); margin: 0 0 16px; font-size: 14px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { padding: 11px 16px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: 13px; color: var(--muted); background: var(--card); }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
td small { color: var(--muted); font-size: 12.5px; margin-left: 7px; }
td strong { font-weight: 650; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 20px; }
.card { border: 1px solid var(--line); border-radius: 10px; background: var(--card); overflow: hidden; }
.card video, .card img { display: block; width: 100%; height: auto; background: #0d141b; }
.card img { border-top: 1px solid var(--line); }
.card header { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 12px; padding: 12px 16px;
  font-size: 14px; }
.card header b { font-size: 15px; }
.card header span.far { margin-left: auto; color: var(--muted); font-variant-numeric: tabular-nums; }
.tag { padding: 1px 10px; border-radius: 999px; font-size: 13px; font-weight: 600; }
.badges { display: flex; flex-wrap: wrap; gap: 3px; margin-top: 3px; }
.badges .tag { padding: 0 7px; font-size: 11px; font-weight: 500; }
.tag.good { color: var(--good); background: var(--good-ground); }
.tag.bad { color: var(--bad); background: var(--bad-ground); }
.tag.none { color: var(--muted); border: 1px solid var(--line); }
.error { color: var(--bad); font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 0;
  padding: 0 16px 12px; overflow-wrap: anywhere; }
.notice { border-left: 3px solid var(--bad); background: var(--bad-ground); padding: 8px 14px; border-radius: 4px;
  margin: 8px 0 16px; font-size: 14px; }
footer { margin-top: 56px; padding-top: 20px; border-top: 1px solid var(--line); color: var(--muted); font-size: 13px; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
footer dt { font-weight: 600; }
footer dd { margin: 0; overflow-wrap: anywhere; font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 560px) { main { padding: 24px 14px 40px; } h1 { font-size: 24px; } th, td { padding: 9px 11px; } }
"""

SUITE_STYLE = """
main { max-width: 1400px; }
table.sortable { font-size: 13.5px; }
.sortable th, .sortable td { padding: 8px 10px; }
.sortable th { font-size: 12px; white-space: normal; vertical-align: bottom; }
.sortable th button { text-align: inherit; }
.sortable .word { text-align: left; }
.sortable td small { font-size: 11.5px; margin-left: 5px; }
h3 { font-size: 16px; margin: 34px 0 6px; }
h3 small { color: var(--muted); font-weight: 400; margin-left: 6px; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort="ascending"] button::after { content: " \\25B2"; }
th[aria-sort="descending"] button::after { content: " \\25BC"; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 18px;
  margin: 22px 0; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 10px; padding: 12px; }
figure img { display: block; width: 100%; height: auto; }
section > figure { max-width: 820px; margin: 8px 0; }
figcaption { color: var(--muted); font-size: 13px; text-align: center; margin-top: 6px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px;
  margin: 6px 0 12px;
  font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin-top: 40px; }
summary { cursor: pointer; color: var(--muted); }
@media print { th button::after { content: "" !important; } .scroll { overflow: visible; } }
"""

SORT = """
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (key(a) === "") - (key(b) === "") || (up ? 1 : -1) * compare(key(a), key(b)));
    heads.forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }));
});
"""
