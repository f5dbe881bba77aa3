# `record --host` in dom0 and `record --guest` in a PV domU that has Python, while both work channels.
. /lab/lib.sh
set -e
form=$(sed -n 's/.*\(xen.fifo_events=0\).*/\1/p' /proc/cmdline)
python_files /tmp/files
DOMU_FILES=/tmp/files DOMU_MEMORY=640 domu_start u1 pv $form
domu_run u1 'export PYTHONPATH=/tree:/deps PATH=/bin:/usr/bin'
domu_run u1 'python3 -m evtrace record --guest -o /tmp/ftrace.txt > /tmp/setup.log 2>&1 & recorder=$!'
exercise self 20 > /out/dom0.quiet.txt
domu_run u1 'until [ "$(cat /sys/kernel/tracing/instances/*/tracing_on 2>&1)" = 1 ]; do kill -0 $recorder || { cat /tmp/setup.log; break; }; sleep 0.2; done; kill -0 $recorder' 120
start_recorder

say "dom0 with itself"
work_dom0
say "with the domU"
ping_pong u1 20
domu_run u1 'exercise self 5 > /tmp/self.txt'

stop_recorder
domu_run u1 'kill $recorder; wait $recorder' 120
domu_run u1 '(cd /sys/kernel/tracing; cat kprobe_events; ls instances) > /tmp/left.txt'
for name in ftrace.txt setup.log self.txt serve.txt left.txt; do domu_get u1 /tmp/$name /out/u1.$name; done
wait $recorder
left > /out/left.txt
