#!/bin/sh
# Sends HAProxy 20 requests per second, on one connection per second, and prints every second which side answered.
#
# A request without a connection counts as "refused": that is unavoidable while HAProxy restarts. Every other request
# without a correct answer of an application counts as "failed". Both count since the start.
# usage: traffic.sh URL
set -eu

while :; do
    # A line is the body and curl's exit code: "blue 0" is an answer of blue, another exit code is an error.
    curl --silent --fail --max-time 5 --rate 20/s --write-out ' %{exitcode}\n' "$1/?[1-20]" || true
done | awk '
    $NF == 0 && NF == 2 { answers[$1]++ }
    # 6: the name is unknown while its container is stopped. 7: the connection is refused.
    $NF == 6 || $NF == 7 { refused++ }
    !($NF == 0 && NF == 2) && $NF != 6 && $NF != 7 { failed++ }
    NR % 20 == 0 {
        printf "blue %2d  green %2d  |  of %d: failed %d, refused %d\n",
            answers["blue"], answers["green"], NR, failed, refused
        fflush()
        delete answers
    }'
