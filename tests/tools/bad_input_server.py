"""Runs the project's tools in forked processes, so that their imports are paid for once.

A request is a line on stdin: ``{"cwd": folder, "arguments": ["train", "--cfg_file", ...]}``. The
result is a line on stdout: ``{"code": exit code, "out": stdout, "err": stderr}``.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import pcdet_distill.datasets.synthetic  # noqa: F401 (for the processes forked from this one)
import pcdet_distill.distill  # noqa: F401
import pcdet_distill.engine.train  # noqa: F401

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run_tool(request: dict[str, Any], out: int, err: int) -> None:
    """Run the tool and end this process, a forked child.

    Args:
        request: working directory and arguments.
        out: file descriptor that takes the place of stdout.
        err: file descriptor that takes the place of stderr.
    """
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(request["cwd"])
    tool, *arguments = request["arguments"]
    sys.argv = [str(TOOLS / f"{tool}.py"), *arguments]
    code: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run the tool in a forked process and wait for its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            run_tool(request, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read(), "err": err.read()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
