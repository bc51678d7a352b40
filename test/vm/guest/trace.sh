# shellcheck shell=bash
# The kernel's tracepoints. Their clock counts events, so that the order of two lines is the order of what they tell.

TRACING=/sys/kernel/tracing

# trace_on EVENT…: begins with an empty trace. EVENT is GROUP/NAME.
trace_on() {
    local event
    mountpoint -q "$TRACING" || mount -t tracefs tracefs "$TRACING"
    echo 0 >"$TRACING/tracing_on"
    echo >"$TRACING/set_event"
    echo counter >"$TRACING/trace_clock"
    echo 16384 >"$TRACING/buffer_size_kb"
    : >"$TRACING/trace"
    for event in "$@"; do echo 1 >"$TRACING/events/$event/enable"; done
    echo 1 >"$TRACING/tracing_on"
}

trace_off() {
    echo 0 >"$TRACING/tracing_on"
    echo >"$TRACING/set_event"
}

trace_says() { grep -qE "$1" "$TRACING/trace"; }
