# xentrace alone: dom0 with itself, then with a PV domU.
. /lab/lib.sh
set -e
domu_start u1 pv
snapshot before
xentrace -D -e all -S 256 /out/xentrace.bin &
recorder=$!
sleep 1
exercise self 20 > /out/dom0.self.txt
ping_pong u1 10
sleep 1
kill -TERM $recorder
wait $recorder || true
domu_get u1 /tmp/serve.txt /out/u1.serve.txt
