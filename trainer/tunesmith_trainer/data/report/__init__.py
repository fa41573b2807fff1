"""The data report: what is in a data set, and what the model will see of it."""

from tunesmith_trainer.data.report.build import REPORT, build_report, log_findings
from tunesmith_trainer.data.report.row_index import RowIndex

__all__ = ["REPORT", "RowIndex", "build_report", "log_findings"]
