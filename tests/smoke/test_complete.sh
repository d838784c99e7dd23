#!/usr/bin/env bash
# Everything: health, master, uploads to either node read from the other, and image generation.
# Use: [MASTER=url] [NODE1=url] [NODE2=url] test_complete.sh
. "$(dirname "$0")/common.sh"
export MASTER NODE1 NODE2
here=$(dirname "$0")

"$here/test_health.sh" || fail "health"
"$here/test_master.sh" || fail "master"
"$here/test_upload.sh" | tee "$WORK/upload" || true
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "upload"
"$here/test_retrieve.sh" "$(tail -n 1 "$WORK/upload")" || fail "retrieve"

echo "From node to node"
upload_new "$NODE1"
retrieve_from "$NODE2" "$HASH"
upload_new "$NODE2"
retrieve_from "$NODE1" "$HASH"
ask "the upload is listed" 200 "$MASTER/list"
contains "the upload is listed" "\"$HASH\""

echo "Image generation"
# A provider takes minutes where the placeholder takes none.
SECONDS_TO_WAIT=330
base64 -d >"$WORK/red.png" <<<'iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAAA1BMVEXIUCi3yA+MAAAAD0lEQVR42mNgGAWjgHwAAAJAAAHgTR1EAAAAAElFTkSuQmCC'
base64 -d >"$WORK/blue.png" <<<'iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAAA1BMVEUoUMi+ID1UAAAAD0lEQVR42mNgGAWjgHwAAAJAAAHgTR1EAAAAAElFTkSuQmCC'

# generate WHAT CURL-ARGUMENTS...: generate an image and fetch it from both nodes.
generate() {
    local what=$1 image
    shift
    ask "$what" 200 --form "prompt=a lighthouse at dusk, $what" "$@" "$MASTER/seedream/generate"
    contains "$what" '"job_id":' '"status":' '"provider":' '"images":'
    image=$(field hash)
    [ -n "$image" ] || fail "$what: no image in the answer: $(head -c 500 "$BODY")"
    retrieve_from "$NODE1" "$image"
    retrieve_from "$NODE2" "$image"
}
generate "without a reference"
generate "with one reference" --form "image1=@$WORK/red.png;type=image/png"
generate "with two references" --form "image1=@$WORK/red.png;type=image/png" \
    --form "image2=@$WORK/blue.png;type=image/png"
ask "generation without a prompt" 400 --form "image1=@$WORK/red.png" "$MASTER/seedream/generate"
contains "generation without a prompt" '"detail":'
echo "Everything passed"
