#!/usr/bin/env bash
# Make (or reuse) the project's virtual environment and install into it. Sourced by quickstart.sh and run_tests.sh.
# Afterwards $PYTHON is the environment's python and $ROOT the root of the checkout.
#   EXTRAS                    the extras of pyproject.toml to install (set by the script that sources this one)
#   NO_DEPS                   packages to install without what they ask for (set likewise; may be empty)
#   PCDET_DISTILL_VENV        where the environment lives (default: .venv in the checkout)
#   PCDET_DISTILL_PYTHON      the python it is made from  (default: python3)
#   PCDET_DISTILL_CONSTRAINTS which versions are installed without a GPU (default: constraints/cpu.txt)
#   PCDET_DISTILL_TORCH_INDEX where PyTorch's CPU build is looked for (default: PyTorch's own index)

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="${PCDET_DISTILL_VENV:-$ROOT/.venv}"
BASE_PYTHON="${PCDET_DISTILL_PYTHON:-python3}"
TORCH_INDEX="${PCDET_DISTILL_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
VERSIONS="$(cd "$ROOT" && realpath "${PCDET_DISTILL_CONSTRAINTS:-constraints/cpu.txt}")"
PYTHON="$VENV/bin/python"

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

# True when PyTorch's index answers within 5 seconds.
torch_index_answers() {
    timeout 10 "$PYTHON" - "$TORCH_INDEX/torch/" >/dev/null 2>&1 <<'PROBE'
import sys
import urllib.request

urllib.request.urlopen(sys.argv[1], timeout=5).read(1)
PROBE
}

pip_install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@"; }

# PyTorch's CPU build is a tenth of the CUDA build that the default index has for Linux.
install_cpu_torch() {
    if "$PYTHON" -c 'import torch' >/dev/null 2>&1; then
        return
    fi
    if torch_index_answers && pip_install --index-url "$TORCH_INDEX" -r "$VERSIONS"; then
        return
    fi
    echo "   $TORCH_INDEX does not answer; torch comes from pip's default index" >&2
}

if ! "$BASE_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: '$BASE_PYTHON' is not Python 3.10 or newer; set PCDET_DISTILL_PYTHON to one that is" >&2
    exit 2
fi

# With a GPU the user's own torch is used; elsewhere the pinned CPU build is installed.
CONSTRAINTS=(-c "$VERSIONS")
VENV_ARGS=()
if has_gpu; then
    CONSTRAINTS=()
    VENV_ARGS=(--system-site-packages)
fi

STAMP="$VENV/.installed-${EXTRAS//,/-}"
WANTED="$(cat "$ROOT/pyproject.toml" "$VERSIONS" "${BASH_SOURCE[0]}" | cksum) $ROOT ${CONSTRAINTS[*]:-}"
if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
    echo "== preparing the environment in $VENV (once)"
    if ! "$BASE_PYTHON" -m venv "${VENV_ARGS[@]}" "$VENV" >/dev/null 2>&1; then
        "$BASE_PYTHON" -m virtualenv "${VENV_ARGS[@]}" "$VENV" >/dev/null 2>&1 || {
            echo "error: cannot make a virtual environment in $VENV: install python3-venv, or 'pip install --user virtualenv'" >&2
            exit 2
        }
    fi
    has_gpu || install_cpu_torch
    pip_install "${CONSTRAINTS[@]}" -e "$ROOT[$EXTRAS]" || exit 1
    if [ -n "${NO_DEPS:-}" ]; then
        # shellcheck disable=SC2086  # a list of words
        pip_install --no-deps $NO_DEPS || exit 1
    fi
    printf '%s' "$WANTED" > "$STAMP"
fi
