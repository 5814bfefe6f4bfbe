"""Style and script of the report: colours for light paper and dark screens, and sorting with JavaScript."""

from __future__ import annotations

import base64
import hashlib

from gatescope.analysis.coloured_text import STEPS, tint
from gatescope.analysis.palette import DARK, LIGHT


def _variables(theme: dict[str, str]) -> str:
    colours = {name: theme[name] for name in ("ink", "paper", "muted", "rule", "faint", "plain", "balanced")}
    colours |= {f"s{step}": tint(step, False, theme) for step in range(STEPS + 1)}
    colours |= {f"n{step}": tint(-step, True, theme) for step in range(STEPS + 1)}
    colours |= {f"p{step}": tint(step, True, theme) for step in range(1, STEPS + 1)}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def tint_class(step: int, signed: bool) -> str:
    """The class of a tint: s0..s10 in one direction, n10..n0 and p1..p10 around zero."""
    if not signed:
        return f"s{step}"
    return f"p{step}" if step > 0 else f"n{-step}"


def _tint_classes() -> str:
    steps = [(step, False) for step in range(STEPS + 1)]
    steps += [(step, True) for step in range(-STEPS, STEPS + 1)]
    names = (tint_class(step, signed) for step, signed in steps)
    return "".join(f".{name}{{background-color:var(--{name})}}" for name in names)


