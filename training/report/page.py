"""The HTML page: one file, plots inline, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from training.diagnosis import Finding
from training.report.canvas import SvgCanvas
from training.report.summary import Summary
from training.stats import LayerStats

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
.verdict{padding:.6rem 1rem;border-radius:6px;font-weight:600}
.healthy{background:#e3f4ea;color:#14532d}.warning{background:#fdf2d0;color:#713f12}
.ill{background:#fde3e3;color:#7f1d1d}
.finding{border-left:4px solid #d1495b;margin:1rem 0;padding:.1rem 1rem}
.finding.warning{background:none;border-color:#c77d0a}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}
svg{width:100%;height:auto;border:1px solid #eee;font-family:system-ui,sans-serif}
table{border-collapse:collapse}
td,th{padding:.25rem .8rem .25rem 0;text-align:left;border-bottom:1px solid #eee}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}dt{color:#666}dd{margin:0 0 .4rem}
"""


def html_page(summary: Summary) -> str:
    """The whole page. All texts from outside are escaped."""
    verdict = summary.verdict
    findings = "".join(map(_finding, verdict.findings)) or "<p>No rule found anything wrong.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">"
        f"<title>{escape(summary.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(summary.title)}</h1>"
        f'<p class="verdict {verdict.health}">{escape(verdict.sentence())}</p>'
        f"{_table(('', ''), summary.facts)}"
        f"<h2>Findings</h2>{findings}"
        f'<h2>Plots</h2><div class="plots">{"".join(_plots(summary))}</div>'
        f"<h2>Layers</h2>{_layers(summary.stats.layers)}"
        "</body></html>\n"
    )


def _finding(finding: Finding) -> str:
    rows = (
        ("Evidence", finding.evidence),
        ("Limit", f"{finding.threshold} ({finding.source})"),
        ("Advice", finding.advice),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return (
        f'<div class="finding {finding.severity}"><p><b>{escape(finding.rule)}</b> ({finding.severity}) '
        f"in {escape(finding.where)}</p><dl>{listed}</dl></div>"
    )


def _plots(summary: Summary) -> Iterable[str]:
    for plot in summary.plots():
        canvas = SvgCanvas(plot.title)
        plot.draw(canvas)
        yield canvas.finished()


def _layers(layers: Sequence[LayerStats]) -> str:
    head = ("layer", "units", "parameters", "gradient norm", "change a step", "dead", "sparse")
    rows = [
        (
            layer.name,
            str(layer.units),
            str(layer.parameters),
            f"{layer.grad_norm[-1]:.3g}" if layer.grad_norm else "",
            f"{layer.deep_update_ratio[-1]:.1e}" if layer.deep_update_ratio else "",
            "" if layer.dead is None else str(layer.dead),
            "" if layer.sparse is None else str(layer.sparse),
        )
        for layer in layers
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
        )

    top = f"<tr>{line(head, 'th')}</tr>" if any(head) else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
