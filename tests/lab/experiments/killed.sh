# Twenty recorders killed at random moments, then one on a disk that fills up.
. /lab/lib.sh
set -e
RANDOM=7

while exercise self 20 > /dev/null; do sleep 0.3; done &
for number in $(seq 20); do
    evtrace record --host --timing emulated-cpu -o /out/killed$number.bin 2> /out/killed$number.log &
    recorder=$!
    if [ $((number % 4)) != 0 ]; then # most of them while they record, the rest at any time
        until recording || ! kill -0 $recorder; do sleep 0.1; done
        sleep $((RANDOM % 2)).$((RANDOM % 10))
    else
        sleep $((RANDOM % 8)).$((RANDOM % 10))
    fi
    kill -KILL $recorder
    wait $recorder || echo "killed $number: status $?"
    left > /out/killed$number.left.txt
    evtrace record --host --clean > /out/killed$number.clean.txt
    left > /out/killed$number.cleaned.txt
done

say "a full disk"
mkdir /tmp/small
mount -t tmpfs -o size=2M tmpfs /tmp/small
evtrace record --host --timing emulated-cpu -o /tmp/small/trace.bin > /out/full.log 2>&1 &&
    status=0 || status=$?
echo $status > /out/full.rc
left > /out/full.left.txt
cp -r /tmp/small /out/full
kill %1
