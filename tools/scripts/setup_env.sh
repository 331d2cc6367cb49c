#!/usr/bin/env bash
# Make (or reuse) the project's own virtual environment and install into it. Sourced by quickstart.sh and run_tests.sh.
# Afterwards $PYTHON is the environment's python and $ROOT the root of the checkout.
#   PCDET_DISTILL_VENV   where the environment lives (default: .venv in the checkout)
#   PCDET_DISTILL_PYTHON the python it is made from  (default: python3)

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="${PCDET_DISTILL_VENV:-$ROOT/.venv}"
BASE_PYTHON="${PCDET_DISTILL_PYTHON:-python3}"
PYTHON="$VENV/bin/python"

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

# The user's own torch is used where there is a GPU; elsewhere the pinned CPU build is installed.
PIP_ARGS=(-c "$ROOT/constraints/cpu.txt")
VENV_ARGS=()
if has_gpu; then
    PIP_ARGS=()
    VENV_ARGS=(--system-site-packages)
fi

if ! "$BASE_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: '$BASE_PYTHON' is not Python 3.10 or newer; set PCDET_DISTILL_PYTHON to one that is" >&2
    exit 2
fi

STAMP="$VENV/.installed"
WANTED="$(cat "$ROOT/setup.py" "$ROOT/constraints/cpu.txt" "${BASH_SOURCE[0]}" | cksum) $ROOT ${PIP_ARGS[*]:-}"
if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
    echo "== preparing the environment in $VENV (once)"
    if ! "$BASE_PYTHON" -m venv "${VENV_ARGS[@]}" "$VENV" >/dev/null 2>&1; then
        "$BASE_PYTHON" -m virtualenv "${VENV_ARGS[@]}" "$VENV" >/dev/null 2>&1 || {
            echo "error: cannot make a virtual environment in $VENV: install python3-venv, or 'pip install --user virtualenv'" >&2
            exit 2
        }
    fi
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${PIP_ARGS[@]}" -e "$ROOT[viz,dev]" || exit 1
    printf '%s' "$WANTED" > "$STAMP"
fi
