#!/bin/sh
# A domU's only process: it runs the commands that dom0 types on its console, one line each:
#   NUMBER COMMAND...     answered by  LAB-DONE NUMBER STATUS
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /tmp
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
while read -r module; do insmod "/modules/$module"; done < /modules/order
mkdir -p /dev/xen
[ -c /dev/xen/evtchn ] || mknod /dev/xen/evtchn c 10 "$(awk '$2 == "xen/evtchn" {print $1}' /proc/misc)"
echo 1 > /proc/sys/kernel/printk
stty -echo icanon icrnl < /dev/hvc0
# send FILE NUMBER: the file, compressed, as lines that no kernel message looks like
send() { echo "LAB-FILE $2"; gzip -c "$1" | base64; echo "LAB-END $2"; }
echo "LAB-UP $(uname -r)"
while read -r number command < /dev/hvc0; do
    [ -n "$command" ] || continue
    eval "$command"
    echo "LAB-DONE $number $?"
done
