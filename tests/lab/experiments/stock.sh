# xentrace alone: dom0 with itself, then with a PV domU.
. /lab/lib.sh
set -e
domu_start u1 pv
snapshot before
xentrace -D -e all -S 256 -T 8 /out/xentrace.bin &
sleep 1
exercise self 20 > /out/dom0.self.txt
ping_pong u1 10
wait %1
domu_get u1 /tmp/serve.txt /out/u1.serve.txt
