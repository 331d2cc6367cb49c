"""What a run reports: a log for people, ``metrics.jsonl`` for programs, TensorBoard for curves.

logger      the screen and the log file
progress    log lines and records while a training runs
metrics     metrics.jsonl, and what goes to TensorBoard
curves      TensorBoard's event file
cost        wall-clock and processor time of a training
run_record  the resolved config, versions and command, written beside the results
folders     create output folders, or refuse them in one sentence
text        durations, rates and values as the log shows them
"""

from .cost import Cost, CostMeter, read_cost
from .folders import check_writable, make_folder, writing
from .logger import LOGGER_NAME, create_logger, open_log_file
from .metrics import LogValues, MetricWriter, numbers
from .progress import Progress
from .run_record import NOT_CONFIG, config_text, environment, write_config
from .text import duration_text, rate_text, value_text

__all__ = [
    "LOGGER_NAME",
    "NOT_CONFIG",
    "Cost",
    "CostMeter",
    "LogValues",
    "MetricWriter",
    "Progress",
    "check_writable",
    "config_text",
    "create_logger",
    "duration_text",
    "environment",
    "make_folder",
    "numbers",
    "open_log_file",
    "rate_text",
    "read_cost",
    "value_text",
    "write_config",
    "writing",
]
