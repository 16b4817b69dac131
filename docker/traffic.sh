#!/bin/sh
# Asks HAProxy 20 times a second, on one connection for a second each, and says every second who answered.
#
# A request that found no HAProxy to connect to counts as "refused": no other answer is possible while one restarts.
# Anything else that is not a good answer from an application is "failed". Both are counted since the start.
# usage: traffic.sh URL
set -eu

while :; do
    # With a body that names the application a line is "blue 0"; what went wrong is curl's exit code.
    curl --silent --fail --max-time 5 --rate 20/s --write-out ' %{exitcode}\n' "$1/?[1-20]" || true
done | awk '
    $NF == 0 && NF == 2 { answers[$1]++ }
    # 6: the name is unknown while its container is away. 7: nobody listens.
    $NF == 6 || $NF == 7 { refused++ }
    !($NF == 0 && NF == 2) && $NF != 6 && $NF != 7 { failed++ }
    NR % 20 == 0 {
        printf "blue %2d  green %2d  |  of %d: failed %d, refused %d\n",
            answers["blue"], answers["green"], NR, failed, refused
        fflush()
        delete answers
    }'
