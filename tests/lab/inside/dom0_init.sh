#!/bin/bash
# dom0's init: what xl and xentrace need, then the experiment, then power off.
# Disks: /deps (Python packages) and /lab (the project, the experiment) to read, /out to write.
export PATH=/usr/lib/xen-4.17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8 TERM=dumb
for dir in /run /tmp /dev/shm; do mkdir -p $dir; mount -t tmpfs tmpfs $dir; done
mkdir -p /dev/pts /run/lock /run/xen /var/lib/xenstored /var/log/xen/console /var/run/xenstored
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
for module in xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc; do modprobe $module; done
mkdir -p /proc/xen
mount -t xenfs xenfs /proc/xen
busybox hostname dom0
busybox ip link set lo up
xenstored --pid-file=/run/xenstored.pid
xen-init-dom0
xenconsoled --log=all --timestamp=none --pid-file=/run/xenconsoled.pid
cat > /usr/local/bin/evtrace <<'WRAPPER'
#!/bin/sh
PYTHONFAULTHANDLER=1 PYTHONPATH=/lab/tree:/deps exec python3 -m evtrace "$@"
WRAPPER
cp /lab/exercise /usr/local/bin/exercise
chmod 755 /usr/local/bin/evtrace /usr/local/bin/exercise
echo "LAB: dom0 ready after $(cut -d' ' -f1 /proc/uptime) s"
while sleep 5; do sync -f /out; done &
cd /out || exit
# The second serial line is the lab's window: what the experiment prints is seen as it happens.
bash /lab/run.sh > >(tee /out/run.log > /dev/ttyS1) 2>&1
echo $? > /out/run.rc
dmesg > /out/dom0.dmesg.txt
xl dmesg > /out/xl.dmesg.txt 2>&1
cp -r /var/log/xen /out/log.xen 2> /dev/null
cd /
sync
mount -o remount,ro /out
echo "LAB: done"
busybox poweroff -f
