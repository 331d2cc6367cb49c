#!/usr/bin/env bash
# The test suite, in the project's own environment: ruff (lint and format), mypy, pytest. Arguments go to pytest (for example --slow).
set -euo pipefail
EXTRAS=viz,readers,export,openvino,hub,notebook,docs,dev,nuscenes-imports,triton
NO_DEPS=nuscenes-devkit # asks for numpy 1, and works with numpy 2
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$ROOT"

# One thread a process: two busy two-threaded processes can run ten times slower than one.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy

# Each core runs test files of its own, eight of them at most. A GPU is for one process alone.
PARALLEL=()
if [[ " $* " != *" --device"* ]]; then
    CORES=$("$PYTHON" -c 'from pcdet_distill.processes import available_cores; print(available_cores())')
    PARALLEL=(-n "$((CORES < 8 ? CORES : 8))" --dist loadfile)
fi
exec "$PYTHON" -m pytest "${PARALLEL[@]}" "$@"
