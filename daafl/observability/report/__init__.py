"""The report of a run."""

from daafl.observability.report.page import report_html, write_report
from daafl.observability.report.text import describe

__all__ = ["describe", "report_html", "write_report"]
