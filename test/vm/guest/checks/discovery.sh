# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# The discovery service as nvme-cli and the kernel use it.

ONE=nqn.2026-01.io.example:one
TWO=nqn.2026-01.io.example:two
HIDDEN=nqn.2026-01.io.example:hidden
DISCOVERY=nqn.2014-08.org.nvmexpress.discovery

suite_setup() {
    device disk0 memory 16 512
    subsystem "$ONE"
    subsystem "$TWO"
    subsystem "$HIDDEN" listed
    namespace "$ONE" 1 disk0
    listen "$ONE" "$PORT1"
    listen "$TWO" "$PORT1"
    listen "$HIDDEN" "$PORT1"
}

discover() { nvme discover -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOST_A" -I "${HOST_A##*:}" "$@"; }

# Entries of the log with this NQN.
entries() { grep -cE "^subnqn: *$1 *$" "$WORK/log-page" || true; }

lists_subsystems() {
    discover | tee "$WORK/log-page"
    equal "$(entries "$ONE")" 1 'the number of entries of one'
    equal "$(entries "$TWO")" 1 'the number of entries of two'
    grep -q '^trtype: *tcp' "$WORK/log-page"
    grep -q '^adrfam: *ipv4' "$WORK/log-page"
    grep -q "^trsvcid: *$PORT1" "$WORK/log-page"
    grep -q "^traddr: *$TARGET_TRADDR" "$WORK/log-page"
    grep -q '^subtype: *nvme subsystem' "$WORK/log-page"
}

hides_from_strangers() {
    discover >"$WORK/log-page"
    equal "$(entries "$HIDDEN")" 0 'what a host that is not listed sees of hidden'
    allow "$HIDDEN" "$HOST_A"
    discover >"$WORK/log-page"
    equal "$(entries "$HIDDEN")" 1 'what a listed host sees of hidden'
}

generation() { discover | sed -n 's/.*Generation counter \([0-9]*\).*/\1/p'; }

counts_generations() {
    local before same after
    before=$(generation)
    same=$(generation)
    equal "$same" "$before" 'the generation counter without a change'
    unlisten "$TWO" "$PORT1"
    after=$(generation)
    echo "before $before, after $after"
    ((after > before)) || fail "the generation counter went from $before to $after"
    discover >"$WORK/log-page"
    equal "$(entries "$TWO")" 0 'the number of entries of two without its listener'
    listen "$TWO" "$PORT1"
}

persistent() {
    discover -p >/dev/null
    controller=$(controller_of "$DISCOVERY" "$PORT1") || fail 'the discovery controller is gone'
    nvme id-ctrl "/dev/$controller" | tee "$WORK/id"
    equal "$(field cntrltype <"$WORK/id")" 2 cntrltype
    equal "$(field subnqn <"$WORK/id")" "$DISCOVERY" subnqn
    nvme get-log "/dev/$controller" -i 0x70 -l 1024 -b >"$WORK/page"
    equal "$(stat -c %s "$WORK/page")" 1024 'the length of the log page'
}

tells_changes() {
    controller=$(controller_of "$DISCOVERY" "$PORT1")
    trace_on nvme/nvme_async_event
    unlisten "$TWO" "$PORT1"
    # A notice (2), discovery log page change (0xf0), log page 0x70.
    poll 10 trace_says 'NVME_AEN=0x0*70f002'
    # Reading the page arms the event again.
    nvme get-log "/dev/$controller" -i 0x70 -l 1024 -b >/dev/null
    trace_on nvme/nvme_async_event
    listen "$TWO" "$PORT1"
    poll 10 trace_says 'NVME_AEN=0x0*70f002'
    trace_off
    disconnect "$controller"
}

connects_all() {
    nvme connect-all -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOST_A" -I "${HOST_A##*:}"
    controller_of "$ONE" "$PORT1"
    controller_of "$TWO" "$PORT1"
    disconnect_all
}

suite_checks() {
    check 'discover lists the subsystems of a port' lists_subsystems
    check 'discover hides a subsystem from a host that is not on its list' hides_from_strangers
    check 'discover: the generation counter follows changes' counts_generations
    check 'discover --persistent keeps its controller' persistent
    check 'a persistent discovery controller is told of changes' tells_changes
    check 'connect-all' connects_all
}
