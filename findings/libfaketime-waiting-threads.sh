#!/usr/bin/env bash
# libfaketime 0.9.10 with FAKETIME_DONT_FAKE_MONOTONIC=1: threads of a Python program that wait for each other use a
# processor each. CPython waits for its lock with pthread_cond_timedwait() and 5 ms on the monotonic clock; under
# libfaketime such a wait ends at once, so it is called again and again. Results are still correct, so the only symptom
# is a program that is slow and busy while its clock is changed. FAKETIME_FORCE_MONOTONIC_FIX=0 makes waits last again,
# although the manual mentions that variable for old versions of glibc only.
#
# Seen 2026-11-29 on Linux amd64, Python 3.11, glibc 2.36, with Debian 12's package 0.9.10-2.1, on a machine that was
# busy with other work; processor time of two counting threads, as a multiple of that without libfaketime:
#   as it is: 42.4 times, with FAKETIME_FORCE_MONOTONIC_FIX=0: 0.9 times
# (20.8 to 62.8 times in three runs)
#
# Needs Debian 12 (apt-get download) and Python. Fails if this changes.
set -euo pipefail
VERSION=0.9.10-2.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

(cd "$folder" && apt-get download "libfaketime=$VERSION" >/dev/null && dpkg-deb -x libfaketime_*.deb root)
library=$(echo "$folder"/root/usr/lib/*/faketime/libfaketime.so.1)
cat >"$folder/count.py" <<'END'
import threading, time
def count():
    for _ in range(3_000_000):
        pass
threads = [threading.Thread(target=count) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(time.process_time())
END
off=(LD_PRELOAD="$library" FAKETIME=+1y FAKETIME_DONT_FAKE_MONOTONIC=1)
without=$(python3 "$folder/count.py")
as_it_is=$(env "${off[@]}" timeout 120 python3 "$folder/count.py")
fixed=$(env "${off[@]}" FAKETIME_FORCE_MONOTONIC_FIX=0 timeout 120 python3 "$folder/count.py")
python3 - "$without" "$as_it_is" "$fixed" <<'END'
import sys
without, as_it_is, fixed = map(float, sys.argv[1:])
print(f"as it is: {as_it_is / without:.1f} times, with FAKETIME_FORCE_MONOTONIC_FIX=0: {fixed / without:.1f} times")
sys.exit(0 if as_it_is > 6 * without and fixed < 3 * without else "this has changed")
END
