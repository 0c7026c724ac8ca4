#!/bin/sh
# Replaces this process by the interpreter, which becomes process 1; -I and / keep it from importing foreign modules.
cd / && exec /opt/moltis-supervisor/bin/python -I -m supervisor run -- "$@"
