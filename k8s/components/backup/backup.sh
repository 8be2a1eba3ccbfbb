#!/bin/sh
# Takes one backup from the running service; once it is whole, removes those that are older than KEEP_DAYS days.
# The CA and the token are read from EPISTREAM_TLS_CA_FILE and EPISTREAM_TOKEN_FILE.
set -eu
target="$FOLDER/epistream-$(date -u +%Y%m%dT%H%M%SZ).backup"
epistream backup --address "$ADDRESS" --output "$target"
find "$FOLDER" -maxdepth 1 -type f -name 'epistream-*.backup' -mtime "+$KEEP_DAYS" -print -delete
