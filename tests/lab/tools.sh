#!/bin/sh
# Install what the lab needs (tests/lab/README.md) where that can be done: as root, with apt-get.
PATH=$PATH:/usr/sbin:/sbin
command -v apt-get > /dev/null && [ "$(id -u)" = 0 ] || exit 0
for tool in qemu-system-x86_64 debootstrap mke2fs cpio git gcc; do
    command -v $tool > /dev/null || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0
echo "lab: installing what is missing:$missing"
{ apt-get update -q && apt-get install -y -q --no-install-recommends \
    qemu-system-x86 debootstrap e2fsprogs cpio git gcc libc6-dev; } > /dev/null ||
    echo "lab: apt-get could not install them"
