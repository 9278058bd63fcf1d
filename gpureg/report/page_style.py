"""The style sheet of the report's page: legible on a phone, in the dark, and on paper."""

CSS = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #595959; --paper: #ffffff; --line: #d9d9d9; --accent: #00588c;
  --good: #00674c; --bad: #a83f00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a8a8a8; --paper: #16181b; --line: #3a3d42;
  --accent: #7cc4f2; --good: #5fd0a8; --bad: #ff9d66; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
a { color: var(--accent); }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .25rem .5rem; }
.verdict { border-left: 4px solid var(--good); padding: .25rem 0 .25rem .75rem; font-size: 1.1rem; margin: 1rem 0; }
.verdict.off { border-color: var(--bad); }
nav ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.note { color: var(--soft); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; }
figure img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: .5rem; }
figcaption { font-size: .92rem; margin-top: .4rem; }
figcaption strong { display: block; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .5rem 0 1.25rem; }
caption { text-align: left; font-weight: 600; padding: .35rem 0; }
th, td { text-align: left; vertical-align: baseline; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; }
th[scope=row] { font-weight: 400; }
td.number, th.number { text-align: right; }
td.number { font-variant-numeric: tabular-nums; font-size: .92em;
  font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; }
table.stacked { table-layout: fixed; }
td.off { color: var(--bad); font-weight: 600; }
@media (max-width: 40rem) {
  table.stacked thead { position: absolute; left: -100vw; }
  table.stacked, table.stacked caption, table.stacked tbody,
  table.stacked tr, table.stacked th, table.stacked td
    { display: block; width: 100%; }
  table.stacked tr { border-bottom: 1px solid var(--line); padding: .35rem 0; }
  table.stacked th, table.stacked td { border: 0; padding: 0; text-align: left; }
  table.stacked th[scope=row] { font-weight: 600; }
  table.stacked td::before { content: attr(data-label) " "; color: var(--soft); font-family: system-ui, sans-serif;
    display: inline-block; min-width: 6rem; }
}
@media print { nav, .skip { display: none; } figure, tr { break-inside: avoid; } }
"""
