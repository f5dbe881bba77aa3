#!/bin/sh
# dom0's root from Debian's packages: base.sh TREE DOWNLOADS MIRROR. Needs root, debootstrap, the network.
set -eu
PATH=$PATH:/usr/sbin:/sbin
tree=$1 downloads=$2 mirror=$3
suite=bookworm
xen=4.17
first=bash,busybox-static,ca-certificates,kmod,procps,python3
tools="xen-utils-$xen xen-utils-common xenstore-utils"
archives=$tree/var/cache/apt/archives

in_tree() {
    env LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$tree" "$@"
}

mkdir -p "$downloads"
debootstrap --variant=minbase --cache-dir="$downloads" --include="$first" \
    "$suite" "$tree" "$mirror/debian"

# Xen's tools at the hypervisor's own version: both come from the security archive.
cat > "$tree/etc/apt/sources.list" <<SOURCES
deb $mirror/debian $suite main
deb $mirror/debian-security $suite-security main
SOURCES
cp /etc/resolv.conf "$tree/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d" # start nothing
chmod 755 "$tree/usr/sbin/policy-rc.d"
in_tree apt-get -q update
cp -n "$downloads"/*.deb "$archives"
in_tree apt-get -q -y upgrade
# shellcheck disable=SC2086 # several words
in_tree apt-get -q -y install --no-install-recommends $tools

# Xen and Linux are unpacked, not installed: no RAM disk, no boot loader.
linux=$(in_tree apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" {print $2; exit}')
in_tree sh -c "cd /var/cache/apt/archives && apt-get -q download xen-hypervisor-$xen-amd64 $linux"
cp -n "$archives"/*.deb "$downloads"
for package in "xen-hypervisor-$xen-amd64" "$linux"; do
    newest=$(ls -t "$archives/$package"_*.deb | head -n 1)
    # /lib is a link in the tree and a folder in the package
    dpkg-deb --fsys-tarfile "$newest" | tar -x --keep-directory-symlink -C "$tree"
done
in_tree depmod "${linux#linux-image-}"

cd "$tree"
rm -rf var/cache/apt var/lib/apt/lists/* usr/share/doc usr/share/man usr/share/locale usr/share/i18n
