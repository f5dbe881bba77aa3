#!/bin/sh
# The demonstration, end to end: recorded on the emulator, replayed and reported; then the same as
# a real Xen 4.17 recorded it.
# Usage: sh traces/demo.sh FOLDER    (evtrace must be on PATH; the traces are left in FOLDER)
set -eu
sources=$(dirname "$0")/sources/pv_fifo_blog
folder=${1:-demo}
mkdir -p "$folder"

run() { printf '\n$ %s\n' "$*"; "$@"; }

run evtrace record --force -o "$folder/trace.bin" --timing demo-2017
run evtrace replay "$folder/trace.bin"
run evtrace report "$folder/trace.bin"
run evtrace report "$folder/trace.bin" --port d0:29 --as interleaving
run evtrace report --force "$folder/trace.bin" -o "$folder/trace.html"

printf '\nThe same on a real Xen 4.17, as xentrace and kernel probes recorded it:\n'
run evtrace import --force -o "$folder/real.bin" --timing emulated-cpu --xen-version 4.17 \
    --xentrace "$sources/xentrace.bin.zst" \
    --ftrace "0=$sources/dom0.ftrace.txt.zst" --ftrace "1=$sources/dom1.ftrace.txt.zst" \
    --debug-keys "$sources/before.debugkeys.txt" --lsevtchn "$sources/before.lsevtchn.txt"
run evtrace replay "$folder/real.bin"
run evtrace report "$folder/real.bin" --port d0:33 --port d1:8
run evtrace report --force "$folder/real.bin" -o "$folder/real.html"
