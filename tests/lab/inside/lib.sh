# For experiments in dom0: `. /lab/lib.sh`. Bash.
domu_number=0
declare -A domu_id domu_tty # by name: xl and xenstore-read take long to start

say() { echo "[$(cut -d' ' -f1 /proc/uptime)] $*"; }

# domu_start NAME [pv|pvh] [LINUX ARGUMENTS...]: returns when the domU takes commands.
# DOMU_FILES=DIR adds its files to the domU's root; DOMU_VCPUS, DOMU_MEMORY (MB), DOMU_XL (lines for xl).
domu_start() {
    local name=$1 type=${2:-pv}
    shift; shift
    zcat /lab/domu.gz > "/tmp/$name.cpio" # Xen unpacks the first part alone of what is compressed
    if [ -n "${DOMU_FILES:-}" ]; then
        (cd "$DOMU_FILES" && find . | busybox cpio -o -H newc 2> /dev/null) >> "/tmp/$name.cpio"
    fi
    cat > "/tmp/$name.cfg" <<CONFIG
name = "$name"
type = "$type"
kernel = "/lab/vmlinuz"
ramdisk = "/tmp/$name.cpio"
extra = "console=hvc0 quiet apparmor=0 mitigations=off $*"
memory = ${DOMU_MEMORY:-256}
vcpus = ${DOMU_VCPUS:-1}
tsc_mode = "native"
on_crash = "preserve"
${DOMU_XL:-}
CONFIG
    xl create "/tmp/$name.cfg" > "/out/$name.create.log" 2>&1 || { cat "/out/$name.create.log"; return 1; }
    domu_id[$name]=$(xl domid "$name")
    domu_wait "$name" '^LAB-UP' 120 || return 1
    domu_tty[$name]=$(xenstore-read "/local/domain/${domu_id[$name]}/console/tty")
    say "domU $name is domain ${domu_id[$name]} ($type)"
}

domu_log() { echo "/var/log/xen/console/guest-$1.log"; }

# domu_wait NAME PATTERN [SECONDS]: until the domU's console shows the pattern
domu_wait() {
    local tries=$((${3:-60} * 5))
    until grep -q -- "$2" "$(domu_log "$1")" 2> /dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { say "domU $1: no '$2' on its console"; tail -n 20 "$(domu_log "$1")"; return 1; }
        sleep 0.2
    done
}

# domu_send NAME COMMAND: starts it and returns; domu_number names it
domu_send() {
    domu_number=$((domu_number + 1))
    echo "$domu_number $2" > "${domu_tty[$1]}"
}

# domu_finish NAME NUMBER [SECONDS]: waits for that command, returns its status
domu_finish() {
    domu_wait "$1" "^LAB-DONE $2 " "${3:-60}" || return 1
    return "$(sed -n "s/^LAB-DONE $2 \([0-9]*\).*/\1/p" "$(domu_log "$1")" | head -n 1)"
}

# domu_run NAME COMMAND [SECONDS]: runs it to its end, returns its status; its output is in the console's log
domu_run() { domu_send "$1" "$2"; domu_finish "$1" "$domu_number" "${3:-60}"; }

# domu_get NAME FILE TO [SECONDS]: brings a file out of the domU
domu_get() {
    domu_number=$((domu_number + 1))
    local number=$domu_number
    echo "$number send $2 $number" > "${domu_tty[$1]}"
    domu_finish "$1" "$number" "${4:-120}" || return 1
    tr -d '\r' < "$(domu_log "$1")" | sed -n "/^LAB-FILE $number\$/,/^LAB-END $number\$/p" |
        grep -E '^[A-Za-z0-9+/]+=*$' | base64 -d | gunzip > "$3"
}

# ping_pong NAME ROUNDS: the domU serves, dom0 calls; their steps go to /tmp/serve.txt there and to
# /out/NAME.call.txt here
ping_pong() {
    local number port
    domu_send "$1" "exercise serve 0 $2 > /tmp/serve.txt"
    number=$domu_number
    domu_wait "$1" '^PORT' || return 1
    port=$(sed -n 's/^PORT \([0-9]*\).*/\1/p' "$(domu_log "$1")" | tail -n 1)
    exercise call "${domu_id[$1]}" "$port" "$2" > "/out/$1.call.txt" || return 1
    domu_finish "$1" "$number"
}

# python_files DIR: Python, this checkout and the packages that recording needs, for DOMU_FILES
python_files() {
    local package
    mkdir -p "$1/deps" "$1/usr/bin" "$1/usr/lib"
    cp /usr/bin/python3.11 "$1/usr/bin/python3"
    cp -r /usr/lib/python3.11 "$1/usr/lib"
    for package in /deps/*; do
        case ${package##*/} in
            *polars* | *plotly* | *.dist-info) ;;
            *) cp -r "$package" "$1/deps" ;;
        esac
    done
    cp -r /lab/tree "$1/tree"
    rm -rf "$1/tree/traces" "$1/tree/tests"
    find "$1/usr/bin" "$1/usr/lib" "$1/deps" -name '*.so' -o -name python3 | xargs ldd 2> /dev/null |
        sed -n 's/.*\s\(\/\S*\) (.*/\1/p' | sort -u | xargs cp -L --parents -t "$1"
}

# work_dom0: dom0 works channels with itself; steps go to /out/dom0.NAME.txt
work_dom0() {
    exercise self 20 > /out/dom0.self.txt
    exercise churn 20 > /out/dom0.churn.txt
    exercise wrong > /out/dom0.wrong.txt
    exercise storm 1000 > /out/dom0.storm.txt
}

# start_recorder: `record --host` in the background, as $recorder; returns when it records
start_recorder() {
    evtrace record --host --keep --timing emulated-cpu -o /out/trace.bin &
    recorder=$!
    until recording; do
        sleep 0.2
        kill -0 $recorder
    done
    sleep 1
}

# stop_recorder: has it stop; its trace is there when `wait $recorder` returns
stop_recorder() {
    sleep 1
    kill -TERM $recorder
    while recording; do sleep 0.2; done
}

domu_stop() { xl destroy "$1"; }

# recording: whether a recorder is at work in dom0
recording() { [ "$(cat /sys/kernel/tracing/instances/*/tracing_on 2> /dev/null)" = 1 ]; }

# left: what recorders have in dom0's kernel and beside it; nothing where none is
left() {
    cat /sys/kernel/tracing/kprobe_events
    ls /sys/kernel/tracing/instances
    pgrep -a xentrace || true
}

# snapshot NAME: all channels, as lsevtchn and debug key e show them, into /out
snapshot() {
    local domain
    for domain in $(xl list | awk 'NR > 1 {print $2}'); do
        echo "# lsevtchn $domain"
        lsevtchn "$domain"
    done > "/out/$1.lsevtchn.txt" 2>&1
    xl dmesg -c > /dev/null
    xl debug-keys e
    sleep 0.3
    xl dmesg -c > "/out/$1.debugkeys.txt"
}
