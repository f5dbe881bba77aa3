# `record --host` in dom0 and its script in a PV and a PVH domU, while all three work channels.
. /lab/lib.sh
set -e
form=$(sed -n 's/.*\(xen.fifo_events=0\).*/\1/p' /proc/cmdline)
mkdir /tmp/files
evtrace record --host --check
evtrace record --script --running -o /tmp/files/setup.sh
cp /tmp/files/setup.sh /out

DOMU_FILES=/tmp/files domu_start u1 pv $form
DOMU_FILES=/tmp/files domu_start u2 pvh $form
for name in u1 u2; do
    domu_run $name 'sh /setup.sh > /tmp/ftrace.txt 2> /tmp/setup.log & recorder=$!'
    domu_run $name 'until grep -q recording /tmp/setup.log; do sleep 0.2; done'
done
exercise self 20 > /out/dom0.quiet.txt
start_recorder

say "dom0 with itself"
work_dom0
say "with domUs"
for name in u1 u2; do
    ping_pong $name 20
    domu_run $name 'exercise self 5 > /tmp/self.txt'
done

stop_recorder
for name in u1 u2; do
    domu_run $name 'kill $recorder; wait $recorder' 120
    domu_get $name /tmp/ftrace.txt /out/$name.ftrace.txt
    domu_get $name /tmp/setup.log /out/$name.setup.log
    domu_get $name /tmp/self.txt /out/$name.self.txt
    domu_get $name /tmp/serve.txt /out/$name.serve.txt
done
wait $recorder
left > /out/left.txt
