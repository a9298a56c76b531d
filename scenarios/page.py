"""The page around a report: its style, dark and light, and nothing that is fetched from anywhere."""

from __future__ import annotations

from html import escape
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --ground:#fbfaf8; --card:#fff; --ink:#1d1c1a; --dim:#76736c; --line:#e6e3dc; --grid:#eeece6; --good:#15803d; --bad:#c62f2f;
  --gossip:#2a78d6; --second:#e0612a; --third:#159a6c; --fourth:#6a4fc0; --fifth:#b98500; --fault:#d98a00; }
@media (prefers-color-scheme: dark) { :root {
  --ground:#161614; --card:#1f1f1c; --ink:#eceae4; --dim:#98948a; --line:#34332f; --grid:#2a2926; --good:#4cc07a; --bad:#f07070;
  --gossip:#5aa0f2; --second:#f0804c; --third:#34c08e; --fourth:#a48ef0; --fifth:#d9a93a; --fault:#e0a030; } }
* { box-sizing: border-box; }
body { margin:0 auto; max-width:1240px; padding:32px 24px 64px; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif; }
h1 { font-size:32px; line-height:1.15; margin:0 0 8px; letter-spacing:-.02em; }
h2 { font-size:19px; margin:40px 0 12px; letter-spacing:-.01em; }
header p { max-width:72ch; margin:0 0 16px; }
.over { color:var(--dim); font-size:13px; margin:0 0 4px !important; }
.tiles { display:flex; flex-wrap:wrap; gap:12px; }
.tile { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:10px 16px; min-width:130px; }
.tile b { display:block; font-size:20px; font-variant-numeric:tabular-nums; }
.tile span { color:var(--dim); font-size:13px; }
.tile.good b, td.good { color:var(--good); } .tile.bad b, td.bad { color:var(--bad); }
.figures { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr)); gap:16px; }
figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px 14px 10px; break-inside:avoid; }
figcaption { font-weight:600; margin-bottom:4px; }
svg { display:block; width:100%; height:auto; font:12px system-ui,sans-serif; }
.grid { stroke:var(--grid); } .axis { stroke:var(--line); }
.tick, .name { fill:var(--dim); } .mid { text-anchor:middle; } .end { text-anchor:end; }
.line { fill:none; stroke-width:2; stroke-linejoin:round; } .band { opacity:.16; } .span { fill:var(--fault); opacity:.14; }
.edge { stroke:var(--gossip); } .ground { fill:var(--grid); } .fault { fill:var(--fault); }
.key, .note, .none { color:var(--dim); font-size:13px; margin:4px 0 0; } .key span { margin-right:14px; white-space:nowrap; }
.key i { display:inline-block; width:18px; height:0; margin-right:6px; vertical-align:middle; }
.wide { overflow-x:auto; }
table { border-collapse:collapse; background:var(--card); border:1px solid var(--line); border-radius:10px; width:100%; font-size:14px; }
td, th { padding:7px 12px; text-align:left; border-bottom:1px solid var(--line); vertical-align:top; }
tr:last-child td { border-bottom:0; } th { color:var(--dim); font-weight:500; white-space:nowrap; }
.numbers td { font-variant-numeric:tabular-nums; white-space:nowrap; }
.numbers td:not(:first-child), .numbers th:not(:first-child) { text-align:right; }
.says td:first-child { white-space:nowrap; width:1%; } .says ul { margin:4px 0 0; padding-left:18px; color:var(--bad); font-size:13px; }
.dim { color:var(--dim); } details { margin-top:16px; } summary { cursor:pointer; color:var(--dim); margin-bottom:8px; }
@media print { body { max-width:none; padding:0; } }
"""


def page(title: str, body: str) -> str:
    """A whole document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} · Chinwag</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
