# What the smoke tests share: where the cluster is, one way to ask it, and one way to fail.
# Needs bash and curl.

set -u

MASTER=${MASTER:-http://localhost:9000}
NODE1=${NODE1:-http://localhost:8001}
NODE2=${NODE2:-http://localhost:8002}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
BODY="$WORK/body"
SECONDS_TO_WAIT=30

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

passed() {
    echo "  ok: $*"
}

# ask WHAT STATUS CURL-ARGUMENTS...: send a request; its answer is in $BODY when the status is right.
ask() {
    local what=$1 wanted=$2 status
    shift 2
    : >"$BODY"
    status=$(curl --silent --show-error --noproxy '*' --max-time "$SECONDS_TO_WAIT" \
        --output "$BODY" --write-out '%{http_code}' "$@") || fail "$what: no answer (curl $*)"
    [ "$status" = "$wanted" ] || fail "$what: status $status instead of $wanted: $(head -c 500 "$BODY")"
}

# contains WHAT JSON...: every piece of JSON is in the last answer, with or without spaces.
contains() {
    local what=$1 text
    shift
    for text in "$@"; do
        sed -e 's/": /":/g' -e 's/, /,/g' "$BODY" | grep --quiet --fixed-strings -- "$text" ||
            fail "$what: the answer has no '$text': $(head -c 500 "$BODY")"
    done
    passed "$what"
}

# field NAME: the first value of that name in the last answer, a text or a number.
field() {
    grep --only-matching --extended-regexp "\"$1\": ?(\"[^\"]*\"|[0-9]+)" "$BODY" |
        head -n 1 | sed -e 's/^[^:]*: *//' -e 's/"//g'
}

# equal WHAT FOUND WANTED
equal() {
    [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
    passed "$1"
}

# md5_of FILE: its MD5, with what Linux or macOS has for it.
md5_of() {
    if command -v md5sum >/dev/null; then md5sum <"$1" | cut -d ' ' -f 1; else md5 -q "$1"; fi
}

# upload_new NODE-URL: upload a file that nobody has yet; sets $HASH.
upload_new() {
    local node=$1 file="$WORK/smoke test $RANDOM.txt"
    echo "Mini-Dropbox smoke test $RANDOM $RANDOM $RANDOM $(date)" >"$file"
    ask "upload to $node" 200 --form "file=@$file" "$node/upload"
    contains "upload to $node" '"success":true' '"message":"File Upload Successful"' '"registered":true'
    HASH=$(field hash)
    equal "the answer's hash is the file's MD5" "$HASH" "$(md5_of "$file")"
    equal "the answer's size is the file's" "$(field size)" "$(wc -c <"$file" | tr -d ' ')"
}

# retrieve_from NODE-URL HASH: fetch a blob and compare its MD5 with its address.
retrieve_from() {
    ask "retrieve $2 from $1" 200 "$1/retrieve?hash=$2"
    equal "$1 serves $2 whole" "$(md5_of "$BODY")" "$2"
}