PAGE = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 24px 64px}
h1{font-size:25px;line-height:1.25;margin:0 0 10px;letter-spacing:-.01em}
h2{font-size:19px;line-height:1.3;margin:52px 0 6px}
h3{font-size:16px;line-height:1.35;margin:0 0 3px;scroll-margin-top:12px;overflow-wrap:anywhere}
h4{font-size:14px;margin:18px 0 0;overflow-wrap:anywhere}
p{margin:0 0 8px;max-width:80ch;overflow-wrap:anywhere}
.line{max-width:none}
a{color:inherit;text-decoration-color:var(--faint);text-underline-offset:3px}
a:hover{text-decoration-color:currentColor}
:focus-visible{outline:2px solid var(--plain);outline-offset:2px}
b,td,th,code,.name{unicode-bidi:isolate}
.answer{font-size:16.5px}
.muted,caption,small{color:var(--muted)}
.name{font-weight:600}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13.5px}
caption{text-align:left;padding:0 0 6px;font-size:13px}
th,td{padding:3px 14px 3px 0;text-align:left;vertical-align:middle;border-bottom:1px solid var(--rule)}
th:last-child,td:last-child{padding-right:0}
thead th{font-weight:600;color:var(--muted);vertical-align:bottom;font-size:12.5px}
tbody th{font-weight:500;overflow-wrap:break-word}
td.r,th.r{text-align:right}
td.r,td.f{white-space:nowrap}
.scroll{overflow-x:auto;max-width:100%}
.answers{width:100%;margin-top:14px}
.answers .chart{width:31%;min-width:110px}
.known{font-weight:600}
.overview{margin-top:14px;width:100%}.overview .chart{width:40%;min-width:180px;padding-right:22px}
tbody.group th[rowspan]{vertical-align:top}
tbody.group tr:not(:last-child)>:not([rowspan]){border-bottom:0}
svg{display:block;width:100%;overflow:visible}
svg text{fill:var(--muted);font-size:11px}
.grid{stroke:var(--rule)}.mark{stroke:var(--muted);stroke-width:1.4;fill:none}.narrow{display:none}
.plain{stroke:var(--plain);fill:var(--plain)}.balanced{stroke:var(--balanced);fill:var(--paper)}
.bar{stroke-width:2}.cut{stroke-width:1.8;fill:none}.dot{stroke-width:1.6}
.key{display:inline-block;white-space:nowrap;margin-right:16px}
.key svg{display:inline-block;width:26px;height:12px;vertical-align:-1px;margin-right:5px}
.sortable{font-size:12.5px}.sortable th,.sortable td{padding-right:12px}
.sortable tbody :is(th,td){white-space:nowrap}
.where td{border-color:var(--paper)}.where :is(th,td){text-align:center;padding:3px 9px}
.where tr>:first-child{text-align:left;padding:3px 14px 3px 0}.scroll+h3,details+h3{margin-top:24px}
article{padding:20px 0 4px;border-top:1px solid var(--rule);margin-top:18px}
.panels{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:8px 26px;margin:10px 0 14px}
figure{margin:0;min-width:0}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 12px;font-size:12.5px;
border-bottom:1px solid var(--rule);padding-bottom:4px;margin-bottom:6px}
figcaption>span{overflow-wrap:anywhere;min-width:0}
.gates{display:flex;flex-wrap:wrap;gap:16px 26px;margin:14px 0}.gates figure{width:180px}
.units{stroke:var(--plain);stroke-width:3.5;stroke-linecap:round;stroke-opacity:.6;fill:none}
.legend{color:var(--muted);font-size:12px;display:inline-flex;align-items:center;gap:5px}
.scale{display:inline-flex;border:1px solid var(--faint)}
.scale i,.legend>i{display:inline-block;width:8px;height:10px}
.legend>i{width:14px;margin-left:7px}
pre{margin:0;font:11.5px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
white-space:break-spaces;overflow-wrap:anywhere;tab-size:4;unicode-bidi:plaintext;font-variant-ligatures:none}
pre *{padding:1.5px 0;font-style:normal;color:inherit}
mark{color:inherit;background-color:transparent}
.t::before,.n::before{opacity:.42}
.t::before{content:"→";content:"→" / "";position:absolute}
.n::before{content:"↵";content:"↵" / ""}
.c{font-size:.82em;outline:1px solid var(--faint);outline-offset:-1px;padding:0 1px}
.u{background-image:repeating-linear-gradient(135deg,var(--rule) 0 1.5px,transparent 1.5px 4px)}
.w{box-shadow:inset 0 -2px 0 var(--ink)}
details{margin-top:10px}
ul{margin:6px 0 0;padding-left:20px;max-width:90ch;font-size:13.5px}
summary{cursor:pointer}
button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;text-align:inherit}
[aria-sort=ascending] button::after{content:" ▲"}
[aria-sort=descending] button::after{content:" ▼"}
input{font:inherit;padding:3px 7px;border:1px solid var(--faint);border-radius:3px;background:var(--paper);
color:var(--ink);width:min(100%,22em)}
.filter{margin:8px 0}
@media (min-width:1001px){.answers .unit{white-space:nowrap}
:is(.answers,.overview) thead th:first-child{min-width:12.5em}
.where thead th:first-child{min-width:10em}}
@media (max-width:1000px){.panels{grid-template-columns:minmax(0,1fr);gap:16px}}
@media (max-width:700px){main{padding:20px 16px 48px}h1{font-size:21px}.answer{font-size:15.5px}.wide{display:none}
.narrow{display:block}
.answers .chart{width:28%;min-width:84px}.overview .chart{width:28%;min-width:96px;padding-right:9px}
th,td{padding-right:9px}
.answers td.f small{display:block}table{font-size:13px}}
@media (max-width:520px){.answers .chart{width:18%;min-width:60px}.answers td.f small{white-space:normal}
th,td{padding-right:6px}}
@media print{body{font-size:10pt}main{max-width:none;padding:0}.filter{display:none}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}figure,tr,h3{break-inside:avoid}h2,h3{break-after:avoid}
.paper::details-content{content-visibility:visible}
table,.sortable{font-size:8.5pt}
th,td{padding-right:8px}.answers .chart{width:32%}.where :is(th,td){padding:2px 4px}
.where,.where thead th{font-size:7pt}
.panels{grid-template-columns:repeat(3,minmax(0,1fr));gap:4px 14px}pre{font-size:6.4pt}}
@media (forced-colors:active){pre,.scale,.legend,svg,.where{forced-color-adjust:none}}
"""

STYLE = (
    f":root{{{_variables(LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    f"{PAGE}{_tint_classes()}"
)

# It makes the table of all scores sortable and filterable; every table and text is there without it.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const number = text => { const n = parseFloat(text.replaceAll(",", "")); return isNaN(n) ? -Infinity : n; };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("r");
      const down = head.ariaSort ? head.ariaSort === "ascending" : numeric;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map(row => [row.cells[column].textContent, row]);
      const compare = numeric ? (a, b) => number(a[0]) - number(b[0]) : (a, b) => a[0].localeCompare(b[0], "en");
      keyed.sort(down ? (a, b) => compare(b, a) : compare);
      body.append(...keyed.map(pair => pair[1]));
    });
  });
  const label = document.createElement("label"), input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  label.append("Show rows that contain ", input);
  const line = document.createElement("p");
  line.className = "filter";
  line.append(label, " ", count);
  table.closest(".scroll").before(line);
  const texts = rows.map(row => row.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every(word => texts[i].includes(word));
      shown += !row.hidden;
    });
    count.textContent = words.length ? shown + " of " + rows.length : "";
  });
}
"""

# Nothing is fetched, and no script but the one above runs, whatever a corpus contains.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
