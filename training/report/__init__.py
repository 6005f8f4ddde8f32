"""The report of a training: an HTML page that opens without network, and the same plots as one PNG."""

from __future__ import annotations

from training.report.page import html_page
from training.report.picture import png_picture
from training.report.summary import Judged, Summary

__all__ = ["Judged", "Summary", "html_page", "png_picture"]
