#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A runtime that is not one: it writes down its arguments, then does what FAKE says.
[ -n "$FAKE_DIR" ] && printf '%s\n' "$@" >"$FAKE_DIR/args"
case $FAKE in
say) # FAKE_OUT, FAKE_ERR and FAKE_LOG where they belong, FAKE_STATUS
    [ -n "$FAKE_OUT" ] && printf '%s' "$FAKE_OUT"
    [ -n "$FAKE_ERR" ] && printf '%s' "$FAKE_ERR" >&2
    [ -n "$FAKE_LOG" ] && printf '%s\n' "$FAKE_LOG" >>"$FAKE_DIR/log"
    exit "${FAKE_STATUS:-0}"
    ;;
hang) exec sleep 1000 ;;
events) printf '%s\n' "$FAKE_OUT"; exec sleep 1000 ;;
flood) exec yes 0123456789012345678901234567890123456789 ;;
flood-err) exec yes 0123456789012345678901234567890123456789 >&2 ;;
signal) kill -KILL $$ ;;
grandchild) sleep 1000 & echo $! >"$FAKE_DIR/grandchild"; echo '[]' ;;
group) sleep 1000 & echo $! >"$FAKE_DIR/grandchild"; wait ;;
stdin) cat >"$FAKE_DIR/stdin" ;;
copy) cat; echo err >&2 ;;
process) shift 0; while [ "$1" != --process ]; do shift; done; cat "$2" >"$FAKE_DIR/process"; echo "$2" >"$FAKE_DIR/process-path" ;;
fds) ls /proc/self/fd | tr '\n' ' ' >"$FAKE_DIR/fds"; cat <&3 >"$FAKE_DIR/extra" ;;
env) env >"$FAKE_DIR/env"; pwd >"$FAKE_DIR/pwd" ;;
esac
