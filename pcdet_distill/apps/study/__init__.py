"""A study: students and recipes trained with several seeds on the same data, compared in a table.

How to use it stands in docs/study/README.md. How it works:

* ``spec.py`` reads the yaml; ``plan.py`` and ``data.py`` turn it into runs and commands.
* ``command.py`` is the command line; ``reopen.py`` finds the yaml of a study's folder again.
* ``check.py`` builds everything once before any training.
* ``runner.py`` runs what is missing; ``locks.py`` and ``shards.py`` share the work.
* ``survey.py`` reads the state and the numbers of every run; ``records.py`` holds notes on them.
* ``cost/`` has what each row costs, ``results/`` the tables, the plot and the pages.
"""

from __future__ import annotations

from .command import main
from .plan import Options, StudyPlan
from .results.table import make_table
from .results.write import write_tables
from .runner import Runner

__all__ = ["Options", "Runner", "StudyPlan", "main", "make_table", "write_tables"]
