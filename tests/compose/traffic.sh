# shellcheck shell=sh
# Reads what `docker compose logs` prints of the service `traffic`; run.sh sources it.
#
# Compose 2.25 and 2.26 begin each line with an escape sequence, ESC [2K, also where they write to no terminal
# (docker/compose issue 11727); Compose before 2.6 begins it with a space. What Compose adds is removed here.

# The complete lines, without what Compose adds. stdin: `docker compose logs --no-log-prefix`.
traffic_lines() {
    tr -d '\r' | sed "s/$(printf '\033')\[[0-9;?]*[A-Za-z]//g; s/^ *//" | grep '^blue'
}
# The number after a word in the last line. stdin: lines. usage: traffic_count failed|refused|of
traffic_count() {
    tail -n 1 | tr -d ':,' | awk -v what="$1" '{ for (i = 1; i < NF; i++) if ($i == what) print $(i + 1) }'
}
# Whether green has this share of three lines, give or take 2 points. stdin: lines. usage: traffic_share_is PERCENT
traffic_share_is() {
    awk -v percent="$1" '
        { blue += $2; green += $4 }
        END {
            if (blue + green == 0) exit 1
            off = 100 * green / (blue + green) - percent
            exit !(NR == 3 && off * off <= 4)
        }'
}
