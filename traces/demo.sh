#!/bin/sh
# The demonstration, end to end: import, replay and report a capture of a real Xen 4.17.
# Usage: sh traces/demo.sh FOLDER    (evtrace must be on PATH; the trace is left in FOLDER)
set -eu
sources=$(dirname "$0")/sources/pv_fifo_blog
folder=${1:-demo}
mkdir -p "$folder"

run() { printf '\n$ %s\n' "$*"; "$@"; }

run evtrace import --force -o "$folder/trace.bin" --timing emulated-cpu --xen-version 4.17 \
    --xentrace "$sources/xentrace.bin.zst" \
    --ftrace "0=$sources/dom0.ftrace.txt.zst" --ftrace "1=$sources/dom1.ftrace.txt.zst" \
    --debug-keys "$sources/before.debugkeys.txt" --lsevtchn "$sources/before.lsevtchn.txt"
run evtrace replay "$folder/trace.bin"
run evtrace report "$folder/trace.bin" --port d0:33 --port d1:8
