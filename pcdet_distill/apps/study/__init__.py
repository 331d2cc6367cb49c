"""A study: students and recipes trained with several seeds on the same data, compared in a table.

How to use it stands in docs/study/README.md. How it works:

* ``spec.py`` reads the yaml; ``plan.py`` and ``data.py`` turn it into runs and commands.
* ``check.py`` builds everything once before any training.
* ``runner.py`` runs what is missing; ``locks.py`` shares the work between processes.
* ``survey.py`` reads the state and the numbers of every run; ``records.py`` holds notes on them.
* ``table.py`` computes the rows; ``comparisons.py`` finds which rows are compared.
* ``text.py`` and ``plot.py`` show the table; ``publish.py`` and ``results_csv.py`` export it.
"""

from __future__ import annotations

from .plan import Options, StudyPlan
from .runner import Runner
from .table import make_table
from .tool import main, write_tables

__all__ = ["Options", "Runner", "StudyPlan", "main", "make_table", "write_tables"]
