# The running Xen against the model: alone, beside others that open and close ports, interrupted.
. /lab/lib.sh
set -e
snapshot before

say "alone"
evtrace conform --live --operations 12000 --format json > /out/alone.json

say "beside others"
(while :; do exercise churn 20 > /dev/null; done) & others=$!
evtrace conform --live --operations 6000 --seed 1000 --format json > /out/busy.json
kill $others
wait $others || true

say "looked at meanwhile, then interrupted"
evtrace conform --live --operations 1000000 --format json > /out/interrupted.json & live=$!
sleep 6
for n in 1 2 3 4; do snapshot "meanwhile$n"; done
kill -TERM $live
code=0
wait $live || code=$?
echo $code > /out/interrupted.code

snapshot after
