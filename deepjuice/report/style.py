"""The page's style sheet."""

CSS = """
:root { color-scheme: light }
body { margin: 0; background: #fff; color: #1d1d1d; font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 24px 28px 48px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px }
h2 { font-size: 22px; margin: 36px 0 8px; padding-top: 16px; border-top: 1px solid #ddd }
h3 { font-size: 18px; margin: 28px 0 4px }
p { max-width: 80ch; margin: 6px 0 10px }
.lead { font-size: 18px; color: #444 }
figure { margin: 4px 0 12px }
svg { display: block; height: auto }
svg image { image-rendering: pixelated }
svg text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif !important }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; max-width: none; font-size: 15px }
i.line { display: inline-block; width: 22px; margin-right: 8px; vertical-align: middle }
.wide { overflow-x: auto }
summary { cursor: pointer; font-weight: 600; margin: 4px 0 8px }
table { border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 4px 14px 4px 0; vertical-align: top }
thead th { border-bottom: 1px solid #888; font-weight: 600; white-space: nowrap }
tr.first td, tr.first th { border-top: 1px solid #ddd }
tbody th { font-weight: 600 }
th.n, td.n { text-align: right; white-space: nowrap }
small { color: #6b6b6b; font-size: 12.5px; font-weight: 400 }
i.bar { display: inline-block; width: 60px; height: 8px; margin-right: 8px; background: #ececec; border-radius: 2px }
i.bar i { display: block; height: 8px; background: #8a8a8a; border-radius: 2px }
table.run td { max-width: 42ch; overflow-wrap: anywhere }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13.5px }
pre { background: #f6f6f6; padding: 12px; overflow-x: auto }
footer { margin-top: 40px; color: #6b6b6b; font-size: 14px }
"""
