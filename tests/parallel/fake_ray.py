"""What the engine uses of Ray, in this process: tasks run when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """A worker or a machine was lost too often."""


class RayTaskError(RayError):
    """A task raised an error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback\n{cause}")
        self.cause = cause


class WorkerCrashed(Exception):
    """Raised by a task of a test: its worker dies here."""


class Task:
    """A task in the queue."""

    def __init__(self, function: Callable, arguments: Sequence, options: dict[str, Any]) -> None:
        self.function, self.arguments, self.options = function, arguments, options
        self.attempts = 0
        self.is_cancelled = False

    def run(self) -> Any:
        """The result, by Ray's rules of retries."""
        repeated = tuple(self.options.get("retry_exceptions", ()))
        while True:
            self.attempts += 1
            try:
                return self.function(*self.arguments)
            except WorkerCrashed:
                if self.attempts > self.options["max_retries"]:
                    raise RayError("The worker died.\nmore lines") from None
            except Exception as error:
                is_last = self.attempts > self.options["max_retries"]
                if is_last or not isinstance(error, repeated):
                    raise RayTaskError(error) from None


class FakeRay:
    """Stands for the module ``ray``, with a cluster of some cores."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cores: int = 2) -> None:
        self.cores = cores
        self.tasks: list[Task] = []

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Callable) -> SimpleNamespace:
        def with_options(**options: Any) -> SimpleNamespace:
            def submit(*arguments: Any) -> Task:
                self.tasks.append(Task(function, arguments, options))
                return self.tasks[-1]

            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=with_options)

    def get(self, task: Task) -> Any:
        return task.run()

    def wait(self, tasks: Sequence[Task], timeout: float) -> tuple[list[Task], list[Task]]:
        return list(tasks), []

    def cancel(self, task: Task, force: bool = False) -> None:
        task.is_cancelled = True
