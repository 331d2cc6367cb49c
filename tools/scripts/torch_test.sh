#!/usr/bin/env bash
# OpenPCDet's other name for dist_test.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_test.sh" "$@"
