#!/usr/bin/env bash
# A file goes up, is named by its MD5, has replicas, and the master knows of it.
# Use: [MASTER=url] [NODE1=url] test_upload.sh; the last line names the hash for test_retrieve.sh.
. "$(dirname "$0")/common.sh"

echo "Upload"
upload_new "$NODE1"

ask "the master's record" 200 "$MASTER/get?hash=$HASH"
contains "the master's record" "\"hash\":\"$HASH\"" '"verified":true' '"replicas":["'

ask "upload without a file" 400 --form 'other=value' "$NODE1/upload"
contains "upload without a file" '"success":false' '"code":"missing_file"'

head -c 11534336 /dev/zero >"$WORK/large.bin"
ask "upload of 11 MB" 413 --form "file=@$WORK/large.bin" "$NODE1/upload"
contains "upload of 11 MB" '"success":false' '"code":"too_large"'
echo "Upload: passed"
echo "$HASH"
