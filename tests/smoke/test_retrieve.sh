#!/usr/bin/env bash
# Both nodes serve a blob, whole and in parts, and nothing that is no blob.
# Use: [NODE1=url] [NODE2=url] test_retrieve.sh <hash>
. "$(dirname "$0")/common.sh"

[ $# -eq 1 ] || fail "use: $0 <hash>"

echo "Retrieve"
for node in "$NODE1" "$NODE2"; do
    retrieve_from "$node" "$1"
    first=$(head -c 4 "$BODY" | od -An -tx1)
    ask "the first bytes from $node" 206 --range 0-3 "$node/retrieve?hash=$1"
    equal "the first bytes from $node" "$(od -An -tx1 <"$BODY")" "$first"
    ask "a known ETag at $node" 304 --header "If-None-Match: \"$1\"" "$node/retrieve?hash=$1"
    passed "a known ETag at $node"

    ask "an unknown hash at $node" 404 "$node/retrieve?hash=00000000000000000000000000000000"
    contains "an unknown hash at $node" '"code":"unknown_hash"'
    for bad in '' 'test123' '../../etc/hostname' '%2e%2e%2f%2e%2e%2fetc%2fhostname'; do
        ask "the hash '$bad' at $node" 400 "$node/retrieve?hash=$bad"
        contains "the hash '$bad' at $node" '"code":"bad_hash"'
    done
done
echo "Retrieve: passed"
