"""Evaluations: every test frame through the model, then AP, the report and the files.

loop          one evaluation, the frames divided among the processes
checkpoints   one evaluation for each checkpoint of a folder
report        OpenPCDet's text, result.pkl and metrics.json
run_report    report.html beside the results
"""

from .checkpoints import Evaluator, evaluate_checkpoints, evaluated_list, read_evaluated
from .loop import EvalOutcome, evaluate_model
from .report import Annotation

__all__ = [
    "Annotation",
    "EvalOutcome",
    "Evaluator",
    "evaluate_checkpoints",
    "evaluate_model",
    "evaluated_list",
    "read_evaluated",
]
