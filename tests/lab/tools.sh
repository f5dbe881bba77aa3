#!/bin/sh
# Install what the lab lacks where that can be done, as root with apt-get: tools.sh PYTHON
command -v apt-get > /dev/null && [ "$(id -u)" = 0 ] || exit 0
missing=$("$1" -c 'from tests.lab import image; print(*image.missing())')
[ -n "$missing" ] || exit 0
echo "lab: installing $missing"
# shellcheck disable=SC2086 # several packages
{ apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } > /dev/null ||
    echo "lab: apt-get could not install them"
