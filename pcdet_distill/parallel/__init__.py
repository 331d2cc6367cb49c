"""Work that has many independent parts: the frames of a data set, the trainings of a study.

engine     what an engine can do; engines run the parts
local      on the cores of this machine; the default
on_ray     on the machines of a Ray cluster
arguments  the flags by which a command chooses
shards     a part of the work for each of several commands
"""

from .arguments import add_engine_arguments, engine_of
from .engine import Ending, Engine, Job, Started, Workers
from .local import LocalEngine, as_engine

__all__ = [
    "Ending",
    "Engine",
    "Job",
    "LocalEngine",
    "Started",
    "Workers",
    "add_engine_arguments",
    "as_engine",
    "engine_of",
]
