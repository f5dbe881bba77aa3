#!/bin/busybox sh
# dom0's first process: load what the disks need, mount the root, hand over to the lab's init.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module" || $b echo "LAB: insmod $module failed"; done < /modules/order
tries=0
until [ -b /dev/vdd ] || [ $tries -ge 100 ]; do $b sleep 0.1; tries=$((tries + 1)); done
if ! $b mount -t ext4 /dev/vda /root; then
    $b echo "LAB: the root disk did not mount"
    $b dmesg | $b tail -n 20
    $b poweroff -f
fi
$b mkdir -p /root/lab /root/deps /root/out
$b mount -t ext4 -o ro /dev/vdb /root/deps
$b mount -t ext4 -o ro /dev/vdc /root/lab
$b mount -t ext4 /dev/vdd /root/out
for dir in dev proc sys; do $b mount --move /$dir /root/$dir; done
exec $b switch_root /root /bin/bash /lab/dom0_init.sh
