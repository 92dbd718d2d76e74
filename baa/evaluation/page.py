"""The report page of an evaluation: one HTML file with its pictures, readable without a network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from baa.metrics.ages import by_group
from baa.metrics.coverage import COVERAGE, interval_width, share_inside

Metrics = Mapping[str, float | list[float]]

PUBLISHED = (
    ("Li et al. 2023, the method's paper", 5.45, "split not stated"),
    ("RSNA 2017, the first five", 4.35, "4.2 to 4.5; many networks averaged"),
    ("ConvNeXtV2, public code", 4.16, "three networks averaged"),
    ("BoNet 2019", 4.14, "drawn boxes and key points"),
    ("Deeplasia 2023", 3.87, "hand masks, three networks averaged"),
    ("Bram et al. 2025", 3.68, "five networks averaged"),
)
"""MAE in months, unless noted on the 200 radiographs of RSNA's official test set, labeled by six readers each."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd; }
.figures { display: flex; flex-wrap: wrap; gap: 1em; } .figures img { max-width: 100%; }
figure { margin: 0; } figcaption { font-size: 13px; color: #555; } .worst img { width: 520px; max-width: 100%; }
.note { background: #fff6e0; padding: .6em 1em; border-left: 4px solid #e0a800; }
"""

JPEG_QUALITY = 80


class Report(NamedTuple):
    """The content of a page.

    title; split: prefix of the metrics' names; metrics; figures; worst: pictures of the cases with the largest errors, with
    captions; card: description of the model.
    """

    title: str
    split: str
    metrics: Metrics
    figures: Sequence[Figure]
    worst: Sequence[tuple[str, Image.Image]]
    card: Mapping[str, Any]


def page(report: Report) -> str:
    """Return the page as HTML."""
    parts = [_headline(report), _published(report), as_pictures(report.figures), _groups(report)]
    parts += [_values("Regions against annotations", _localized(report)), _values("Trained fusion weights", _fusion(report))]
    parts += [_worst(report.worst), _card(report.card)]
    body = "\n".join(part for part in parts if part)
    return document(report.title, body)


def document(title: str, body: str) -> str:
    """A page in the style of all reports."""
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _headline(report: Report) -> str:
    m, s = report.metrics, report.split
    if f"{s}/mae" not in m:
        return "<p>No case has a known age, so there are no errors to report.</p>"
    low, high = m[f"{s}/mae_ci"]  # type: ignore[misc]
    return (
        f"<p><b>MAE {m[f'{s}/mae']:.2f} months</b> (95 % {low:.2f} to {high:.2f}) on {m[f'{s}/cases']} radiographs; "
        f"RMSE {m[f'{s}/rmse']:.2f}, bias {m[f'{s}/bias']:+.2f}; within 6 months {m[f'{s}/within_6']:.0%}, "
        f"within 12 months {m[f'{s}/within_12']:.0%}.</p>"
        '<p class="note">A research tool, not a medical device: do not treat anybody by its answers.</p>'
    )


def _published(report: Report) -> str:
    if f"{report.split}/mae" not in report.metrics:
        return ""
    low, high = report.metrics[f"{report.split}/mae_ci"]  # type: ignore[misc]
    ours = ("this model, these radiographs", report.metrics[f"{report.split}/mae"], f"95 %: {low:.2f} to {high:.2f}")
    rows = [(who, f"{mae:.2f}", how) for who, mae, how in (ours, *PUBLISHED)]
    return (
        "<h2>Beside published figures</h2><p>Published figures are on RSNA's official test set unless noted. Its labels are "
        "means of six readings. On labels of one reader the same models have a MAE about 1 to 2.5 months higher.</p>"
        + as_table(pd.DataFrame(rows, columns=["who", "MAE, months", ""]))
    )


def _groups(report: Report) -> str:
    """Make a table with one row per group of cases, by sex and by age."""
    groups, rows = by_group(report.metrics, report.split), []
    shares: dict[str, float] = {}
    inside, width = share_inside(COVERAGE), interval_width(COVERAGE)
    for group, metrics in groups.items():
        if group != "all" and "mae" in metrics:
            low, high = metrics["mae_ci"]
            row = {
                "group": group,
                "cases": metrics["cases"],
                "MAE": f"{metrics['mae']:.2f}",
                "95 %": f"{low:.2f} to {high:.2f}",
            }
            rows.append(row | {"bias": f"{metrics['bias']:+.2f}"})
        if inside in metrics:
            shares |= {f"{group}: {name}": metrics[name] for name in (inside, width)}
    table = f"<h2>Error by subgroup</h2>{as_table(pd.DataFrame(rows))}" if rows else ""
    return table + _values("Intervals: share of true ages inside, and mean width in months", shares)


def _localized(report: Report) -> Metrics:
    names = ("pointing", "iou", "coverage", "fallback", "marked", "capitate")
    return {name: value for name, value in report.metrics.items() if any(word in name for word in names)}


def _fusion(report: Report) -> Metrics:
    return {name.removeprefix("fusion/"): value for name, value in report.metrics.items() if name.startswith("fusion/")}


def _values(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    table = pd.DataFrame([(name, f"{value:.3g}") for name, value in values.items()], columns=["", "value"])
    return f"<h2>{title}</h2>{as_table(table)}"


def as_pictures(figures: Sequence[Figure]) -> str:
    """Figures as pictures that are part of the page."""
    images = []
    for figure in figures:
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream)
        images.append(f'<img alt="" src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">')
    return f'<div class="figures">{"".join(images)}</div>'


def _worst(worst: Sequence[tuple[str, Image.Image]]) -> str:
    shown = []
    for caption, image in worst:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'
        shown.append(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>")
    return f'<h2>Largest errors</h2><div class="figures worst">{"".join(shown)}</div>' if shown else ""


def _card(card: Mapping[str, Any]) -> str:
    rows = [(name, " ".join(value) if isinstance(value, list | tuple) else str(value)) for name, value in card.items()]
    return f"<h2>The model</h2>{as_table(pd.DataFrame(rows, columns=['', 'model card']))}"


def as_table(frame: pd.DataFrame) -> str:
    """A table as HTML; its text is escaped."""
    with pd.option_context("display.max_colwidth", None):
        return frame.to_html(index=False, border=0)
