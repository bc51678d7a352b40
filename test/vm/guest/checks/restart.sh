# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# The target dies under load and comes back. The host reconnects, repeats what got no answer, and no byte is wrong.

NQN=nqn.2026-01.io.example:restart

suite_setup() {
    device file0 file 24 512
    device file1 file 24 4096
    subsystem "$NQN"
    namespace "$NQN" 1 file0
    namespace "$NQN" 2 file1
    listen "$NQN" "$PORT1"
    connect "$NQN" "$PORT1" -i 2 -c 1 -l 120 --hdr-digest --data-digest
    echo "$controller" >"$WORK/controller"
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk1"
    disk_of "$controller" 2
    echo "$disk" >"$WORK/disk2"
}

# under_load COMMAND…: load on both devices, the command takes the target away, then it comes back.
under_load() {
    local disk
    controller=$(<"$WORK/controller")
    disk=$(<"$WORK/disk1")
    keep_loading "$disk" 4m
    poll 20 progress "$disk" 200
    "$@"
    poll 30 state_is "$controller" live
    poll 20 progress "$disk" 500
    stop_loading
}

crash() {
    target_crash
    poll 30 state_is "$controller" connecting
    target_again
}

crash_twice() {
    crash
    poll 30 state_is "$controller" live
    poll 20 progress "$disk" 100
    crash
}

# One long verified job whose writes straddle the crash: what was acknowledged before is read after.
one_job() {
    local disk pid
    controller=$(<"$WORK/controller")
    disk=$(<"$WORK/disk2")
    load "$disk" randwrite 16m --bs=8k &
    pid=$!
    poll 20 progress "$disk" 200
    crash
    wait "$pid"
    poll 30 state_is "$controller" live
}

orderly() {
    target_can process || skip 'this target is no process'
    under_load orderly_end
}

orderly_end() {
    engine_end
    poll 30 state_is "$controller" connecting
    target_again
}

# It neither answers nor closes: only the keep-alive time-out can tell.
frozen() {
    target_can process || skip 'this target is no process'
    connect_as "$HOST_B" "$NQN" "$PORT1" keep_alive_tmo=2 reconnect_delay=1 ctrl_loss_tmo=60
    engine_signal STOP
    poll 30 state_is "$controller" connecting || {
        engine_signal CONT
        fail 'the host did not notice'
    }
    engine_signal CONT
    poll 30 state_is "$controller" live
    disconnect "$controller"
}

suite_checks() {
    CHECK_LIMIT=120
    check 'the target is killed under load' under_load crash
    check 'the target is killed twice under load' under_load crash_twice
    check 'the target is killed under one long verified job' one_job
    check 'the target ends in order under load' orderly
    check 'the target hangs: the keep-alive time-out ends it, it comes back' frozen
    CHECK_LIMIT=60
}
