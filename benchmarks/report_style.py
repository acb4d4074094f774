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
