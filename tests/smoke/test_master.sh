#!/usr/bin/env bash
# The master records a file, finds it again, lists it, and says what is wrong with a bad request.
# Use: [MASTER=url] test_master.sh
. "$(dirname "$0")/common.sh"

echo "Master"
record='{"hash": "test123", "name": "test.txt", "size": 1024, "replicas": ["8001", "8002"]}'
ask "register" 200 --header 'Content-Type: application/json' --data "$record" "$MASTER/register"
contains "register" '"message":"File registered"' '"hash":"test123"'

ask "get" 200 "$MASTER/get?hash=test123"
contains "get" '"hash":"test123"' '"name":"test.txt"' '"size":1024' '"replicas":["8001","8002"]'

ask "list" 200 "$MASTER/list"
contains "list" '"test123"' '"test.txt"'
equal "list is an array" "$(head -c 1 "$BODY")$(tail -c 1 "$BODY")" "[]"

ask "get without a hash" 400 "$MASTER/get"
contains "get without a hash" '"detail":' '"code":"missing_hash"'
ask "get of an unknown hash" 404 "$MASTER/get?hash=00000000000000000000000000000000"
contains "get of an unknown hash" '"code":"unknown_hash"'
ask "register without a name" 400 --header 'Content-Type: application/json' \
    --data '{"hash": "test123", "size": 1}' "$MASTER/register"
contains "register without a name" '"detail":' '"errors":'
ask "register by GET" 405 "$MASTER/register"
contains "register by GET" '"code":"method_not_allowed"'
echo "Master: passed"
