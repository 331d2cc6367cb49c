"""One evaluation: every frame through the model, then the table and the files.

loop     detections of all processes, scored
report   OpenPCDet's text, result.pkl and metrics.json
"""

from .loop import EvalOutcome, evaluate_model
from .report import log_performance, recall_values, write_results

__all__ = ["EvalOutcome", "evaluate_model", "log_performance", "recall_values", "write_results"]
