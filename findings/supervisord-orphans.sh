#!/usr/bin/env bash
# supervisord 4.3.0 as process 1 of a container also reaps processes that are not its own, but at most a hundred per
# turn of its loop, which takes a second if nothing else happens. 600 orphans that exit at once stay zombies for about
# six seconds, 5,000 for most of a minute, and each counts against the container's process limit. A container with a low
# limit (`--pids-limit`) cannot start another process meanwhile.
#
# Seen 2026-11-29 on Linux amd64, Python 3.11, installed with pip:
#   500 zombies when they ended, 0 after 5.0 s
#
# Needs root, for a process 1, and Python with venv. Fails if this changes.
set -euo pipefail
VERSION=4.3.0
folder=$(mktemp -d)
process=
# unshare ignores TERM; killing it ends everything in its namespace.
trap '[ -z "$process" ] || kill -KILL "$process"; rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check --quiet install "supervisor==$VERSION" 'setuptools<81'
# 600 orphans that all wait until the other end of one pipe is closed.
cat >"$folder/orphans.py" <<'END'
import os, sys, time
ours, theirs = os.pipe()
if os.fork() == 0:
    for _ in range(600):
        if os.fork() == 0:
            os.close(theirs)
            os.read(ours, 1)
            os._exit(0)
    os._exit(0)
os.wait()
open(sys.argv[1], "w").close()
time.sleep(1)
os.close(theirs)
time.sleep(600)
END
cat >"$folder/supervisord.conf" <<END
[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=$folder/pid
[program:orphans]
command=python3 $folder/orphans.py $folder/made
startsecs=0
END

unshare --pid --fork --mount-proc --kill-child "$folder/venv/bin/supervisord" -c "$folder/supervisord.conf" >"$folder/log" 2>&1 &
process=$!
disown
for _ in $(seq 600); do if [ -e "$folder/made" ]; then break; fi; sleep 0.1; done
first=$(pgrep -P "$process")
zombies() { ps --ppid "$first" -o stat= | grep -c '^Z' || :; }

most=0
for _ in $(seq 200); do
  now=$(zombies)
  if [ "$now" -gt "$most" ]; then most=$now begin=$(date +%s%N); fi
  if [ "$most" -gt 0 ] && [ "$now" -eq 0 ]; then break; fi
  sleep 0.1
done
lasted=$((($(date +%s%N) - begin) / 100000000))
echo "$most zombies when they ended, $now after ${lasted%?}.${lasted: -1} s"
grep -q 'reaped unknown pid' "$folder/log" || { echo "changed: it reaps none" >&2; exit 1; }
[ "$now" -eq 0 ] || { echo "changed: some are left after 20 s" >&2; exit 1; }
[ "$most" -gt 300 ] && [ "$lasted" -gt 20 ] || { echo "changed: they are gone at once" >&2; exit 1; }
echo "as it was"
