#!/bin/sh
# Nothing but the interpreter in this process's place: it is process 1, and no one's folder is searched for modules.
cd / && exec /opt/moltis-supervisor/bin/python -I -m supervisor run -- "$@"
