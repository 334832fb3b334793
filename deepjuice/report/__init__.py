"""The report: depth curves and tables of a run in one self-contained HTML page."""

from deepjuice.report.page import write_report

__all__ = ["write_report"]
