#!/usr/bin/env bash
# Every process says OK, and the master sees its nodes.
# Use: [MASTER=url] [NODE1=url] [NODE2=url] test_health.sh
. "$(dirname "$0")/common.sh"

echo "Health"
for server in "$MASTER" "$NODE1" "$NODE2"; do
    ask "$server/health" 200 "$server/health"
    equal "$server/health" "$(cat "$BODY")" "OK"
done

ask "the master's view" 200 --header 'Accept: application/json' "$MASTER/health"
contains "the master's view" '"status":"ok"' '"nodes":' '"healthy"'
for node in "$NODE1" "$NODE2"; do
    ask "the view of $node" 200 --header 'Accept: application/json' "$node/health"
    contains "the view of $node" '"status":"ok"' '"node_id":' '"free_bytes":'
done
echo "Health: passed"
